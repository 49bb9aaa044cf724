//! One thing wrong at a time, and exactly what is found.

#![expect(clippy::too_many_lines, reason = "tables")]

use super::surroundings::{environments, pythons, vendors};
use super::*;
use crate::host::facts::nvidia::{Cuda, Death, Dkms, DkmsState, Hang, LibraryProblem, Probe, Xid};
use crate::host::facts::{HostFacts, InfinibandPort, Interface, NcclLibrary, Sourced};
use crate::preflight::Intent;
use crate::preflight::catalogue::ALL;

pub(super) const A6000: &str = "NVIDIA RTX A6000";

/// A case: what it is, the machine, the job, the findings.
pub(super) struct Case {
    name: &'static str,
    facts: HostFacts,
    intent: Intent,
    shape: &'static [&'static str],
}

pub(super) fn case(
    name: &'static str,
    facts: HostFacts,
    intent: Intent,
    shape: &'static [&'static str],
) -> Case {
    Case { name, facts, intent, shape }
}

/// A healthy machine with two GPUs, changed.
pub(super) fn two(change: impl FnOnce(&mut HostFacts)) -> HostFacts {
    let mut facts = gpu_host(2, A6000, NEW);
    change(&mut facts);
    facts
}

/// The same, where NVML answered.
pub(super) fn answered(change: impl FnOnce(&mut crate::host::facts::nvidia::Nvml)) -> HostFacts {
    two(|facts| change(nvml_answer(facts)))
}

/// The same without a loaded module.
pub(super) fn unloaded(change: impl FnOnce(&mut HostFacts)) -> HostFacts {
    two(|facts| {
        let driver = nvidia(facts);
        driver.loaded = None;
        driver.nodes.clear();
        driver.gpus.clear();
        for gpu in &mut facts.pci {
            gpu.driver = None;
        }
        change(facts);
    })
}

pub(super) fn xid(code: u32, address: &str, text: &str) -> Xid {
    Xid {
        address: address.to_owned(),
        code,
        line: format!("NVRM: Xid ({address}): {code}, {text}"),
        source: "/dev/kmsg".to_owned(),
    }
}

pub(super) fn nccl(names: &[&str]) -> NcclLibrary {
    NcclLibrary {
        path: "/venv/nvidia/nccl/lib/libnccl.so.2".to_owned(),
        version: Some("2.27.3".to_owned()),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..NcclLibrary::default()
    }
}

pub(super) fn interface(name: &str) -> Interface {
    Interface {
        name: name.to_owned(),
        state: "up".to_owned(),
        is_loopback: name == "lo",
        speed: None,
    }
}

pub(super) fn networked(mut facts: HostFacts) -> HostFacts {
    facts.network.interfaces = vec![interface("lo"), interface("eth0")];
    facts
}

pub(super) fn infiniband(mut facts: HostFacts) -> HostFacts {
    facts.network.infiniband = vec![InfinibandPort {
        device: "mlx5_0".to_owned(),
        port: 1,
        state: "ACTIVE".to_owned(),
        link_layer: "InfiniBand".to_owned(),
        ..InfinibandPort::default()
    }];
    facts
}

pub(super) fn cuda_answer(code: i32) -> Probe<Cuda> {
    Probe::Answered(Cuda { init: result(code), ..Cuda::default() })
}

