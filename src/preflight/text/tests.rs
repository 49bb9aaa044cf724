//! What people read, from judgements made by hand.

use std::time::Duration;

use super::*;
use crate::host::facts::nvidia::{
    Flavour, Hang, Library, LoadedModule, Nvidia, Nvml, Probe, ProcGpu, ResultCode,
};
use crate::host::facts::{
    Container, Interface, Note, Python, Resources, Sourced, System, Torch, VendorFacts,
};
use crate::preflight::finding::Evidence;
use crate::preflight::{BackendChoice, VariableChoice};

const MANNER: Manner = Manner { colour: false, force: false, took: Duration::from_micros(3_200) };

fn evidence(source: &str, value: &str) -> Evidence {
    Evidence { source: source.to_owned(), value: value.to_owned() }
}

fn remedy(what: &str, commands: &[&str], needs_root: bool) -> Remedy {
    let commands = commands.iter().map(|&command| command.to_owned()).collect();
    Remedy { what: what.to_owned(), commands, needs_root }
}

fn finding(code: &'static str, severity: Severity, summary: &str) -> Finding {
    Finding {
        code: Code::new(code),
        name: "A_NAME".to_owned(),
        severity,
        summary: summary.to_owned(),
        evidence: vec![evidence("/proc/one", "1")],
        remedies: Vec::new(),
        mitigation: None,
        consequence_of: None,
    }
}

fn judgement(verdict: Verdict, vendor: &str, backend: &str, reason: &str) -> Judgement {
    Judgement {
        verdict,
        vendor: vendor.to_owned(),
        backend: BackendChoice {
            name: backend.to_owned(),
            reason: reason.to_owned(),
            evidence: Vec::new(),
        },
        findings: Vec::new(),
        variables: Vec::new(),
        compat: None,
        python: crate::compat::Python::default(),
    }
}

fn healthy_cpu() -> (Judgement, HostFacts) {
    let facts = HostFacts {
        hostname: "node1".to_owned(),
        system: System {
            kernel: "6.8.0-60-generic".to_owned(),
            arch: "x86_64".to_owned(),
            distribution: Some("ubuntu".to_owned()),
            distribution_version: Some("24.04".to_owned()),
            ..System::default()
        },
        ..HostFacts::default()
    };
    (judgement(Verdict::Ok, "cpu", "gloo", "there is no accelerator"), facts)
}

