//! Commands that repair, for this very machine: its package manager, its package names and
//! versions, its kernel, its modules. They are shown, never run; `sudo` is left to whoever shows them.
//!
//! - R1: nothing ends processes of others; who uses the driver is listed instead.
//! - R2: what is not known is left out of a command rather than guessed into it.

use super::context::Cx;
use super::draft::Draft;
use crate::host::facts::nvidia::{DkmsState, Nvidia};
use crate::preflight::version::upstream;

/// Modules in the order in which they are unloaded: users before what they use.
const UNLOAD_ORDER: [&str; 7] = [
    "nvidia_peermem",
    "nvidia_fs",
    "gdrdrv",
    "nvidia_uvm",
    "nvidia_drm",
    "nvidia_modeset",
    "nvidia",
];

/// Services that keep the driver open: the unit, and whether it is here.
fn services(cx: &Cx<'_>, nvidia: &Nvidia) -> Vec<&'static str> {
    let has = |prefix: &str| {
        cx.facts.packages.installed.iter().any(|package| package.name.starts_with(prefix))
    };
    let mut units = Vec::new();
    if nvidia.persistence_daemon {
        units.push("nvidia-persistenced");
    }
    if nvidia.fabric.pid.is_some() {
        units.push("nvidia-fabricmanager");
    }
    if has("datacenter-gpu-manager") {
        units.push("nvidia-dcgm");
    }
    units
}

/// The modules to unload, in order, the driver itself last.
pub fn modules_to_unload(nvidia: &Nvidia) -> Vec<String> {
    // Others are called after NVIDIA and have nothing to do with it (`nvidia_wmi_ec_backlight`).
    let named =
        |name: &&String| UNLOAD_ORDER.contains(&name.as_str()) || nvidia.holders.contains(name);
    let mut found: Vec<String> =
        nvidia.modules.iter().chain(&nvidia.holders).filter(named).cloned().collect();
    found.push("nvidia".to_owned());
    found.sort_by_key(|name| {
        // A module that is not known here is somebody's, built on the others: it goes first.
        let place = UNLOAD_ORDER.iter().position(|known| known == name);
        (place.map_or(0, |place| place + 1), name.clone())
    });
    found.dedup();
    found
}

/// How many users the loaded module has besides other modules.
pub fn users(nvidia: &Nvidia) -> Option<u32> {
    let holders = u32::try_from(nvidia.holders.len()).unwrap_or(u32::MAX);
    Some(nvidia.references?.saturating_sub(holders))
}

/// Loads the module on disk in place of the one in the kernel.
pub fn reload(cx: &Cx<'_>, nvidia: &Nvidia) -> Vec<String> {
    let unload = modules_to_unload(nvidia);
    let back: Vec<_> = ["nvidia", "nvidia_modeset", "nvidia_drm", "nvidia_uvm"]
        .into_iter()
        .filter(|name| *name == "nvidia" || unload.iter().any(|module| module == name))
        .collect();
    let units = services(cx, nvidia);
    let mut commands = Vec::new();
    if !units.is_empty() {
        commands.push(format!("systemctl stop {}", units.join(" ")));
    }
    commands.push("fuser -v /dev/nvidia*".to_owned());
    commands.push(format!("rmmod {}", unload.join(" ")));
    commands.push(format!("modprobe -a {}", back.join(" ")));
    if !units.is_empty() {
        commands.push(format!("systemctl start {}", units.join(" ")));
    }
    commands
}

/// The installed packages of the driver itself: those of one of `versions`.
fn driver_packages<'a>(cx: &Cx<'a>, versions: &[&str]) -> Vec<&'a str> {
    let packages = &cx.facts.packages;
    let fits = |version: &str| versions.contains(&upstream(version));
    let mut names: Vec<&str> = packages
        .installed
        .iter()
        .filter(|package| !package.is_held && fits(&package.version))
        .map(|package| package.name.as_str())
        .collect();
    if packages.installed.is_empty() {
        // The list cannot always be read; then the log knows what was upgraded.
        let changes = packages.history.iter().filter(|c| c.to.as_deref().is_some_and(fits));
        names.extend(changes.map(|change| change.package.as_str()));
        names.sort_unstable();
        names.dedup();
    }
    names
}

