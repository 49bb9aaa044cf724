//! What holds for every machine, however broken.

use std::cmp::Reverse;

use proptest::prelude::*;

use super::*;
use crate::host::facts::nvidia::{
    Cuda, Death, Dkms, DkmsState, Hang, Library, LibraryProblem, Probe, Xid,
};
use crate::host::facts::{HostFacts, Sourced};
use crate::preflight::Intent;
use crate::preflight::catalogue::find;
use crate::preflight::decide::decide;
use crate::preflight::finding::Severity;
use crate::preflight::judge::judge;

const VERSIONS: [&str; 8] =
    [OLD, NEW, "535.161.08", "545.23.08", "590.44.01", "470.82.01", "", "not a version"];
const NAMES: [&str; 14] = [
    "CUDA_VISIBLE_DEVICES",
    "TOPS_VISIBLE_DEVICES",
    "NCCL_NVML_DISABLE",
    "NCCL_P2P_DISABLE",
    "NCCL_SOCKET_IFNAME",
    "GLOO_SOCKET_IFNAME",
    "NCCL_ASYNC_ERROR_HANDLING",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING",
    "TORCH_NCCL_BLOCKING_WAIT",
    "NCCL_NO_SUCH_THING",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_NVML_BASED_CUDA_CHECK",
    "__CUDA_DISABLE_FORWARD_COMPATIBILITY",
];
const VALUES: [&str; 9] =
    ["", "0", "1", "-1", "eth0", "^lo,docker", "=,:,", "MIG-1,GPU-2", "é\u{0}"];
const CODES: [i32; 14] = [0, -1, 4, 9, 15, 16, 17, 18, 46, 100, 802, 803, 804, 999];
const TORCHES: [&str; 6] = ["2.8.0+cu128", "2.1.2", "1.10.0", "2.15.0", "x", ""];

fn base(which: usize) -> HostFacts {
    match which % 6 {
        0 => cpu_host(),
        1 => gpu_host(2, "NVIDIA RTX A6000", NEW),
        2 => gpu_host(1, "NVIDIA GeForce RTX 4090", OLD),
        3 => nvswitch_host(),
        4 => vendor_host("gcu", 2),
        _ => vendor_host("npu", 2),
    }
}

fn pick<T: Copy>(list: &[T], seed: u32) -> T {
    list[seed as usize % list.len()]
}

/// Breaks something of NVIDIA's driver.
fn break_driver(facts: &mut HostFacts, what: u32, seed: u32) {
    let version = pick(&VERSIONS, seed).to_owned();
    let answers = seed.is_multiple_of(2);
    if what == 8 && facts.nvidia.is_some() {
        nvml_answer(facts);
    }
    let Some(driver) = &mut facts.nvidia else { return };
    let problems = [
        LibraryProblem::Empty,
        LibraryProblem::Dangling,
        LibraryProblem::Broken,
        LibraryProblem::Stub,
        LibraryProblem::Unreadable,
    ];
    let broken = |name: &str| {
        let problem = (!seed.is_multiple_of(3)).then(|| pick(&problems, seed));
        (!seed.is_multiple_of(5)).then(|| Library { problem, ..library(name, &version) })
    };
    let hang = Hang { stage: "nvmlInit".to_owned(), after_ms: 5000, ..Hang::default() };
    match what {
        0 => driver.loaded = None,
        1 => driver.libraries.nvml = broken("libnvidia-ml.so.1"),
        2 => driver.libraries.cuda = broken("libcuda.so.1"),
        3 => {
            driver.libraries.nvml = Some(library("libnvidia-ml.so.1", &version));
            driver.libraries.cuda = Some(library("libcuda.so.1", &version));
        }
        4 => driver.nodes.clear(),
        5 => driver.nodes.iter_mut().for_each(|node| node.is_usable = Some(answers)),
        6 => driver.nvml = Probe::Hung(hang),
        7 => {
            driver.nvml = Probe::Died(Death {
                stage: "a".to_owned(),
                exit: "b".to_owned(),
                ..Death::default()
            });
        }
        8 => {
            if let Probe::Answered(nvml) = &mut driver.nvml {
                nvml.init = result(pick(&CODES, seed));
                nvml.nvml_version = answers.then(|| format!("13.{version}"));
                for device in &mut nvml.devices {
                    device.error =
                        answers.then(|| ("call".to_owned(), result(pick(&CODES, seed / 3))));
                    device.recovery_action = Some(seed % 6);
                    device.remap_pending = Some(answers);
                    device.remap_failed = Some(seed.is_multiple_of(7));
                    device.persistence = Some(answers);
                    device.processes = vec![seed];
                    device.throttle_reasons = Some(u64::from(seed));
                    device.mig = Some(seed.is_multiple_of(11));
                }
            }
        }
        9 => {
            driver.cuda = match seed % 3 {
                0 => Probe::Hung(hang),
                1 => Probe::Skipped("x".to_owned()),
                _ => Probe::Answered(Cuda { init: result(pick(&CODES, seed)), ..Cuda::default() }),
            };
        }
        10 => driver.on_disk = vec![on_disk(&version)],
        11 => driver.on_disk.clear(),
        12 => driver.dkms.push(Dkms {
            name: "nvidia".to_owned(),
            version,
            kernel: answers.then(|| "6.8.0-90-generic".to_owned()),
            state: pick(&[DkmsState::Added, DkmsState::Failed, DkmsState::Installed], seed),
            source: "/var/lib/dkms/nvidia".to_owned(),
            ..Dkms::default()
        }),
        13 => driver.libraries.others.push(library("libcuda.so.1", &version)),
        14 => driver.libraries.stale_cache.push(Sourced::new("libcuda.so.1".to_owned(), "gone")),
        15 => driver.libraries.matching.push(format!("/opt/{version}")),
        16 => driver.fabric.pid = None,
        17 => driver.fabric.version = Some(Sourced::new(version, "dpkg")),
        18 => driver.xids.events.push(Xid {
            address: pick(&["pci:0000:10:00", "0000:11:00.0", ""], seed).to_owned(),
            code: seed % 125,
            line: "NVRM: Xid".to_owned(),
            source: "/dev/kmsg".to_owned(),
        }),
        _ => driver.references = Some(seed),
    }
}

