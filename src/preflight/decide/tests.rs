use super::*;
use crate::host::facts::nvidia::LibraryProblem;
use crate::host::facts::{NcclLibrary, Sourced, Torch};
use crate::preflight::finding::Mitigation;
use crate::preflight::judge::judge;
use crate::preflight::judge::tests::*;

const A6000: &str = "NVIDIA RTX A6000";

fn decided(facts: &HostFacts, intent: &Intent) -> Judgement {
    decide(facts, judge(facts, intent), intent)
}

/// Vendor, backend and verdict in one line.
fn short(facts: &HostFacts, intent: &Intent) -> String {
    let judgement = decided(facts, intent);
    let verdict = match judgement.verdict {
        Verdict::Ok => "ok",
        Verdict::Degraded => "degraded",
        Verdict::Refused => "refused",
    };
    format!("{} {} {verdict}", judgement.vendor, judgement.backend.name)
}

/// The variables that are set, as `NAME=value`, the user's own in brackets.
fn set(judgement: &Judgement) -> Vec<String> {
    let one = |choice: &VariableChoice| {
        let text = format!("{}={}", choice.name, choice.value.as_deref().unwrap_or("-"));
        if choice.is_users { format!("[{text}]") } else { text }
    };
    judgement.variables.iter().map(one).collect()
}

fn build(mut facts: HostFacts, torch: impl Into<Option<Torch>>) -> HostFacts {
    facts.python.torch = torch.into();
    facts
}

fn rocm() -> Torch {
    Torch { hip: Some("6.3".to_owned()), ..torch("2.8.0+rocm6.3", None) }
}

fn xpu(version: &str) -> Torch {
    Torch { xpu: Some("20250".to_owned()), ..torch(version, None) }
}

fn cpu() -> Torch {
    torch("2.8.0+cpu", None)
}

#[test]
fn backend_by_vendor_and_build() {
    let none = Intent::default;
    let host = |name| vendor_host(name, 8);
    let plain = |name| {
        let mut facts = host(name);
        facts.python.packages.clear();
        facts
    };
    let gpus = || gpu_host(2, A6000, NEW);
    let ccl = {
        let mut facts = build(host("xpu"), xpu("2.5.0"));
        facts.python.packages.insert("oneccl_bind_pt".to_owned(), "2.5".to_owned());
        facts
    };
    let broken = with_libraries(gpus(), OLD);
    let table = vec![
        (cpu_host(), none(), "cpu gloo ok"),
        (build(cpu_host(), None), none(), "cpu gloo ok"),
        (gpus(), none(), "cuda nccl ok"),
        (build(gpus(), None), none(), "cuda nccl ok"),
        (build(gpus(), cpu()), none(), "cuda gloo degraded"),
        (build(gpus(), rocm()), none(), "cuda gloo degraded"),
        (gpus(), job_with(2, "gloo"), "cuda gloo ok"),
        (gpus(), job_with(2, "cpu:gloo,cuda:nccl"), "cuda cpu:gloo,cuda:nccl ok"),
        (with_var(gpus(), "CUDA_VISIBLE_DEVICES", ""), none(), "cpu gloo ok"),
        (broken.clone(), none(), "cuda nccl refused"),
        (broken, job_with(2, "gloo"), "cuda gloo ok"),
        (build(host("rocm"), rocm()), none(), "rocm nccl ok"),
        (host("rocm"), none(), "rocm gloo degraded"),
        (host("gcu"), none(), "gcu eccl ok"),
        (plain("gcu"), none(), "gcu gloo degraded"),
        (host("gcu"), job_with(8, "nccl"), "gcu nccl refused"),
        (host("npu"), none(), "npu hccl ok"),
        (host("hpu"), none(), "hpu hccl ok"),
        (host("mlu"), none(), "mlu cncl ok"),
        (host("musa"), none(), "musa mccl ok"),
        (build(host("musa"), cpu()), none(), "musa mccl ok"),
        (build(plain("musa"), cpu()), none(), "musa gloo degraded"),
        (host("maca"), none(), "maca nccl ok"),
        (host("iluvatar"), none(), "iluvatar nccl ok"),
        (build(host("dcu"), rocm()), none(), "dcu nccl ok"),
        (host("kunlun"), none(), "kunlun nccl ok"),
        (host("ppu"), none(), "ppu nccl ok"),
        (build(host("xpu"), xpu("2.8.0+xpu")), none(), "xpu xccl ok"),
        (ccl, none(), "xpu ccl ok"),
        (cpu_host(), job_with(2, "nccl"), "cpu nccl refused"),
        (cpu_host(), job_with(2, "my_own"), "cpu my_own ok"),
    ];
    for (facts, intent, expected) in table {
        assert_eq!(short(&facts, &intent), expected, "{intent:?} {:?}", facts.vendors);
    }
}

