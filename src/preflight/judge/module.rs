//! Why NVIDIA's module is not in the kernel, and who holds the GPUs instead.

use super::context::Cx;
use super::draft::Draft;
use super::remedy;
use crate::host::facts::PciDevice;
use crate::host::facts::nvidia::{DkmsState, Nvidia};
use crate::preflight::catalogue::code;
use crate::preflight::finding::{Code, Finding, Severity};

const NOUVEAU: &str = "nouveau";
const VFIO: &str = "vfio-pci";

/// Whether every GPU is set aside for virtual machines: NVIDIA's driver has no business here.
pub fn is_all_vfio(cx: &Cx<'_>) -> bool {
    let mut gpus = cx.nvidia_pci().peekable();
    gpus.peek().is_some() && gpus.all(|gpu| gpu.driver.as_deref() == Some(VFIO))
}

/// GPUs that virtual machines have, where the ranks miss them.
pub fn vfio(cx: &Cx<'_>, out: &mut Vec<Finding>) {
    let (away, left): (Vec<_>, Vec<_>) =
        cx.nvidia_pci().partition(|gpu| gpu.driver.as_deref() == Some(VFIO));
    let wants_more = cx.intent.nproc.is_some_and(|nproc| nproc as usize > left.len());
    if away.is_empty() || !(left.is_empty() || wants_more) {
        return;
    }
    let draft = Draft::new(
        code::VFIO_BOUND,
        format!(
            "{} of {} GPUs are set aside for virtual machines",
            away.len(),
            away.len() + left.len()
        ),
    )
    .severity(cx.for_gpu(Severity::Warning));
    let draft = drivers(draft, &away);
    let first = &away[0].address;
    out.push(
        draft
            .root_remedy(
                "give a GPU back to the host, if no virtual machine uses it",
                vec![
                    format!("echo {first} > /sys/bus/pci/drivers/{VFIO}/unbind"),
                    format!("echo > /sys/bus/pci/devices/{first}/driver_override"),
                    format!("echo {first} > /sys/bus/pci/drivers_probe"),
                ],
            )
            .done(),
    );
}

fn drivers(mut draft: Draft, gpus: &[&PciDevice]) -> Draft {
    for gpu in gpus.iter().take(8) {
        let driver =
            gpu.driver.as_deref().map_or("no driver".to_owned(), |d| format!("bound to {d}"));
        draft = draft.evidence(format!("/sys/bus/pci/devices/{}", gpu.address), driver);
    }
    draft
}

/// Why no module is loaded, where GPUs are on the bus.
pub fn judge(cx: &Cx<'_>, nvidia: &Nvidia, out: &mut Vec<Finding>) -> Option<Code> {
    let gpus: Vec<_> = cx.nvidia_pci().filter(|gpu| gpu.driver.as_deref() != Some(VFIO)).collect();
    let nouveau: Vec<_> =
        gpus.iter().copied().filter(|gpu| gpu.driver.as_deref() == Some(NOUVEAU)).collect();
    if nvidia.loaded.is_some() || cx.nvml_works() {
        if !nouveau.is_empty() {
            let draft = drivers(held_by_nouveau(cx, &nouveau), &nouveau);
            out.push(draft.severity(cx.for_gpu(Severity::Warning)).done());
        }
        return None;
    }
    if gpus.is_empty() {
        return None;
    }
    let kernel = &cx.facts.system.kernel;
    let is_installed = !nvidia.dkms.is_empty()
        || nvidia.libraries.nvml.is_some()
        || nvidia.libraries.cuda.is_some()
        || cx.facts.packages.installed.iter().any(|p| p.name.contains("nvidia-driver"));
    let has_module = !nvidia.on_disk.is_empty();
    let is_unsigned = cx.facts.system.secure_boot.as_ref().is_some_and(|on| on.value)
        && has_module
        && nvidia.on_disk.iter().all(|module| module.is_signed == Some(false));
    let wants = |draft: Draft| draft.severity(cx.for_gpu(Severity::Error));
    let draft = if cx.is_container() {
        not_loaded(cx, "NVIDIA's module is not loaded on this container's host")
            .remedy("load or install the driver on the host, not in the container", &[])
    } else if nvidia.looked_on_disk && !has_module && is_installed {
        missing_module(cx, nvidia)
    } else if is_unsigned {
        unsigned(cx, nvidia)
    } else if !nouveau.is_empty() {
        held_by_nouveau(cx, &nouveau)
    } else if has_module || !nvidia.looked_on_disk {
        let mut draft = not_loaded(cx, "NVIDIA's module is on disk and not loaded");
        if let Some(module) = nvidia.on_disk.first() {
            let version = module.version.as_deref().unwrap_or("of unknown version");
            draft = draft.evidence(&module.path, format!("is {version}"));
        } else {
            draft = not_loaded(cx, "NVIDIA's module is not loaded");
        }
        draft.root_remedy(
            "load it; the kernel log says why, if that is refused",
            vec!["modprobe nvidia".to_owned(), "dmesg | grep -i -e nvrm -e nvidia".to_owned()],
        )
    } else {
        let draft = not_loaded(cx, "no NVIDIA driver is installed")
            .evidence(format!("/lib/modules/{kernel}"), "no nvidia module");
        install_driver(cx, draft)
    };
    let mut draft = wants(drivers(draft, &gpus));
    if !cx.wants_only_cpu_backend() {
        draft = draft.remedy("to train on the CPU meanwhile", &["nvlaunch --backend gloo …"]);
    }
    let finding = draft.done();
    let code = finding.code.clone();
    out.push(finding);
    Some(code)
}