fn modules() -> Vec<Case> {
    let dkms = |state| Dkms {
        name: "nvidia".to_owned(),
        version: NEW.to_owned(),
        kernel: Some("6.8.0-85-generic".to_owned()),
        state,
        log: vec!["error".to_owned()],
        source: "/var/lib/dkms/nvidia".to_owned(),
    };
    let secure = |facts: &mut HostFacts, signed| {
        facts.system.secure_boot = Some(Sourced::new(true, "SecureBoot"));
        nvidia(facts).on_disk[0].is_signed = signed;
    };
    let nouveau = |facts: &mut HostFacts| facts.pci[0].driver = Some("nouveau".to_owned());
    let bare = |facts: &mut HostFacts| {
        let driver = nvidia(facts);
        driver.on_disk.clear();
        driver.libraries = crate::host::facts::nvidia::Libraries::default();
    };
    let vfio = |facts: &mut HostFacts| facts.pci[1].driver = Some("vfio-pci".to_owned());
    vec![
        case("not loaded", unloaded(|_| {}), job(2), &["NVL020 error"]),
        case("not loaded, gloo", unloaded(|_| {}), job_with(2, "gloo"), &["NVL020 note"]),
        case("nothing is installed", unloaded(bare), job(2), &["NVL020 error"]),
        case("the host of a container", in_container(unloaded(|_| {})), job(2), &["NVL020 error"]),
        case(
            "no module for the kernel",
            unloaded(|f| {
                nvidia(f).on_disk.clear();
                nvidia(f).dkms = vec![dkms(DkmsState::Failed)];
                nouveau(f);
            }),
            job(2),
            &["NVL021 error"],
        ),
        case("unsigned", unloaded(|f| secure(f, Some(false))), job(2), &["NVL022 error"]),
        case("signed", unloaded(|f| secure(f, Some(true))), job(2), &["NVL020 error"]),
        case("not known whether signed", unloaded(|f| secure(f, None)), job(2), &["NVL020 error"]),
        case("nouveau", unloaded(nouveau), job(2), &["NVL023 error"]),
        case("one of two with nouveau", two(nouveau), job(2), &["NVL023 warning"]),
        case("one of two for a virtual machine", two(vfio), job(2), &["NVL024 warning"]),
        case("the other is enough", two(vfio), job(1), &[]),
        case(
            "all for virtual machines",
            unloaded(|f| f.pci.iter_mut().for_each(|gpu| gpu.driver = Some("vfio-pci".to_owned()))),
            job(2),
            &["NVL024 warning"],
        ),
    ]
}

fn files() -> Vec<Case> {
    let cuda = |facts: &mut HostFacts, problem| {
        nvidia(facts).libraries.cuda.as_mut().expect("is there").problem = Some(problem);
    };
    let stale = |facts: &mut HostFacts, name: &str| {
        nvidia(facts).libraries.stale_cache =
            vec![Sourced::new(name.to_owned(), "/usr/lib/gone.so.465.19.01")];
    };
    let leftover = |version: &str| {
        let version = version.to_owned();
        move |facts: &mut HostFacts| {
            nvidia(facts).libraries.others = vec![library("libcuda.so.1", &version)];
        }
    };
    let mixed = |facts: &mut HostFacts| {
        facts.packages.run_installer = vec!["/usr/bin/nvidia-uninstall".to_owned()];
        facts.packages.installed = vec![package("nvidia-driver-570", "570.86.15-0ubuntu1")];
    };
    let mixed_mismatch = {
        let mut facts = super::mismatch::field_report();
        facts.packages.history.clear();
        mixed(&mut facts);
        facts
    };
    vec![
        case("empty", two(|f| cuda(f, LibraryProblem::Empty)), job(2), &["NVL030 error"]),
        case(
            "empty in a container",
            in_container(two(|f| cuda(f, LibraryProblem::Empty))),
            job(2),
            &["NVL030 error"],
        ),
        case(
            "a link to nothing",
            two(|f| cuda(f, LibraryProblem::Dangling)),
            job(2),
            &["NVL035 error"],
        ),
        case("a stub", two(|f| cuda(f, LibraryProblem::Stub)), job(2), &["NVL032 error"]),
        case("no libcuda", two(|f| nvidia(f).libraries.cuda = None), job(2), &["NVL032 error"]),
        case("no NVML", two(|f| nvidia(f).libraries.nvml = None), job(2), &["NVL036 error"]),
        case(
            "no NVML, one rank",
            two(|f| nvidia(f).libraries.nvml = None),
            job(1),
            &["NVL036 warning"],
        ),
        case(
            "the cache is old",
            two(|f| stale(f, "libnvidia-fatbinaryloader.so.465.19.01")),
            job(2),
            &["NVL031 warning"],
        ),
        case(
            "the cache is the cause",
            two(|f| {
                stale(f, "libcuda.so.1");
                nvidia(f).libraries.cuda = None;
            }),
            job(2),
            &["NVL031 error"],
        ),
        case(
            "an empty file that the cache names",
            two(|f| {
                cuda(f, LibraryProblem::Empty);
                stale(f, "libcuda.so.1");
            }),
            job(2),
            &["NVL030 error"],
        ),
        case(
            "an empty file, and more that the cache names",
            two(|f| {
                cuda(f, LibraryProblem::Empty);
                stale(f, "libnvidia-ptxjitcompiler.so.1");
            }),
            job(2),
            &["NVL030 error", "NVL031 note < NVL030"],
        ),
        case(
            "a link to nothing that the cache names",
            two(|f| {
                cuda(f, LibraryProblem::Dangling);
                stale(f, "libcuda.so.1");
            }),
            job(2),
            &["NVL031 error"],
        ),
        case("an older leftover", two(leftover("465.19.01")), job(2), &[]),
        case("a newer leftover", two(leftover("590.44.01")), job(2), &["NVL025 warning"]),
        case("two installers", two(mixed), job(2), &["NVL025 warning"]),
        case(
            "two installers and a mismatch",
            mixed_mismatch,
            job(2),
            &["NVL001 error", "NVL025 note < NVL001"],
        ),
    ]
}