#[test]
fn two_vendors_are_settled_or_refused() {
    let mut both = gpu_host(2, A6000, NEW);
    let other = vendor_host("gcu", 2);
    both.pci.extend(other.pci);
    both.vendors.extend(other.vendors);
    assert_eq!(short(&both, &job(2)), "cuda nccl ok");
    both.python.packages.extend(other.python.packages);
    assert_eq!(short(&both, &job(2)), "cuda nccl refused");
    assert_eq!(short(&both, &job_with(2, "eccl")), "gcu eccl ok");
    assert_eq!(short(&both, &job_with(2, "nccl")), "cuda nccl ok");
    assert_eq!(short(&with_var(both.clone(), "CUDA_VISIBLE_DEVICES", ""), &job(2)), "gcu eccl ok");
    assert_eq!(short(&with_var(both, "TOPS_VISIBLE_DEVICES", "0"), &job(2)), "gcu eccl ok");
}

#[test]
fn few_variables_each_with_a_reason() {
    const NEW_NAME: &str = "TORCH_NCCL_ASYNC_ERROR_HANDLING=1";
    const OLD_NAME: &str = "NCCL_ASYNC_ERROR_HANDLING=1";
    let gpus = || gpu_host(2, A6000, NEW);
    let torch_of = |version: &str| build(gpus(), torch(version, Some("12.1")));
    let mismatch = || with_libraries(gpu_host(2, A6000, OLD), NEW);
    let table: Vec<(HostFacts, Intent, &[&str])> = vec![
        (cpu_host(), job(2), &[NEW_NAME]),
        (gpus(), job(2), &[NEW_NAME]),
        (torch_of("2.2.0"), job(2), &[NEW_NAME]),
        (torch_of("2.1.2"), job(2), &[NEW_NAME, OLD_NAME]),
        // A PyTorch that was not found may be an old one.
        (build(gpus(), None), job(2), &[NEW_NAME, OLD_NAME]),
        (
            with_var(build(gpus(), None), "TORCH_NCCL_ASYNC_ERROR_HANDLING", "3"),
            job(2),
            &["[TORCH_NCCL_ASYNC_ERROR_HANDLING=3]"],
        ),
        (
            with_var(gpus(), "TORCH_NCCL_ASYNC_ERROR_HANDLING", "3"),
            job(2),
            &["[TORCH_NCCL_ASYNC_ERROR_HANDLING=3]"],
        ),
        (mismatch(), job(2), &[NEW_NAME, "NCCL_NVML_DISABLE=1"]),
        (
            with_var(mismatch(), "NCCL_NVML_DISABLE", "0"),
            job(2),
            &[NEW_NAME, "[NCCL_NVML_DISABLE=0]"],
        ),
        // What does not use NCCL needs nothing of it.
        (mismatch(), job_with(2, "gloo"), &[NEW_NAME]),
        (with_var(mismatch(), "CUDA_VISIBLE_DEVICES", ""), job(2), &[NEW_NAME]),
        (build(mismatch(), cpu()), job(2), &[NEW_NAME]),
    ];
    for (facts, intent, expected) in table {
        let judgement = decided(&facts, &intent);
        assert_eq!(set(&judgement), expected, "{intent:?}");
        for choice in &judgement.variables {
            assert!(!choice.reason.is_empty() && !choice.evidence.is_empty(), "{choice:?}");
        }
        assert!(!judgement.backend.reason.is_empty() && !judgement.backend.evidence.is_empty());
    }
}

#[test]
fn the_reason_says_whether_the_variable_is_read() {
    let with_names = |names: &[&str]| {
        let mut facts = with_libraries(gpu_host(2, A6000, OLD), NEW);
        facts.python.nccl = Some(NcclLibrary {
            path: "/x/libnccl.so.2".to_owned(),
            version: Some("2.27.3".to_owned()),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..NcclLibrary::default()
        });
        facts
    };
    for (names, says) in [
        (&[][..], "cures nothing that is known"),
        (&["NCCL_DEBUG"][..], "does not read it, so it cures nothing"),
        (&["NCCL_DEBUG", "NCCL_NVML_DISABLE"][..], "this NCCL reads it"),
    ] {
        let judgement = decided(&with_names(names), &job(2));
        let choice = judgement.variables.iter().find(|choice| choice.name == "NCCL_NVML_DISABLE");
        let reason = &choice.expect("NVML does not work").reason;
        assert!(reason.contains(says) && reason.contains("NVL001"), "{reason}");
        // It is no cure: the launch is refused all the same.
        assert_eq!(judgement.verdict, Verdict::Refused);
    }
    // Where only CUDA fails NVML is healthy, and the variable has no business.
    let mut empty = gpu_host(2, A6000, NEW);
    nvidia(&mut empty).libraries.cuda.as_mut().expect("is there").problem =
        Some(LibraryProblem::Empty);
    assert_eq!(set(&decided(&empty, &job(2))).len(), 1);
}