/// Three GPUs whose libraries were upgraded under a running kernel module.
fn mismatch() -> (Judgement, HostFacts) {
    let library = |name: &str, path: &str| {
        Some(Library {
            name: name.to_owned(),
            path: path.to_owned(),
            version: Some("580.95.05".to_owned()),
            ..Library::default()
        })
    };
    let mut nvidia = Nvidia {
        loaded: Some(LoadedModule {
            version: "580.82.09".to_owned(),
            flavour: Flavour::Open,
            source: "/proc/driver/nvidia/version".to_owned(),
        }),
        gpus: vec![ProcGpu { model: Some("NVIDIA RTX A6000".to_owned()), ..ProcGpu::default() }; 3],
        ..Nvidia::default()
    };
    nvidia.libraries.nvml = library("libnvidia-ml.so.1", "/usr/lib/libnvidia-ml.so.580.95.05");
    nvidia.libraries.cuda = library("libcuda.so.1", "/usr/lib/libcuda.so.580.95.05");
    nvidia.nvml = Probe::Answered(Nvml {
        init: ResultCode { code: 18, text: "Driver/library version mismatch".to_owned() },
        took_ms: 9,
        ..Nvml::default()
    });
    let facts = HostFacts {
        vendors: vec![VendorFacts {
            name: "cuda".to_owned(),
            pci: 3,
            nodes: vec!["/dev/nvidia0".into(), "/dev/nvidia1".into(), "/dev/nvidia2".into()],
            visible: Some(Sourced::new("0,1,2".to_owned(), "CUDA_VISIBLE_DEVICES")),
            ..VendorFacts::default()
        }],
        nvidia: Some(nvidia),
        python: Python {
            interpreter: Some("/opt/env/bin/python".to_owned()),
            version: Some("3.11".to_owned()),
            torch: Some(Torch {
                version: "2.8.0+cu128".to_owned(),
                cuda: Some("12.8".to_owned()),
                ..Torch::default()
            }),
            ..Python::default()
        },
        resources: Resources { shm_bytes: Some(64 << 20), ..Resources::default() },
        notes: vec![Note::default(), Note::default()],
        ..healthy_cpu().1
    };
    let cause = Finding {
        name: "DRIVER_LIB_MISMATCH_NEWER_USERSPACE".to_owned(),
        evidence: vec![
            evidence("/proc/driver/nvidia/version", "580.82.09"),
            evidence("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.95.05", "580.95.05"),
            evidence("nvmlInit_v2", "18\u{1b}[31m Driver/library version\nmismatch"),
            evidence("one more", "than a launch shows"),
        ],
        remedies: vec![
            remedy("reboot", &["reboot"], true),
            remedy(
                "reload the kernel module without a reboot",
                &[
                    "systemctl stop nvidia-persistenced",
                    "rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia",
                    "modprobe nvidia && modprobe nvidia_uvm && systemctl start nvidia-persistenced",
                ],
                true,
            ),
        ],
        mitigation: Some(Mitigation {
            what: "NCCL_NVML_DISABLE is set for the ranks, as is often asked for".to_owned(),
            variables: vec![("NCCL_NVML_DISABLE".to_owned(), "1".to_owned())],
            cures: false,
        }),
        ..finding(
            "NVL001",
            Severity::Error,
            "the driver's libraries (580.95.05) are newer than the kernel module that is loaded \
             (580.82.09)",
        )
    };
    let follows = |code, of, severity, summary: &str| Finding {
        consequence_of: Some(Code::new(of)),
        ..finding(code, severity, summary)
    };
    let mut judgement = judgement(Verdict::Refused, "cuda", "nccl", "three GPUs of NVIDIA's");
    judgement.findings = vec![
        cause,
        follows("NVL008", "NVL001", Severity::Note, "unattended-upgrade upgraded the libraries"),
        follows("NVL009", "NVL008", Severity::Note, "it will do so again"),
        finding("NVL073", Severity::Warning, "/dev/shm has 64 MiB"),
    ];
    judgement.variables = vec![VariableChoice {
        name: "NCCL_NVML_DISABLE".to_owned(),
        value: Some("1".to_owned()),
        is_users: false,
        reason: "it is often asked for".to_owned(),
        evidence: Vec::new(),
    }];
    (judgement, facts)
}

fn hang() -> (Judgement, HostFacts) {
    let (_, mut facts) = mismatch();
    let nvidia = facts.nvidia.as_mut().expect("there is a driver");
    nvidia.nvml = Probe::Hung(Hang {
        stage: "nvmlDeviceGetHandleByIndex(2)".to_owned(),
        after_ms: 5000,
        process_state: Some('D'),
        waits_in: Some("rm_init_adapter".to_owned()),
        survived_kill: true,
    });
    let mut judgement = judgement(Verdict::Refused, "cuda", "nccl", "three GPUs of NVIDIA's");
    judgement.findings = vec![Finding {
        evidence: vec![evidence(
            "nvmlDeviceGetHandleByIndex(2)",
            "no answer within 5.0 s; the process is in state D in rm_init_adapter",
        )],
        remedies: vec![
            remedy("look for the GPU's last words in the kernel log", &["dmesg | grep NVRM"], true),
            remedy("reboot: no signal ends a process in state D", &[], true),
        ],
        ..finding("NVL042", Severity::Error, "GPU 2 does not answer")
    }];
    (judgement, facts)
}