/// Keeps the driver's packages at their version; `versions` are the driver's.
pub fn hold(cx: &Cx<'_>, versions: &[&str]) -> Option<Vec<String>> {
    let names = driver_packages(cx, versions);
    if names.is_empty() {
        return None;
    }
    let names = names.join(" ");
    let command = match cx.facts.packages.manager.as_deref()? {
        "apt" => format!("apt-mark hold {names}"),
        "dnf" => format!("dnf versionlock add {names}"),
        "zypper" => format!("zypper addlock {names}"),
        "pacman" => format!("sed -i '/^\\[options\\]/a IgnorePkg = {names}' /etc/pacman.conf"),
        _ => return None,
    };
    Some(vec![command])
}

/// The commands and one after them; none where there are none, for it alone would repair nothing.
pub fn and_then(mut commands: Vec<String>, last: &str) -> Vec<String> {
    if !commands.is_empty() {
        commands.push(last.to_owned());
    }
    commands
}

/// Builds and installs the driver's module of `version` for the running kernel; no commands where
/// nothing here is known to build it (R2).
pub fn build_module(cx: &Cx<'_>, nvidia: &Nvidia, version: Option<&str>) -> Vec<String> {
    let kernel = &cx.facts.system.kernel;
    let installed = &cx.facts.packages.installed;
    let mut commands = Vec::new();
    match cx.facts.packages.manager.as_deref() {
        Some("apt") => {
            // Ubuntu's ready-made modules are named after branch and kernel.
            let ready = installed.iter().find_map(|package| {
                let rest = package.name.strip_prefix("linux-modules-nvidia-")?;
                let branch: String = rest.chars().take_while(char::is_ascii_digit).collect();
                let tail = &rest[branch.len()..];
                let kind = ["-server-open", "-server", "-open"]
                    .into_iter()
                    .find(|kind| tail.starts_with(kind));
                Some(format!("linux-modules-nvidia-{branch}{}-{kernel}", kind.unwrap_or("")))
            });
            match ready {
                Some(name) => {
                    commands.push(format!("apt-get install {name}"));
                    return commands;
                }
                None => commands.push(format!("apt-get install linux-headers-{kernel}")),
            }
        }
        Some("dnf") => {
            commands.push(format!("dnf install kernel-devel-{kernel}"));
            if installed.iter().any(|package| package.name.starts_with("akmod-nvidia")) {
                commands.push(format!("akmods --force --kernels {kernel}"));
                return commands;
            }
        }
        Some("zypper") => commands.push("zypper install kernel-default-devel".to_owned()),
        Some("pacman") => commands.push("pacman -S --needed linux-headers".to_owned()),
        _ => {}
    }
    let of_version = |entry: &&crate::host::facts::nvidia::Dkms| {
        version.is_none_or(|version| entry.version == version)
    };
    let builds_by_package =
        || installed.iter().any(|p| p.name.contains("nvidia") && p.name.contains("dkms"));
    if let Some(entry) = nvidia.dkms.iter().find(of_version) {
        if nvidia.dkms.iter().any(|e| e.state == DkmsState::Failed && e.version == entry.version) {
            commands.push(format!("dkms remove {}/{} -k {kernel}", entry.name, entry.version));
        }
        commands.push(format!("dkms install {}/{} -k {kernel}", entry.name, entry.version));
    } else if !nvidia.dkms.is_empty() || builds_by_package() {
        commands.push(format!("dkms autoinstall -k {kernel}"));
    } else {
        // What a build needs builds nothing by itself.
        commands.clear();
    }
    commands
}

