//! Small builders: a healthy machine, and one thing wrong with it.

use crate::host::facts::nvidia::{
    DeviceNode, DiskModule, FabricManager, Flavour, Library, LoadedModule, Nvidia, Nvml,
    NvmlDevice, Probe, ProcGpu, ResultCode,
};
use crate::host::facts::{
    Container, HostFacts, Package, PackageChange, PciDevice, PciKind, Sourced, Torch, VendorFacts,
};
use crate::preflight::Intent;
use crate::preflight::finding::{Finding, Severity};
use crate::preflight::judge::judge;

/// `580.82.09`, the module of the field reports.
pub const OLD: &str = "580.82.09";
/// `580.95.05`, their libraries.
pub const NEW: &str = "580.95.05";

/// A machine without accelerators, with the default build of `PyTorch`.
pub fn cpu_host() -> HostFacts {
    let mut facts = HostFacts::default();
    facts.system.kernel = "6.8.0-85-generic".to_owned();
    facts.system.arch = "x86_64".to_owned();
    facts.system.distribution = Some("ubuntu".to_owned());
    facts.system.distribution_like = vec!["debian".to_owned()];
    facts.packages.manager = Some("apt".to_owned());
    facts.resources.shm_bytes = Some(64 << 30);
    facts.python.torch = Some(torch("2.8.0+cu128", Some("12.8")));
    facts
}

/// A `PyTorch` of that version and CUDA.
pub fn torch(version: &str, cuda: Option<&str>) -> Torch {
    Torch {
        version: version.to_owned(),
        cuda: cuda.map(ToOwned::to_owned),
        source: "/venv/lib/python3.11/site-packages/torch/version.py".to_owned(),
        ..Torch::default()
    }
}

/// A driver library as the linker's cache leads to it.
pub fn library(name: &str, version: &str) -> Library {
    let stem = name.trim_end_matches(".1");
    Library {
        name: name.to_owned(),
        path: format!("/usr/lib/x86_64-linux-gnu/{stem}.{version}"),
        found_by: "ld.so.cache".to_owned(),
        version: Some(version.to_owned()),
        bytes: 1 << 20,
        ..Library::default()
    }
}

/// A GPU on the bus.
pub fn gpu(index: usize) -> PciDevice {
    PciDevice {
        address: format!("0000:{:02x}:00.0", 0x10 + index),
        vendor: 0x10de,
        device: 0x2230,
        class: 0x03_0000,
        driver: Some("nvidia".to_owned()),
        link_width: Some((16, 16)),
        ..PciDevice::default()
    }
}

/// A machine with `count` NVIDIA GPUs of that model, all healthy, at driver version `kernel`.
pub fn gpu_host(count: usize, model: &str, kernel: &str) -> HostFacts {
    let mut facts = cpu_host();
    facts.pci = (0..count).map(gpu).collect();
    let mut nodes = vec!["/dev/nvidiactl".to_owned(), "/dev/nvidia-uvm".to_owned()];
    nodes.extend((0..count).map(|i| format!("/dev/nvidia{i}")));
    let address = |i: usize| facts.pci[i].address.clone();
    let gpus = (0..count).map(|i| ProcGpu {
        address: address(i),
        model: Some(model.to_owned()),
        uuid: None,
        minor: u32::try_from(i).ok(),
    });
    let mut nvidia = Nvidia {
        loaded: Some(LoadedModule {
            version: kernel.to_owned(),
            flavour: Flavour::Open,
            source: "/proc/driver/nvidia/version".to_owned(),
        }),
        modules: ["nvidia", "nvidia_uvm", "nvidia_drm", "nvidia_modeset"].map(Into::into).to_vec(),
        references: Some(2),
        holders: vec!["nvidia_uvm".to_owned(), "nvidia_modeset".to_owned()],
        on_disk: vec![on_disk(kernel)],
        looked_on_disk: true,
        gpus: gpus.collect(),
        nodes: nodes.into_iter().map(|path| DeviceNode { path, is_usable: Some(true) }).collect(),
        modprobe_helper: Some("/usr/bin/nvidia-modprobe".to_owned()),
        ..Nvidia::default()
    };
    nvidia.libraries.nvml = Some(library("libnvidia-ml.so.1", kernel));
    let mut cuda = library("libcuda.so.1", kernel);
    cuda.compatible_branches = vec![535, 550, 565, 570, 575, 580];
    nvidia.libraries.cuda = Some(cuda);
    facts.vendors.push(VendorFacts {
        name: "cuda".to_owned(),
        pci: u32::try_from(count).expect("few"),
        nodes: (0..count).map(|i| format!("/dev/nvidia{i}")).collect(),
        module: Some(Sourced::new(kernel.to_owned(), "/proc/driver/nvidia/version")),
        ..VendorFacts::default()
    });
    facts.nvidia = Some(nvidia);
    facts
}

/// A module file of that version.
pub fn on_disk(version: &str) -> DiskModule {
    DiskModule {
        path: "/lib/modules/6.8.0-85-generic/updates/dkms/nvidia.ko.zst".to_owned(),
        version: Some(version.to_owned()),
        is_signed: Some(true),
        ..DiskModule::default()
    }
}

/// The driver of a machine that has one.
pub fn nvidia(facts: &mut HostFacts) -> &mut Nvidia {
    facts.nvidia.as_mut().expect("this machine has NVIDIA's driver")
}

/// The libraries of a machine, at another version.
pub fn with_libraries(mut facts: HostFacts, version: &str) -> HostFacts {
    let libraries = &mut nvidia(&mut facts).libraries;
    let branches = libraries.cuda.as_ref().expect("is there").compatible_branches.clone();
    libraries.nvml = Some(library("libnvidia-ml.so.1", version));
    libraries.cuda =
        Some(Library { compatible_branches: branches, ..library("libcuda.so.1", version) });
    facts
}