fn not_loaded(cx: &Cx<'_>, summary: &str) -> Draft {
    let count = cx.nvidia_pci().count();
    Draft::new(code::DRIVER_NOT_LOADED, format!("{summary}; {count} GPUs are on the bus"))
        .evidence("/proc/driver/nvidia/version", "is not there")
}

fn install_driver(cx: &Cx<'_>, draft: Draft) -> Draft {
    let is_ubuntu = cx.facts.system.distribution.as_deref() == Some("ubuntu");
    let commands = match remedy::driver_package(cx) {
        _ if is_ubuntu => vec!["ubuntu-drivers install --gpgpu".to_owned(), "reboot".to_owned()],
        Some(package) => [remedy::install(cx, package), vec!["reboot".to_owned()]].concat(),
        None => Vec::new(),
    };
    draft.root_remedy("install the driver with the package manager", commands)
}

/// Without the evidence, which is for whoever calls it.
fn held_by_nouveau(cx: &Cx<'_>, gpus: &[&PciDevice]) -> Draft {
    let mut draft = Draft::new(
        code::NOUVEAU_BOUND,
        format!("{} GPUs are held by nouveau, which knows no CUDA", gpus.len()),
    );
    let initramfs = match cx.facts.packages.manager.as_deref() {
        Some("apt") => Some("update-initramfs -u"),
        Some("dnf" | "zypper") => Some("dracut --force"),
        Some("pacman") => Some("mkinitcpio -P"),
        _ => None,
    };
    let mut commands = vec![
        "printf 'blacklist nouveau\\noptions nouveau modeset=0\\n' > \
         /etc/modprobe.d/blacklist-nouveau.conf"
            .to_owned(),
    ];
    commands.extend(initramfs.map(ToOwned::to_owned));
    commands.push("reboot".to_owned());
    let nothing = cx.nvidia().is_none_or(|n| n.looked_on_disk && n.on_disk.is_empty());
    if nothing {
        draft = install_driver(cx, draft);
    }
    draft.root_remedy("keep nouveau from being loaded", commands)
}

fn missing_module(cx: &Cx<'_>, nvidia: &Nvidia) -> Draft {
    let kernel = &cx.facts.system.kernel;
    let mut draft = Draft::new(
        code::DKMS_MODULE_MISSING_FOR_KERNEL,
        format!("the driver is installed, and there is no module of it for the kernel {kernel}"),
    )
    .evidence(format!("/lib/modules/{kernel}"), "no nvidia module");
    for entry in &nvidia.dkms {
        let for_kernel = entry.kernel.as_deref().unwrap_or("no kernel");
        let state = match entry.state {
            DkmsState::Added => "added",
            DkmsState::Failed => "failed",
            DkmsState::Built => "built",
            DkmsState::Installed => "installed",
        };
        let mut text = format!("{}/{} for {for_kernel}: {state}", entry.name, entry.version);
        if !entry.log.is_empty() {
            text = format!("{text}\n{}", entry.log.join("\n"));
        }
        draft = draft.evidence(&entry.source, text);
    }
    let version = nvidia.dkms.last().map(|entry| entry.version.clone());
    let build = remedy::build_module(cx, nvidia, version.as_deref());
    draft = draft.root_remedy(
        format!("build the module for {kernel}, and load it"),
        remedy::and_then(build, "modprobe nvidia"),
    );
    let other = nvidia.dkms.iter().find(|entry| {
        entry.state == DkmsState::Installed && entry.kernel.as_ref().is_some_and(|k| k != kernel)
    });
    match other.and_then(|entry| entry.kernel.as_deref()) {
        Some(other) => {
            draft.root_remedy(format!("or boot {other}, for which it is installed"), Vec::new())
        }
        None => draft,
    }
}

fn unsigned(cx: &Cx<'_>, nvidia: &Nvidia) -> Draft {
    let mut draft = Draft::new(
        code::SECUREBOOT_UNSIGNED_MODULE,
        "Secure Boot is on, and the driver's module on disk is not signed",
    );
    if let Some(on) = &cx.facts.system.secure_boot {
        draft = draft.evidence(&on.source, "Secure Boot is on");
    }
    for module in &nvidia.on_disk {
        draft = draft.evidence(&module.path, "has no signature");
    }
    let kernel = &cx.facts.system.kernel;
    if cx.facts.system.distribution.as_deref() == Some("ubuntu") {
        let version = nvidia.on_disk.first().and_then(|module| module.version.as_deref());
        let branch = version.and_then(|v| v.split('.').next()).unwrap_or_default();
        draft = draft.root_remedy(
            "use Ubuntu's signed module",
            vec![format!("apt-get install linux-modules-nvidia-{branch}-{kernel}")],
        );
    }
    draft
        .root_remedy(
            "or enrol a key of your own, with which DKMS signs; the firmware asks at the next boot",
            vec![
                "mokutil --import /var/lib/shim-signed/mok/MOK.der".to_owned(),
                "reboot".to_owned(),
            ],
        )
        .root_remedy("or switch Secure Boot off in the firmware", Vec::new())
}