fn nodes() -> Vec<Case> {
    let without = |facts: &mut HostFacts, part: &str| {
        nvidia(facts).nodes.retain(|node| !node.path.contains(part));
    };
    let forbid = |facts: &mut HostFacts, part: &str| {
        for node in &mut nvidia(facts).nodes {
            node.is_usable = Some(!node.path.contains(part));
        }
    };
    let empty = |facts: &mut HostFacts| nvidia(facts).nodes.clear();
    let unknown = in_container(answered(|nvml| nvml.init = result(999)));
    vec![
        case("no uvm, and a helper that makes it", two(|f| without(f, "uvm")), job(2), &[]),
        case(
            "no uvm",
            two(|f| {
                without(f, "uvm");
                nvidia(f).modprobe_helper = None;
            }),
            job(2),
            &["NVL026 error"],
        ),
        case(
            "no uvm, and CUDA says so",
            two(|f| {
                without(f, "uvm");
                nvidia(f).cuda = cuda_answer(999);
            }),
            job(2),
            &["NVL026 error"],
        ),
        case("no nodes yet", two(empty), job(2), &[]),
        case("all forbidden", two(|f| forbid(f, "nvidia")), job(2), &["NVL027 error"]),
        case("one forbidden", two(|f| forbid(f, "nvidia1")), job(2), &["NVL027 warning"]),
        case("a container without GPUs", in_container(two(empty)), job(2), &["NVL033 error"]),
        case(
            "a container without GPUs, and other libraries",
            in_container(with_libraries(two(empty), OLD)),
            job(2),
            &["NVL033 error"],
        ),
        case("a container that lost them", unknown, job(2), &["NVL034 error"]),
    ]
}