#[test]
fn the_verdict_follows_from_the_worst() {
    let finding = |severity, cures: Option<bool>| Finding {
        severity,
        mitigation: cures.map(|cures| Mitigation {
            what: "something".to_owned(),
            variables: Vec::new(),
            cures,
        }),
        ..judge(&with_libraries(gpu_host(1, A6000, OLD), NEW), &job(2)).remove(0)
    };
    let table = vec![
        (vec![], Verdict::Ok),
        (vec![finding(Severity::Note, None)], Verdict::Ok),
        (vec![finding(Severity::Warning, None)], Verdict::Degraded),
        (vec![finding(Severity::Note, None), finding(Severity::Error, None)], Verdict::Refused),
        (vec![finding(Severity::Error, Some(false))], Verdict::Refused),
        (vec![finding(Severity::Error, Some(true))], Verdict::Degraded),
    ];
    for (findings, expected) in table {
        assert_eq!(verdict(&findings), expected);
    }
}

#[test]
fn a_profile_has_the_last_word() {
    let facts = with_libraries(gpu_host(2, A6000, OLD), NEW);
    let mut intent = job(2);
    intent.severity.insert(crate::preflight::finding::Code::new("NVL001"), Severity::Warning);
    assert_eq!(short(&facts, &intent), "cuda nccl degraded");
    let mut strict = job(2);
    strict.severity.insert(crate::preflight::finding::Code::new("NVL090"), Severity::Error);
    let mut cpu = cpu_host();
    cpu.python.packages.insert("mmengine".to_owned(), "0.10.7".to_owned());
    assert_eq!(short(&cpu, &strict), "cpu gloo refused");
}

/// The machines of five reports by users, and what each should have been told.
#[test]
fn what_users_met() {
    // Three RTX A6000, an upgrade without a reboot.
    let mut a6000 = with_libraries(gpu_host(3, A6000, OLD), NEW);
    nvidia(&mut a6000).on_disk = vec![on_disk(NEW)];
    assert_eq!(judged(&a6000, &job(3)), ["NVL001 error"]);
    assert_eq!(short(&a6000, &job(3)), "cuda nccl refused");

    // The same by an automatic upgrade overnight, on Ubuntu 24.04.
    let mut nightly = with_libraries(gpu_host(1, A6000, "580.65.06"), NEW);
    nvidia(&mut nightly).on_disk = vec![on_disk(NEW)];
    nightly.packages.automatic_upgrades =
        Some(Sourced::new(true, "/etc/apt/apt.conf.d/20auto-upgrades"));
    nightly.packages.installed =
        vec![package("libnvidia-compute-580", "580.95.05-0ubuntu0.24.04.2")];
    nightly.packages.history = vec![upgrade(
        "libnvidia-compute-580",
        "580.65.06-0ubuntu1",
        "580.95.05-0ubuntu0.24.04.2",
        "/usr/bin/unattended-upgrade",
    )];
    let told = ["NVL001 error", "NVL008 note < NVL001", "NVL009 note < NVL001"];
    assert_eq!(judged(&nightly, &job(2)), told);

    // Four V100 without persistence mode, GPUs that vanish, and the linker's old cache.
    let mut v100 = gpu_host(4, "Tesla V100-PCIE-16GB", "460.32.03");
    v100.python.torch = Some(torch("1.12.1+cu113", Some("11.3")));
    nvidia(&mut v100).libraries.cuda.as_mut().expect("is there").compatible_branches.clear();
    for device in &mut nvml_answer(&mut v100).devices {
        device.persistence = Some(false);
        device.open_ms = Some(4500);
    }
    assert_eq!(judged(&v100, &job(4)), ["NVL049 warning"]);
    nvidia(&mut v100).libraries.stale_cache = vec![Sourced::new(
        "libnvidia-fatbinaryloader.so.465.19.01".to_owned(),
        "/usr/lib/x86_64-linux-gnu/libnvidia-fatbinaryloader.so.465.19.01",
    )];
    assert_eq!(judged(&v100, &job(4)), ["NVL031 warning", "NVL049 warning"]);
    // In its container libcuda of another version has no bytes.
    let mut container = in_container(gpu_host(4, "Tesla V100-PCIE-16GB", "460.32.03"));
    container.python.torch = v100.python.torch.clone();
    let cuda = nvidia(&mut container).libraries.cuda.as_mut().expect("is there");
    *cuda = crate::host::facts::nvidia::Library {
        bytes: 0,
        problem: Some(LibraryProblem::Empty),
        ..library("libcuda.so.1", "465.19.01")
    };
    assert_eq!(judged(&container, &job(4)), ["NVL030 error"]);

    // Eight Enflame T20, MMEngine, PyTorch 1.10.
    let mut t20 = vendor_host("gcu", 8);
    t20.python.torch = Some(torch("1.10.0", None));
    t20.python.packages.insert("mmengine".to_owned(), "0.10.4".to_owned());
    assert_eq!(judged(&t20, &job(8)), ["NVL090 warning"]);
    let judgement = decided(&t20, &job(8));
    assert_eq!(short(&t20, &job(8)), "gcu eccl degraded");
    assert_eq!(set(&judgement).len(), 2);
    assert_eq!(judged(&t20, &job_with(8, "gloo")), ["NVL082 warning", "NVL090 warning"]);
}
