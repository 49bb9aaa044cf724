//! The facts in brief: the lines that a person looks for first, each only where it is known.

use std::collections::BTreeMap;

use crate::host::facts::nvidia::{Flavour, Library, Nvidia, Probe};
use crate::host::facts::{HostFacts, PciKind};
use crate::layout::size;
use crate::preflight::Judgement;
use crate::report::text::counted;

/// The devices that the job would run on, in a few words, and their driver in a few more.
pub(super) fn devices(judgement: &Judgement, facts: &HostFacts) -> (String, String) {
    if judgement.vendor == "cpu" {
        let accelerators = facts.vendors.iter().map(|vendor| &*vendor.name).collect::<Vec<_>>();
        let words = match &accelerators[..] {
            [] => "no accelerator".to_owned(),
            names => format!("not used: {}", names.join(", ")),
        };
        return (words, String::new());
    }
    let vendor = facts.vendors.iter().find(|vendor| vendor.name == judgement.vendor);
    let nvidia = facts.nvidia.as_ref().filter(|_| judgement.vendor == "cuda");
    let words = match nvidia.map(gpus) {
        Some(names) if !names.is_empty() => names,
        _ => {
            let count = vendor.map_or(0, |vendor| vendor.pci.max(len(vendor.nodes.len())));
            counted(u64::from(count), "device", "devices")
        }
    };
    let driver = nvidia.and_then(|nvidia| nvidia.loaded.as_ref()).map(|loaded| &loaded.version);
    let module = vendor.and_then(|vendor| vendor.module.as_ref()).map(|module| &module.value);
    let version = driver.or(module).filter(|version| !version.is_empty());
    (words, version.map_or(String::new(), |version| format!(", driver {version}")))
}

/// Names and values, in the order in which they are read.
pub(super) fn table(judgement: &Judgement, facts: &HostFacts) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("vendor", judgement.vendor.clone()),
        ("backend", format!("{}: {}", judgement.backend.name, judgement.backend.reason)),
    ];
    for variable in &judgement.variables {
        let value = variable.value.as_ref().map_or_else(
            || format!("{} is taken away", variable.name),
            |value| format!("{}={value}", variable.name),
        );
        // A line of a profile is named by the reason.
        let is_own = variable.is_users && !facts.variables_from.contains_key(&variable.name);
        let own = if is_own { " (your own)" } else { "" };
        rows.push(("variable", format!("{value}{own}: {}", variable.reason)));
    }
    rows.push(("machine", machine(facts)));
    rows.push(("devices", seen(facts)));
    if let Some(nvidia) = &facts.nvidia {
        rows.extend(driver(nvidia));
    }
    rows.extend(python(facts));
    rows.extend(resources(facts));
    let unread = facts.notes.len() as u64;
    if unread > 0 {
        let what = counted(unread, "thing", "things");
        rows.push(("not read", format!("{what}; --json names them")));
    }
    rows.retain(|(_, value)| !value.is_empty());
    rows
}

fn machine(facts: &HostFacts) -> String {
    let system = &facts.system;
    let distribution = system.distribution.iter().map(|name| match &system.distribution_version {
        Some(version) => format!("{name} {version}"),
        None => name.clone(),
    });
    let kernel = Some(&system.kernel).filter(|kernel| !kernel.is_empty());
    let kernel = kernel.map(|kernel| format!("Linux {kernel} {}", system.arch).trim().to_owned());
    let container = system.container.as_ref().map(|c| format!("in a container ({})", c.kind));
    let host = Some(facts.hostname.clone()).filter(|name| !name.is_empty());
    let words: Vec<String> =
        host.into_iter().chain(distribution).chain(kernel).chain(container).collect();
    words.join(", ")
}

/// Every vendor of which something is there.
fn seen(facts: &HostFacts) -> String {
    let switches = facts.pci.iter().filter(|pci| pci.kind == PciKind::NvSwitch).count();
    let of_vendor = facts.vendors.iter().map(|vendor| {
        let nodes = counted(vendor.nodes.len() as u64, "node", "nodes");
        let visible = vendor
            .visible
            .as_ref()
            .map_or(String::new(), |visible| format!(", {}={}", visible.source, visible.value));
        format!("{}: {} on PCI, {nodes} in /dev{visible}", vendor.name, vendor.pci)
    });
    let mut words: Vec<String> = of_vendor.collect();
    if switches > 0 {
        words.push(counted(switches as u64, "NVSwitch", "NVSwitches"));
    }
    if words.is_empty() { "no accelerator".to_owned() } else { words.join("; ") }
}