fn health() -> Vec<Case> {
    let off_bus = |facts: &mut HostFacts| facts.pci[1].is_off_bus = true;
    let hang = || {
        Probe::Hung(Hang {
            stage: "nvmlInit_v2".to_owned(),
            after_ms: 5000,
            process_state: Some('D'),
            waits_in: Some("nv_open".to_owned()),
            survived_kill: true,
        })
    };
    let throttled = |mask| answered(move |nvml| nvml.devices[0].throttle_reasons = Some(mask));
    let persistence = |open_ms| {
        answered(move |nvml| {
            nvml.devices[0].persistence = Some(false);
            nvml.devices[0].open_ms = open_ms;
        })
    };
    let with_xid = |code: u32, answers: bool, action| {
        two(move |facts| {
            if answers {
                nvml_answer(facts).devices[1].recovery_action = action;
            }
            nvidia(facts).xids.events = vec![xid(code, "pci:0000:11:00", "…")];
        })
    };
    let switched = |change: fn(&mut HostFacts)| {
        let mut facts = nvswitch_host();
        change(&mut facts);
        facts
    };
    vec![
        case(
            "fewer in NVML",
            answered(|nvml| nvml.device_count = Some(1)),
            job(1),
            &["NVL040 warning"],
        ),
        case(
            "too few in NVML",
            answered(|nvml| nvml.device_count = Some(1)),
            job(2),
            &["NVL040 error"],
        ),
        case(
            "none in NVML, for one rank",
            answered(|nvml| nvml.device_count = Some(0)),
            job(1),
            &["NVL040 error"],
        ),
        case(
            "none in NVML, for a rank on each device",
            answered(|nvml| nvml.device_count = Some(0)),
            Intent::default(),
            &["NVL040 error"],
        ),
        case(
            "fewer in NVML, for a rank on each device",
            answered(|nvml| nvml.device_count = Some(1)),
            Intent::default(),
            &["NVL040 warning"],
        ),
        case(
            "fewer in the driver's list",
            two(|f| {
                nvidia(f).gpus.pop();
            }),
            job(1),
            &["NVL040 warning"],
        ),
        case("off the bus", two(off_bus), job(2), &["NVL041 error"]),
        case(
            "lost, says NVML",
            answered(|nvml| {
                nvml.devices[1].error = Some(("nvmlDeviceGetHandleByIndex".to_owned(), result(15)));
            }),
            job(2),
            &["NVL041 error"],
        ),
        case("lost, says the log alone", with_xid(79, false, None), job(2), &["NVL041 error"]),
        case("a hang", two(|f| nvidia(f).nvml = hang()), job(2), &["NVL042 error"]),
        case("a hang of one rank", two(|f| nvidia(f).nvml = hang()), job(1), &["NVL042 error"]),
        case(
            "a hang that gloo does not meet",
            two(|f| nvidia(f).nvml = hang()),
            job_with(1, "gloo"),
            &["NVL042 note"],
        ),
        case(
            "a hang because one is lost",
            two(|f| {
                off_bus(f);
                nvidia(f).nvml = hang();
            }),
            job(2),
            &["NVL041 error", "NVL042 note < NVL041"],
        ),
        case(
            "a reset is due",
            answered(|nvml| nvml.devices[0].recovery_action = Some(1)),
            job(2),
            &["NVL043 error"],
        ),
        case(
            "a reset is due, says the answer",
            answered(|nvml| nvml.devices[0].error = Some(("x".to_owned(), result(16)))),
            job(2),
            &["NVL043 error"],
        ),
        case("an error since boot", with_xid(48, false, None), job(2), &["NVL044 warning"]),
        case("an error that stays", with_xid(119, false, None), job(2), &["NVL044 error"]),
        case(
            "an error that was reset away",
            with_xid(119, true, Some(0)),
            job(2),
            &["NVL044 warning"],
        ),
        case(
            "an error that asks for a reset",
            with_xid(119, true, Some(1)),
            job(2),
            &["NVL043 error", "NVL044 note < NVL043"],
        ),
        case("a program's error", with_xid(31, false, None), job(2), &[]),
        case(
            "rows pending",
            answered(|nvml| nvml.devices[0].remap_pending = Some(true)),
            job(2),
            &["NVL045 warning"],
        ),
        case(
            "rows pending, and the reset is asked for",
            answered(|nvml| {
                nvml.devices[0].remap_pending = Some(true);
                nvml.devices[0].recovery_action = Some(1);
            }),
            job(2),
            &["NVL043 error", "NVL045 note < NVL043"],
        ),
        case(
            "rows failed",
            answered(|nvml| nvml.devices[0].remap_failed = Some(true)),
            job(2),
            &["NVL045 error"],
        ),
        case(
            "memory errors",
            answered(|nvml| nvml.devices[0].ecc_uncorrected = Some(2)),
            job(2),
            &["NVL046 warning"],
        ),
        case("hot", throttled(0x40), job(2), &["NVL047 warning"]),
        case("idle and power cap", throttled(0x5), job(2), &[]),
        case(
            "a narrow link",
            two(|f| f.pci[0].link_width = Some((4, 16))),
            job(2),
            &["NVL048 warning"],
        ),
        case("no link to speak of", two(|f| f.pci[0].link_width = Some((0, 255))), job(2), &[]),
        case("persistence off", persistence(None), job(2), &["NVL049 warning"]),
        case("persistence off and slow", persistence(Some(4000)), job(2), &["NVL049 warning"]),
        case("persistence off, held open", persistence(Some(5)), job(2), &["NVL049 note"]),
        case(
            "no fabric manager",
            switched(|f| nvidia(f).fabric.pid = None),
            job(8),
            &["NVL050 error"],
        ),
        case(
            "another fabric manager",
            switched(|f| {
                let fabric = &mut nvidia(f).fabric;
                fabric.pid = None;
                fabric.version =
                    Some(Sourced::new("580.95.05-1".to_owned(), "/var/lib/dpkg/status"));
            }),
            job(8),
            &["NVL051 error", "NVL050 note < NVL051"],
        ),
        case(
            "not ready, says CUDA",
            in_container(two(|f| nvidia(f).cuda = cuda_answer(802))),
            job(2),
            &["NVL050 error"],
        ),
        case(
            "busy",
            answered(|nvml| nvml.devices[0].processes = vec![77]),
            job(2),
            &["NVL052 warning"],
        ),
        case(
            "busy, and not ours",
            with_var(
                answered(|nvml| nvml.devices[0].processes = vec![77]),
                "CUDA_VISIBLE_DEVICES",
                "1",
            ),
            job(1),
            &[],
        ),
        case(
            "shut",
            answered(|nvml| nvml.devices[0].compute_mode = Some("prohibited".to_owned())),
            job(2),
            &["NVL052 error"],
        ),
        case("MIG", answered(|nvml| nvml.devices[0].mig = Some(true)), job(2), &["NVL053 warning"]),
        case("more ranks than GPUs", answered(|_| {}), job(3), &["NVL057 warning"]),
        case(
            "more ranks than GPUs, with nccl",
            answered(|_| {}),
            job_with(3, "nccl"),
            &["NVL057 error"],
        ),
        case("more ranks than GPUs, with gloo", answered(|_| {}), job_with(3, "gloo"), &[]),
        case(
            "more ranks than GPUs that are visible",
            with_var(answered(|_| {}), "CUDA_VISIBLE_DEVICES", "1"),
            job(2),
            &["NVL057 warning"],
        ),
        case(
            "MIG, and an instance is named",
            with_var(
                answered(|nvml| nvml.devices[0].mig = Some(true)),
                "CUDA_VISIBLE_DEVICES",
                "MIG-1234",
            ),
            job(1),
            &[],
        ),
        case(
            "a probe that died",
            two(|f| {
                nvidia(f).nvml = Probe::Died(Death {
                    stage: "nvmlInit_v2".to_owned(),
                    exit: "signal 11".to_owned(),
                    ..Death::default()
                });
            }),
            job(2),
            &["NVL054 error"],
        ),
        case("NVML refuses", answered(|nvml| nvml.init = result(4)), job(2), &["NVL055 error"]),
        case(
            "NVML refuses one GPU",
            answered(|nvml| {
                nvml.devices[0].error = Some(("nvmlDeviceGetUUID".to_owned(), result(999)));
            }),
            job(2),
            &["NVL055 error"],
        ),
        case("CUDA refuses", two(|f| nvidia(f).cuda = cuda_answer(46)), job(2), &["NVL056 error"]),
        case(
            "CUDA sees nothing, as asked",
            with_var(two(|f| nvidia(f).cuda = cuda_answer(100)), "CUDA_VISIBLE_DEVICES", ""),
            job(2),
            &[],
        ),
    ]
}