/// Breaks something else.
fn break_host(facts: &mut HostFacts, what: u32, seed: u32) {
    let version = pick(&VERSIONS, seed).to_owned();
    match what {
        0 => *facts = in_container(facts.clone()),
        1 => facts.python.torch = None,
        2 => {
            let cuda = pick(&[None, Some("12.8"), Some("13.0"), Some("")], seed);
            facts.python.torch = Some(torch(pick(&TORCHES, seed / 4), cuda));
        }
        3 => facts.python.packages.clear(),
        4 => {
            let versions = ["0.7.0", "0.10.7", "", "z"];
            facts.python.packages.insert("mmengine".to_owned(), pick(&versions, seed).to_owned());
        }
        5 | 6 => {
            let value = pick(&VALUES, seed / 16).to_owned();
            facts.variables.insert(pick(&NAMES, seed).to_owned(), value);
        }
        7 => {
            let drivers = [None, Some("nouveau"), Some("vfio-pci"), Some("nvidia")];
            for gpu in &mut facts.pci {
                gpu.driver = pick(&drivers, seed).map(ToOwned::to_owned);
            }
        }
        8 => facts.pci.iter_mut().for_each(|gpu| gpu.is_off_bus = seed.is_multiple_of(2)),
        9 => facts.pci.clear(),
        10 => facts.vendors.clear(),
        11 => facts.vendors.iter_mut().for_each(|vendor| vendor.nodes.clear()),
        12 => {
            let other = vendor_host("gcu", 1);
            facts.vendors.extend(other.vendors);
            facts.pci.extend(other.pci);
        }
        13 => facts.packages.history.push(upgrade("libnvidia-compute-580", OLD, &version, "apt")),
        14 => facts.packages.installed.push(package("libnvidia-compute-580", &version)),
        15 => {
            let managers =
                [None, Some("apt"), Some("dnf"), Some("zypper"), Some("pacman"), Some("?")];
            facts.packages.manager = pick(&managers, seed).map(ToOwned::to_owned);
        }
        16 => facts.system.secure_boot = Some(Sourced::new(true, "efi")),
        17 => facts.nvidia = None,
        18 => facts.resources.shm_bytes = Some(u64::from(seed)),
        _ => facts.packages.run_installer.push("/usr/bin/nvidia-uninstall".to_owned()),
    }
}

fn machines() -> impl Strategy<Value = HostFacts> {
    let change = (any::<bool>(), 0..20_u32, any::<u32>());
    (0..6_usize, prop::collection::vec(change, 0..8)).prop_map(|(which, changes)| {
        let mut facts = base(which);
        for (is_driver, what, seed) in changes {
            if is_driver {
                break_driver(&mut facts, what, seed);
            } else {
                break_host(&mut facts, what, seed);
            }
        }
        facts
    })
}