fn gcu() -> (Judgement, HostFacts) {
    let (_, mut facts) = healthy_cpu();
    facts.vendors = vec![VendorFacts {
        name: "gcu".to_owned(),
        pci: 8,
        nodes: (0..8).map(|index| format!("/dev/gcu{index}")).collect(),
        module: Some(Sourced::new("1.0.20230110".to_owned(), "/sys/module/enflame/version")),
        ..VendorFacts::default()
    }];
    let mut judgement =
        judgement(Verdict::Degraded, "gcu", "eccl", "torch_gcu and libeccl are here");
    judgement.findings = vec![
        finding("NVL080", Severity::Note, "this is a host with Enflame's accelerators"),
        Finding {
            mitigation: Some(Mitigation {
                what: "the ranks get TOPS_VISIBLE_DEVICES=0,1 from it".to_owned(),
                variables: Vec::new(),
                cures: true,
            }),
            ..finding("NVL071", Severity::Warning, "CUDA_VISIBLE_DEVICES=0,1 chooses nothing here")
        },
    ];
    (judgement, facts)
}

fn is_within(text: &str, lines: usize) {
    assert!(text.lines().count() <= lines, "{text}");
    let wide = text.lines().find(|line| line.chars().count() > WIDTH && !line.contains("$ "));
    assert_eq!(wide, None);
    assert!(text.ends_with('\n') && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_healthy_machine_is_one_line() {
    let (judgement, mut facts) = healthy_cpu();
    assert_eq!(
        launch(&judgement, &facts, MANNER),
        "nvlaunch: preflight: cpu, gloo (no accelerator); 3 ms\n"
    );
    let judgement = Judgement { vendor: "cuda".to_owned(), ..judgement };
    facts.nvidia = mismatch().1.nvidia;
    assert_eq!(
        launch(&judgement, &facts, MANNER),
        "nvlaunch: preflight: cuda, gloo (3 x NVIDIA RTX A6000, driver 580.82.09); 3 ms\n"
    );
    let gpu = |index: usize| ProcGpu {
        model: Some(format!("NVIDIA Model {index} with a long name")),
        ..ProcGpu::default()
    };
    facts.nvidia.as_mut().expect("a driver").gpus = (0..8).map(gpu).collect();
    let long = launch(&judgement, &facts, MANNER);
    is_within(&long, 1);
    assert!(long.ends_with("…); 3 ms\n"), "{long}");
}

#[test]
fn a_launch_on_a_mismatch() {
    let (judgement, facts) = mismatch();
    let text = launch(&judgement, &facts, MANNER);
    is_within(&text, LAUNCH_LINES);
    insta::assert_snapshot!(text, @"
    nvlaunch: preflight refuses the launch: NVL001 the driver's libraries
      (580.95.05) are newer than the kernel module that is loaded (580.82.09)
      since: unattended-upgrade upgraded the libraries
      /proc/driver/nvidia/version: 580.82.09
      /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.95.05: 580.95.05
      nvmlInit_v2: 18 Driver/library version mismatch
      one more: than a launch shows
      what helps: reboot (as root)
        $ reboot
      from this follow: NVL009
      besides: NVL073 (`nvlaunch preflight` shows them)
    hint: `nvlaunch explain NVL001` says more; --force starts all the same
    ");
}

#[test]
fn a_launch_that_is_forced() {
    let (judgement, facts) = mismatch();
    let text = launch(&judgement, &facts, Manner { force: true, ..MANNER });
    is_within(&text, LAUNCH_LINES);
    assert!(!text.contains("--force starts"), "{text}");
    insta::assert_snapshot!(text.lines().next().unwrap_or_default(), @"nvlaunch: preflight would refuse this without --force: NVL001 the driver's");
}

#[test]
fn a_launch_on_a_gpu_that_hangs() {
    let (judgement, facts) = hang();
    let text = launch(&judgement, &facts, MANNER);
    is_within(&text, LAUNCH_LINES);
    insta::assert_snapshot!(text, @"
    nvlaunch: preflight refuses the launch: NVL042 GPU 2 does not answer
      nvmlDeviceGetHandleByIndex(2): no answer within 5.0 s; the process is in state
        D in rm_init_adapter
      what helps: look for the GPU's last words in the kernel log (as root)
        $ dmesg | grep NVRM
      or: reboot: no signal ends a process in state D (as root)
    hint: `nvlaunch explain NVL042` says more; --force starts all the same
    ");
}

#[test]
fn a_launch_on_gcus() {
    let (judgement, facts) = gcu();
    let text = launch(&judgement, &facts, MANNER);
    is_within(&text, LAUNCH_LINES);
    insta::assert_snapshot!(text, @"
    nvlaunch: preflight: gcu, eccl (8 devices, driver 1.0.20230110); 1 warning; 3 ms
      NVL071 CUDA_VISIBLE_DEVICES=0,1 chooses nothing here; nvlaunch: the ranks get
        TOPS_VISIBLE_DEVICES=0,1 from it
      `nvlaunch explain NVL071` says what helps
    ");
}

#[test]
fn many_findings_stay_within_the_lines_of_a_launch() {
    let (mut judgement, facts) = mismatch();
    for finding in &mut judgement.findings {
        finding.summary = "word ".repeat(200);
        finding.evidence = vec![evidence(&"source ".repeat(30), &"value ".repeat(30)); 20];
        finding.remedies = vec![remedy(&"do ".repeat(100), &["command"; 9], false); 5];
    }
    let one = judgement.findings[3].clone();
    let more = (0..30).map(|_| one.clone());
    judgement.findings.extend(more);
    for verdict in [Verdict::Ok, Verdict::Degraded, Verdict::Refused] {
        judgement.verdict = verdict;
        is_within(&launch(&judgement, &facts, MANNER), LAUNCH_LINES);
    }
}

#[test]
fn a_refusal_without_a_finding_is_still_said() {
    let (judgement, facts) = healthy_cpu();
    let judgement = Judgement { verdict: Verdict::Refused, ..judgement };
    is_within(&launch(&judgement, &facts, MANNER), 1);
}

#[test]
fn the_whole_of_a_mismatch() {
    let (judgement, facts) = mismatch();
    let text = whole(&judgement, &facts, MANNER);
    is_within(&text, usize::MAX);
    insta::assert_snapshot!(text, @"
    preflight: refused: a launch is refused without --force

      vendor      cuda
      backend     nccl: three GPUs of NVIDIA's
      variable    NCCL_NVML_DISABLE=1: it is often asked for
      machine     node1, ubuntu 24.04, Linux 6.8.0-60-generic x86_64
      devices     cuda: 3 on PCI, 3 nodes in /dev, CUDA_VISIBLE_DEVICES=0,1,2
      driver      kernel module 580.82.09 (open), libnvidia-ml 580.95.05, libcuda
                  580.95.05
      GPUs        3 x NVIDIA RTX A6000
      NVML        error 18: Driver/library version mismatch, 9 ms
      Python      /opt/env/bin/python (3.11)
      PyTorch     2.8.0+cu128, built for CUDA 12.8
      memory      /dev/shm 64 MiB
      not read    2 things; --json names them

    NVL001 error: the driver's libraries (580.95.05) are newer than the kernel
      module that is loaded (580.82.09)
      /proc/driver/nvidia/version: 580.82.09
      /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.95.05: 580.95.05
      nvmlInit_v2: 18 Driver/library version
        mismatch
      one more: than a launch shows
      nvlaunch: NCCL_NVML_DISABLE is set for the ranks, as is often asked for, which
        does not cure it
        NCCL_NVML_DISABLE=1
      what helps: reboot (as root)
        $ reboot
      or: reload the kernel module without a reboot (as root)
        $ systemctl stop nvidia-persistenced
        $ rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia
        $ modprobe nvidia && modprobe nvidia_uvm && systemctl start nvidia-persistenced
      follows: NVL008 note: unattended-upgrade upgraded the libraries
        /proc/one: 1
      follows: NVL009 note: it will do so again
        /proc/one: 1

    NVL073 warning: /dev/shm has 64 MiB
      /proc/one: 1

    `nvlaunch explain NVL001` says more.

    4 findings in 3 ms
    ");
}

#[test]
fn the_whole_of_healthy_machines() {
    let (judgement, mut facts) = healthy_cpu();
    facts.system.container = Some(Container { kind: "docker".to_owned(), ..Container::default() });
    let interface = |name: &str, state: &str| Interface {
        name: name.to_owned(),
        state: state.to_owned(),
        ..Interface::default()
    };
    facts.network.interfaces = vec![
        Interface { is_loopback: true, ..interface("lo", "unknown") },
        interface("eth0", "up"),
        interface("eth1", "down"),
    ];
    facts.resources.memory_bytes = Some(251 << 30);
    let (of_gcu, gcu) = gcu();
    let text = whole(&judgement, &facts, MANNER) + "---\n" + &whole(&of_gcu, &gcu, MANNER);
    is_within(&text, usize::MAX);
    insta::assert_snapshot!(text, @"
    preflight: ok: a launch starts

      vendor      cpu
      backend     gloo: there is no accelerator
      machine     node1, ubuntu 24.04, Linux 6.8.0-60-generic x86_64, in a container
                  (docker)
      devices     no accelerator
      PyTorch     not found
      memory      251 GiB
      network     eth0, eth1 (down)

    nothing found in 3 ms
    ---
    preflight: degraded: a launch starts, and something is lost

      vendor      gcu
      backend     eccl: torch_gcu and libeccl are here
      machine     node1, ubuntu 24.04, Linux 6.8.0-60-generic x86_64
      devices     gcu: 8 on PCI, 8 nodes in /dev
      PyTorch     not found

    NVL080 note: this is a host with Enflame's accelerators
      /proc/one: 1

    NVL071 warning: CUDA_VISIBLE_DEVICES=0,1 chooses nothing here
      /proc/one: 1
      nvlaunch: the ranks get TOPS_VISIBLE_DEVICES=0,1 from it

    `nvlaunch explain NVL080` says more.

    2 findings in 3 ms
    ");
}

#[test]
fn a_finding_whose_cause_is_not_there_is_a_cause() {
    let (mut judgement, facts) = mismatch();
    judgement.findings.remove(0);
    let text = whole(&judgement, &facts, MANNER);
    assert!(text.contains("\nNVL008 note: "), "{text}");
    assert!(text.contains("\n  follows: NVL009 note: "), "{text}");
}

/// A loop of causes would be a mistake of the judge; it must not hide the findings or hang.
#[test]
fn a_loop_of_causes_ends() {
    let (mut judgement, facts) = mismatch();
    judgement.findings[0].consequence_of = Some(Code::new("NVL009"));
    for text in [launch(&judgement, &facts, MANNER), whole(&judgement, &facts, MANNER)] {
        assert!(text.contains("NVL073"), "{text}");
    }
}

#[test]
fn colours_add_nothing_but_colours() {
    let coloured = Manner { colour: true, ..MANNER };
    for (judgement, facts) in [healthy_cpu(), mismatch(), hang(), gcu()] {
        for render in [launch, whole] {
            let text = render(&judgement, &facts, coloured);
            let stripped = anstream::adapter::strip_str(&text).to_string();
            assert_eq!(stripped, render(&judgement, &facts, MANNER));
        }
        let refused = judgement.verdict == Verdict::Refused;
        assert_eq!(launch(&judgement, &facts, coloured).contains('\u{1b}'), refused);
    }
}