fn all() -> Vec<Case> {
    [modules(), files(), nodes(), health(), pythons(), environments(), vendors()]
        .into_iter()
        .flatten()
        .collect()
}

#[test]
fn one_thing_wrong_gives_exactly_that() {
    let mut wrong = Vec::new();
    for case in all() {
        let shape = judged(&case.facts, &case.intent);
        if shape != case.shape {
            wrong.push(format!("{}: {shape:?}, not {:?}", case.name, case.shape));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_finding_of_the_catalogue_is_found_somewhere() {
    let mut found: std::collections::BTreeSet<String> = all()
        .iter()
        .flat_map(|case| crate::preflight::judge::judge(&case.facts, &case.intent))
        .map(|finding| finding.code.to_string())
        .collect();
    // Those have tables of their own.
    for code in ["NVL002", "NVL003", "NVL004", "NVL005", "NVL008", "NVL009", "NVL010", "NVL011"] {
        found.insert(code.to_owned());
    }
    found.insert("NVL095".to_owned());
    for entry in ALL {
        assert!(found.contains(&*entry.code.0), "{} is in no test", entry.code);
    }
}

#[test]
fn nodes_of_a_job_are_compared() {
    let named = |name: &str, kernel: &str| HostFacts {
        hostname: name.to_owned(),
        ..gpu_host(2, A6000, kernel)
    };
    let (a, b, c) = (named("a", OLD), named("b", NEW), named("c", OLD));
    let across = crate::preflight::judge::across;
    assert!(across(&[&a, &c]).is_none() && across(&[&a, &cpu_host()]).is_none());
    let finding = across(&[&a, &b, &c]).expect("two versions");
    assert_eq!(shape(std::slice::from_ref(&finding)), ["NVL095 warning"]);
    assert_eq!(finding.evidence.len(), 3);
}

#[test]
fn healthy_machines_give_nothing() {
    let mut compat = in_container(gpu_host(8, "NVIDIA H100 80GB HBM3", "550.54.15"));
    let cuda = nvidia(&mut compat).libraries.cuda.as_mut().expect("is there");
    *cuda = crate::host::facts::nvidia::Library {
        path: format!("/usr/local/cuda/compat/libcuda.so.{NEW}"),
        compatible_branches: vec![535, 550, 565, 570, 575, 580],
        ..library("libcuda.so.1", NEW)
    };
    compat.python.torch = Some(torch("2.11.0", Some("13.0")));
    let mut rocm = vendor_host("rocm", 8);
    rocm.python.torch = Some(crate::host::facts::Torch {
        cuda: None,
        hip: Some("6.3".to_owned()),
        ..torch("2.8.0+rocm6.3", None)
    });
    let mut no_python = cpu_host();
    no_python.python = crate::host::facts::Python::default();
    // A processor's graphics is no accelerator that anybody misses.
    let mut graphics = cpu_host();
    graphics.pci = vec![
        crate::host::facts::PciDevice { vendor: 0x8086, class: 0x03_0000, ..gpu(0) },
        crate::host::facts::PciDevice { vendor: 0x1002, class: 0x03_0000, ..gpu(1) },
    ];
    let mut shared = two(|_| {});
    shared.pci.extend(graphics.pci.clone());
    let machines = vec![
        ("CPU", cpu_host()),
        ("CPU in a container", in_container(cpu_host())),
        ("no Python", no_python),
        ("graphics", graphics),
        ("graphics beside GPUs", shared),
        ("GPUs", two(|_| {})),
        ("GPUs that answered", answered(|_| {})),
        ("GPUs in a container", in_container(two(|_| {}))),
        ("cuda-compat in a container", compat),
        ("NVSwitch", nvswitch_host()),
        ("NVSwitch in a container", in_container(nvswitch_host())),
        ("GCU", vendor_host("gcu", 8)),
        ("NPU", vendor_host("npu", 8)),
        ("Gaudi", vendor_host("hpu", 8)),
        ("ROCm", rocm),
        ("MetaX", vendor_host("maca", 8)),
    ];
    for (name, facts) in machines {
        for intent in [Intent::default(), job(1), job(2), Intent { nnodes: 2, ..job(2) }] {
            assert_eq!(judged(&facts, &intent), [""; 0], "{name} {intent:?}");
        }
    }
}

#[test]
fn causes_come_first_each_with_its_consequences() {
    use crate::preflight::catalogue::code;
    use crate::preflight::finding::{Code, Finding, Severity};
    use crate::preflight::judge::{arrange, draft::Draft};

    let make = |code: Code, severity, cause: Option<Code>| -> Finding {
        let draft = Draft::new(code, "x").evidence("a", "b").severity(severity);
        draft.follows(cause.as_ref()).done()
    };
    let mismatch = code::DRIVER_LIB_MISMATCH_NEWER_USERSPACE;
    let found = vec![
        make(code::SHM_TOO_SMALL, Severity::Warning, None),
        make(code::REBOOT_PENDING, Severity::Note, None),
        make(code::AUTO_UPGRADE_ARMED, Severity::Note, Some(code::MISMATCH_CAUSED_BY_UPGRADE)),
        make(code::MISMATCH_CAUSED_BY_UPGRADE, Severity::Note, Some(mismatch.clone())),
        // Its cause is not here: it stands for itself.
        make(code::ROW_REMAP, Severity::Note, Some(code::GPU_RECOVERY_REQUIRED)),
        make(mismatch, Severity::Error, None),
    ];
    let sorted = arrange(found.clone(), &Intent::default());
    let expected = [
        "NVL001 error",
        "NVL008 note < NVL001",
        "NVL009 note < NVL008",
        "NVL073 warning",
        "NVL011 note",
        "NVL045 note",
    ];
    assert_eq!(shape(&sorted), expected);
    let mut strict = Intent::default();
    strict.severity.insert(code::REBOOT_PENDING, Severity::Error);
    assert_eq!(shape(&arrange(found, &strict))[0], "NVL011 error");
}