/// NVML's answer where all is well.
pub fn nvml_answer(facts: &mut HostFacts) -> &mut Nvml {
    let devices = facts.pci.iter().filter(|d| d.kind == PciKind::Accelerator).enumerate();
    let answer = Nvml {
        device_count: u32::try_from(devices.clone().count()).ok(),
        devices: devices
            .map(|(i, device)| NvmlDevice {
                index: u32::try_from(i).expect("few"),
                address: Some(device.address.clone()),
                persistence: Some(true),
                compute_mode: Some("default".to_owned()),
                recovery_action: Some(0),
                open_ms: Some(3),
                ..NvmlDevice::default()
            })
            .collect(),
        ..Nvml::default()
    };
    let driver = nvidia(facts);
    driver.nvml = Probe::Answered(answer);
    match &mut driver.nvml {
        Probe::Answered(answer) => answer,
        _ => unreachable!("was just set"),
    }
}

/// A result code with some text.
pub fn result(code: i32) -> ResultCode {
    ResultCode { code, text: format!("text of {code}") }
}

/// An H200 machine with `NVSwitch`, fabric manager and all.
pub fn nvswitch_host() -> HostFacts {
    let mut facts = gpu_host(8, "NVIDIA H200", "580.159.03");
    facts.pci.extend((0..4).map(|i| PciDevice {
        address: format!("0000:{:02x}:00.0", 0x80 + i),
        vendor: 0x10de,
        class: 0x06_8000,
        kind: PciKind::NvSwitch,
        ..PciDevice::default()
    }));
    nvidia(&mut facts).fabric = FabricManager {
        pid: Some(1234),
        version: Some(Sourced::new("580.159.03-1".to_owned(), "/var/lib/dpkg/status")),
    };
    nvidia(&mut facts).persistence_daemon = true;
    nvml_answer(&mut facts);
    facts
}

/// The same machine seen from inside a container.
pub fn in_container(mut facts: HostFacts) -> HostFacts {
    facts.system.container = Some(Container {
        kind: "docker".to_owned(),
        source: "/.dockerenv".to_owned(),
        mounted_libraries: Vec::new(),
    });
    if let Some(driver) = &mut facts.nvidia {
        driver.on_disk.clear();
        driver.looked_on_disk = false;
    }
    facts
}

/// A machine with accelerators of another vendor.
pub fn vendor_host(name: &str, count: u32) -> HostFacts {
    let vendor = crate::host::vendors::find(name).expect("a vendor of the table");
    let mut facts = cpu_host();
    facts.vendors.push(VendorFacts {
        name: name.to_owned(),
        pci: count,
        nodes: (0..count).map(|i| format!("/dev/{name}{i}")).collect(),
        module: Some(Sourced::new("1.0".to_owned(), format!("/sys/module/{}", vendor.modules[0]))),
        libraries: vendor.libraries.iter().map(|l| format!("/usr/lib/{l}")).collect(),
        visible: None,
    });
    facts.pci = (0..count)
        .map(|i| PciDevice {
            address: format!("0000:{:02x}:00.0", 0x20 + i),
            vendor: vendor.pci.vendor,
            class: 0x12_0000,
            ..PciDevice::default()
        })
        .collect();
    for package in vendor.torch_packages {
        facts.python.packages.insert((*package).to_owned(), "1.0".to_owned());
    }
    facts
}

/// An installed package.
pub fn package(name: &str, version: &str) -> Package {
    Package { name: name.to_owned(), version: version.to_owned(), is_held: false }
}

/// An upgrade in apt's log.
pub fn upgrade(package: &str, from: &str, to: &str, command: &str) -> PackageChange {
    PackageChange {
        at: "2025-10-21 06:50:54".to_owned(),
        action: "upgrade".to_owned(),
        package: package.to_owned(),
        from: Some(from.to_owned()),
        to: Some(to.to_owned()),
        command: Some(command.to_owned()),
        by: None,
        source: "/var/log/apt/history.log".to_owned(),
    }
}

/// Sets a variable of the ranks.
pub fn with_var(mut facts: HostFacts, name: &str, value: &str) -> HostFacts {
    facts.variables.insert(name.to_owned(), value.to_owned());
    facts
}

/// A job of so many ranks.
pub fn job(nproc: u32) -> Intent {
    Intent { nproc: Some(nproc), nnodes: 1, ..Intent::default() }
}

/// The same with `--backend`.
pub fn job_with(nproc: u32, backend: &str) -> Intent {
    Intent { backend: Some(backend.to_owned()), ..job(nproc) }
}

/// Findings as `NVL001 error`, consequences as `NVL008 note < NVL001`.
pub fn shape(findings: &[Finding]) -> Vec<String> {
    let one = |finding: &Finding| {
        let severity = match finding.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let cause = finding.consequence_of.as_ref().map(|c| format!(" < {c}")).unwrap_or_default();
        format!("{} {severity}{cause}", finding.code)
    };
    findings.iter().map(one).collect()
}

/// The shape of a judgement.
pub fn judged(facts: &HostFacts, intent: &Intent) -> Vec<String> {
    shape(&judge(facts, intent))
}

/// The commands of a finding, one per line.
pub fn commands(findings: &[Finding], code: &str) -> String {
    let of_code = findings.iter().filter(|finding| finding.code.0 == code);
    let lines = of_code.flat_map(|finding| &finding.remedies).flat_map(|r| r.commands.clone());
    lines.collect::<Vec<_>>().join("\n")
}