fn intents() -> impl Strategy<Value = Intent> {
    let backends =
        [None, Some("nccl"), Some("gloo"), Some("eccl"), Some("cpu:gloo,cuda:nccl"), Some(",:")];
    (prop::option::of(0..9_u32), 0..3_u32, 0..6_usize).prop_map(move |(nproc, nnodes, backend)| {
        let backend = backends[backend].map(ToOwned::to_owned);
        Intent { nproc, nnodes, backend, ..Intent::default() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn findings_are_well_formed(facts in machines(), intent in intents()) {
        let found = judge(&facts, &intent);
        prop_assert_eq!(&found, &judge(&facts, &intent));
        for finding in &found {
            let entry = find(&finding.code.0).expect("every code is in the catalogue");
            prop_assert_eq!(entry.name, &finding.name);
            prop_assert!(!finding.summary.is_empty() && !finding.summary.ends_with('.'));
            prop_assert!(!finding.evidence.is_empty(), "{} has no evidence", finding.code);
            let has_way_out = !finding.remedies.is_empty() || finding.consequence_of.is_some();
            prop_assert!(has_way_out, "{} has no remedy", finding.code);
            for evidence in &finding.evidence {
                let is_full = !evidence.source.is_empty() && !evidence.value.is_empty();
                prop_assert!(is_full, "{evidence:?}");
            }
            let commands = finding.remedies.iter().flat_map(|remedy| &remedy.commands);
            for command in commands {
                let is_blunt = command.contains("pkill") || command.contains("killall");
                prop_assert!(!is_blunt, "{command}");
            }
            if let Some(cause) = &finding.consequence_of {
                prop_assert!(found.iter().any(|other| other.code == *cause), "{cause} is not here");
                prop_assert_eq!(finding.severity, Severity::Note);
            }
        }
        let causes: Vec<_> = found.iter().filter(|f| f.consequence_of.is_none()).collect();
        prop_assert!(causes.is_sorted_by_key(|finding| Reverse(finding.severity)));
    }

    #[test]
    fn a_mismatch_is_one_error(facts in machines(), intent in intents()) {
        let found = judge(&facts, &intent);
        let is_mismatch = |code: &str| matches!(code, "NVL001" | "NVL002");
        if found.iter().any(|finding| is_mismatch(&finding.code.0)) {
            // What the same driver could be blamed for once more; a lost GPU is another matter.
            let same = ["NVL001", "NVL002", "NVL003", "NVL004", "NVL010", "NVL020", "NVL021",
                "NVL026", "NVL042", "NVL050", "NVL051", "NVL054", "NVL056", "NVL060"];
            let errors: Vec<_> = found
                .iter()
                .filter(|f| f.severity == Severity::Error && same.contains(&f.code.0.as_ref()))
                .collect();
            prop_assert!(errors.len() <= 1, "{:?}", shape(&found));
        }
    }

    #[test]
    fn decisions_have_reasons(facts in machines(), intent in intents()) {
        let found = judge(&facts, &intent);
        let judgement = decide(&facts, found.clone(), &intent);
        prop_assert_eq!(&judgement.findings, &found);
        let asked = intent.backend.as_deref().filter(|backend| !backend.is_empty());
        if let Some(asked) = asked {
            prop_assert_eq!(&judgement.backend.name, asked);
        }
        prop_assert!(!judgement.backend.reason.is_empty() && !judgement.backend.evidence.is_empty());
        for choice in &judgement.variables {
            prop_assert!(!choice.reason.is_empty() && !choice.evidence.is_empty());
            let own = facts.variables.get(&choice.name);
            prop_assert_eq!(choice.is_users, own.is_some());
            if let Some(own) = own {
                prop_assert_eq!(choice.value.as_ref(), Some(own));
            }
        }
    }

    #[test]
    fn what_the_job_does_not_use_refuses_nothing(facts in machines(), nproc in 1..9_u32) {
        // gloo with no GPU in sight cannot fail for NVIDIA's sake.
        let facts = with_var(facts, "CUDA_VISIBLE_DEVICES", "");
        for finding in judge(&facts, &job_with(nproc, "gloo")) {
            let number: u32 = finding.code.0[3..].parse().expect("digits");
            prop_assert!(number >= 70 || finding.severity < Severity::Error, "{finding:?}");
        }
    }
}