/// Installs NVIDIA's own module in place of the open one, as far as the packages tell its name.
pub fn closed_module(cx: &Cx<'_>) -> Vec<String> {
    let installed = &cx.facts.packages.installed;
    let open = installed.iter().filter(|package| package.name.ends_with("-open"));
    let closed = open.filter_map(|package| {
        let name = package.name.strip_suffix("-open")?;
        ["nvidia-dkms-", "nvidia-driver-"].iter().any(|part| name.starts_with(part)).then_some(name)
    });
    let closed: Vec<_> = closed.collect();
    if closed.is_empty() { Vec::new() } else { install(cx, &closed.join(" ")) }
}

/// Starts this kind of container with GPUs, with the commands of what made it; `what` says it where
/// nothing better is known. `capability` is the driver's, where one is missing.
pub fn container_with_gpus(
    cx: &Cx<'_>,
    draft: Draft,
    what: &str,
    capability: Option<&str>,
) -> Draft {
    const OF_POD: &str = "resources: {limits: {nvidia.com/gpu: 1}}";
    const CAPABILITIES_OF_POD: &str =
        "env: [{name: NVIDIA_DRIVER_CAPABILITIES, value: \"compute,utility\"}]";
    let kind = cx.facts.system.container.as_ref().map_or("", |container| container.kind.as_str());
    match (kind, capability) {
        ("kubernetes", None) => draft.remedy("ask for GPUs in the pod", &[OF_POD]),
        ("kubernetes", Some(capability)) => draft.remedy(
            format!("ask in the pod for GPUs and the driver's capability {capability}"),
            &[OF_POD, CAPABILITIES_OF_POD],
        ),
        ("podman", _) => draft.remedy(what, &["podman run --device nvidia.com/gpu=all …"]),
        // It binds the host's own libraries, all of them.
        ("apptainer", _) => {
            draft.remedy("start the container with GPUs", &["apptainer exec --nv …"])
        }
        ("docker", None) => draft.remedy(what, &["docker run --gpus all …"]),
        ("docker", Some(_)) => draft.remedy(
            what,
            &["docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility …"],
        ),
        // R2
        _ => draft.remedy(what, &[]),
    }
}

/// Installs a package, as far as the package manager is known.
pub fn install(cx: &Cx<'_>, package: &str) -> Vec<String> {
    let command = match cx.facts.packages.manager.as_deref() {
        Some("apt") => format!("apt-get install {package}"),
        Some("dnf") => format!("dnf install {package}"),
        Some("zypper") => format!("zypper install {package}"),
        Some("pacman") => format!("pacman -S {package}"),
        _ => return Vec::new(),
    };
    vec![command]
}

/// Installs the same packages again, at their version.
pub fn reinstall(cx: &Cx<'_>, package: &str) -> Vec<String> {
    let command = match cx.facts.packages.manager.as_deref() {
        Some("apt") => format!("apt-get install --reinstall {package}"),
        Some("dnf") => format!("dnf reinstall {package}"),
        Some("zypper") => format!("zypper install --force {package}"),
        Some("pacman") => format!("pacman -S {package}"),
        _ => return Vec::new(),
    };
    vec![command]
}

/// The name of the distribution's driver package, for a machine that has none.
pub fn driver_package(cx: &Cx<'_>) -> Option<&'static str> {
    let system = &cx.facts.system;
    let is = |name: &str| {
        system.distribution.as_deref() == Some(name)
            || system.distribution_like.iter().any(|like| like == name)
    };
    if system.distribution.as_deref() == Some("fedora") {
        return Some("akmod-nvidia");
    }
    match cx.facts.packages.manager.as_deref()? {
        // Ubuntu chooses the branch itself (`ubuntu-drivers`); Debian has one in non-free.
        "apt" if is("ubuntu") => None,
        "apt" if is("debian") => Some("nvidia-driver"),
        "dnf" | "zypper" | "pacman" => Some("nvidia-open"),
        _ => None,
    }
}