fn driver(nvidia: &Nvidia) -> Vec<(&'static str, String)> {
    let flavour = |flavour| match flavour {
        Flavour::Unknown => "",
        Flavour::Open => " (open)",
        Flavour::Proprietary => " (proprietary)",
    };
    let none = if nvidia.is_wsl { "the driver of Windows" } else { "no kernel module is loaded" };
    let module = nvidia.loaded.as_ref().map_or_else(
        || none.to_owned(),
        |loaded| format!("kernel module {}{}", loaded.version, flavour(loaded.flavour)),
    );
    let library = |library: &Option<Library>, name: &str| {
        library.as_ref().map(|library| {
            let version = library.version.as_deref().unwrap_or("of an unknown version");
            format!("{name} {version}")
        })
    };
    let nvml = library(&nvidia.libraries.nvml, "libnvidia-ml");
    let cuda = library(&nvidia.libraries.cuda, "libcuda");
    let words: Vec<String> = std::iter::once(module).chain(nvml).chain(cuda).collect();
    vec![
        ("driver", words.join(", ")),
        ("GPUs", gpus(nvidia)),
        (
            "NVML",
            probe(&nvidia.nvml, |nvml| {
                let found = nvml.device_count.map_or(String::new(), |count| {
                    format!(", {}", counted(u64::from(count), "device", "devices"))
                });
                (nvml.init.code, format!("{}{found}, {} ms", nvml.init.text, nvml.took_ms))
            }),
        ),
        (
            "CUDA",
            probe(&nvidia.cuda, |cuda| {
                let found = cuda.device_count.map_or(String::new(), |count| {
                    format!(", {}", counted(u64::from(count), "device", "devices"))
                });
                (cuda.init.code, format!("{}{found}", cuda.init.text))
            }),
        ),
    ]
}

fn probe<T>(probe: &Probe<T>, words: impl FnOnce(&T) -> (i32, String)) -> String {
    match probe {
        Probe::NotAsked => String::new(),
        Probe::Skipped(why) => format!("not asked: {why}"),
        Probe::Answered(answer) => match words(answer) {
            (0, text) => format!("answers{}", text.strip_prefix("Success").unwrap_or(&text)),
            (code, text) => format!("error {code}: {text}"),
        },
        Probe::Hung(hang) => {
            let state =
                hang.process_state.map_or(String::new(), |state| format!(", state {state}"));
            let waits = hang.waits_in.as_ref().map_or(String::new(), |at| format!(" in {at}"));
            let (call, after) = (&hang.stage, hang.after_ms);
            format!("no answer from {call} within {after} ms{state}{waits}")
        }
        Probe::Died(death) => format!("its process ended in {}: {}", death.stage, death.exit),
    }
}

/// `3 x NVIDIA RTX A6000`, by NVML or by the driver's own list.
fn gpus(nvidia: &Nvidia) -> String {
    let by_nvml = match &nvidia.nvml {
        Probe::Answered(nvml) => nvml.devices.iter().map(|d| d.name.as_deref()).collect(),
        _ => Vec::new(),
    };
    let by_driver = || nvidia.gpus.iter().map(|gpu| gpu.model.as_deref()).collect();
    let names: Vec<Option<&str>> = if by_nvml.is_empty() { by_driver() } else { by_nvml };
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for name in names {
        *counts.entry(name.unwrap_or("GPU")).or_default() += 1;
    }
    let words: Vec<String> =
        counts.iter().map(|(name, count)| format!("{count} x {name}")).collect();
    words.join(", ")
}

fn python(facts: &HostFacts) -> Vec<(&'static str, String)> {
    let python = &facts.python;
    let interpreter = python.interpreter.clone().unwrap_or_default();
    let version = python.version.as_ref().map_or(String::new(), |v| format!(" ({v})"));
    let torch = python.torch.as_ref().map(|torch| {
        let built = [("CUDA", &torch.cuda), ("HIP", &torch.hip), ("XPU", &torch.xpu)];
        let built = built.iter().find_map(|(name, v)| Some(format!("{name} {}", v.as_ref()?)));
        format!("{}, built for {}", torch.version, built.as_deref().unwrap_or("CPU"))
    });
    let nccl = python.nccl.as_ref().map(|nccl| {
        let version = nccl.version.as_deref().unwrap_or("of an unknown version");
        format!("{version}, {}", nccl.path)
    });
    vec![
        ("Python", format!("{interpreter}{version}").trim().to_owned()),
        ("PyTorch", torch.unwrap_or_else(|| "not found".to_owned())),
        ("NCCL", nccl.unwrap_or_default()),
    ]
}

fn resources(facts: &HostFacts) -> Vec<(&'static str, String)> {
    let resources = &facts.resources;
    let shm = resources.shm_bytes.map(|bytes| format!("/dev/shm {}", size(bytes)));
    let memory = resources.memory_bytes.map(size);
    let words: Vec<String> = memory.into_iter().chain(shm).collect();
    let interfaces = facts.network.interfaces.iter().filter(|one| !one.is_loopback);
    let infiniband = facts.network.infiniband.iter().map(|port| {
        let state = port.state.to_lowercase();
        format!("{}:{} ({state})", port.device, port.port)
    });
    let network = interfaces.map(|one| match &*one.state {
        "up" | "unknown" | "" => one.name.clone(),
        state => format!("{} ({state})", one.name),
    });
    let network: Vec<String> = network.chain(infiniband).collect();
    vec![("memory", words.join(", ")), ("network", network.join(", "))]
}

fn len(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
