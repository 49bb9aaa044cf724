//! How a mismatch came about, and whether a reboot ends it.

use super::context::Cx;
use super::draft::Draft;
use super::remedy;
use crate::host::facts::PackageChange;
use crate::host::facts::nvidia::{DkmsState, Flavour, Nvidia};
use crate::preflight::catalogue::code;
use crate::preflight::finding::{Code, Finding};
use crate::preflight::version::upstream;

/// What the disk has for the next boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk {
    /// A module of the libraries' version: its path.
    Fits(String),
    /// Modules of other versions only: the path and version of one.
    Other(String, String),
    /// A module of the libraries' version, of the open kind, and a GPU that the open one does not
    /// drive: the path and the GPU.
    Open(String, String),
    /// No module for this kernel.
    None,
    /// None for this kernel, but one for another that is installed.
    OtherKernel(String),
    /// Nobody looked, or it could not be read.
    Unknown,
}

/// Looks for a module of the libraries' version on disk.
pub fn disk(cx: &Cx<'_>, nvidia: &Nvidia, libraries: Option<&str>) -> Disk {
    let Some(wanted) = libraries.filter(|_| nvidia.looked_on_disk) else { return Disk::Unknown };
    if cx.is_container() {
        return Disk::Unknown;
    }
    let fits = |version: &Option<String>| version.as_deref() == Some(wanted);
    if let Some(module) = nvidia.on_disk.iter().find(|module| fits(&module.version)) {
        return match older_than_open(cx, nvidia) {
            Some(gpu) if module.flavour == Flavour::Open => Disk::Open(module.path.clone(), gpu),
            _ => Disk::Fits(module.path.clone()),
        };
    }
    if nvidia.on_disk.iter().any(|module| module.version.is_none()) {
        return Disk::Unknown;
    }
    let elsewhere = nvidia.dkms.iter().find(|entry| {
        entry.version == wanted
            && entry.state == DkmsState::Installed
            && entry.kernel.as_ref().is_some_and(|k| cx.facts.system.other_kernels.contains(k))
    });
    if let Some(kernel) = elsewhere.and_then(|entry| entry.kernel.clone()) {
        return Disk::OtherKernel(kernel);
    }
    match nvidia.on_disk.first() {
        None => Disk::None,
        Some(module) => {
            let version = module.version.as_deref().unwrap_or_default();
            Disk::Other(module.path.clone(), version.to_owned())
        }
    }
}

/// A GPU from before Turing, which the open kernel module does not drive (its README lists what it
/// does). Device ids grew with the generations: TU102 is the first, with 0x1e02.
fn older_than_open(cx: &Cx<'_>, nvidia: &Nvidia) -> Option<String> {
    const TURING: u16 = 0x1e00;
    let gpu = cx.nvidia_pci().find(|gpu| gpu.device < TURING)?;
    let listed = nvidia.gpus.iter().find(|listed| listed.address == gpu.address);
    let model = listed.and_then(|listed| listed.model.clone());
    Some(model.unwrap_or_else(|| format!("the GPU at {}", gpu.address)))
}

/// Whether a package belongs to the driver.
fn is_driver(package: &str) -> bool {
    ["nvidia", "libcuda", "cuda-drivers", "kmod-nvidia"].iter().any(|part| package.contains(part))
        && !package.contains("container")
}

/// The last change that brought the libraries, and its log entry.
pub fn upgrade<'a>(
    cx: &Cx<'a>,
    libraries: Option<&str>,
    kernel: &str,
) -> Option<&'a PackageChange> {
    let brings = |change: &&PackageChange| {
        is_driver(&change.package)
            && change.to.as_deref().is_some_and(|to| Some(upstream(to)) == libraries)
            && change.from.as_deref().is_none_or(|from| Some(upstream(from)) != libraries)
    };
    let changes = &cx.facts.packages.history;
    let from_kernels = |change: &&PackageChange| {
        change.from.as_deref().is_some_and(|from| upstream(from) == kernel)
    };
    // Of the packages of one transaction the one with NVML tells most.
    let tells = |change: &&PackageChange| {
        change.package.contains("compute") || change.package.contains("nvidia-ml")
    };
    let all: Vec<_> = changes.iter().filter(brings).collect();
    let last = all.iter().rev().find(|c| from_kernels(c)).or_else(|| all.last())?;
    let same = all.iter().filter(|change| change.at == last.at);
    same.clone().find(|change| tells(change)).copied().or(Some(last))
}

/// Notes that belong to a mismatch: who made it, whether it will happen again, and whether a reboot
/// helps.
pub fn related(
    cx: &Cx<'_>,
    nvidia: &Nvidia,
    cause: &Code,
    disk: &Disk,
    kernel: &str,
    libraries: Option<&str>,
    out: &mut Vec<Finding>,
) {
    if let Some(finding) = reboot_will_not_fix(cx, nvidia, disk, libraries) {
        out.push(finding.follows(Some(cause)).done());
    }
    let change = upgrade(cx, libraries, kernel);
    let changed = changed_since_boot(cx, nvidia);
    let mut draft = match (change, &changed) {
        (Some(change), _) => {
            let by = change.command.as_deref().map(|c| format!(" by {c}")).unwrap_or_default();
            let who = change.by.as_deref().map(|who| format!(", for {who}")).unwrap_or_default();
            let from = change.from.as_deref().map(|f| format!(" from {f}")).unwrap_or_default();
            let to = change.to.as_deref().unwrap_or("another version");
            let summary =
                format!("{} was upgraded{from} to {to} at {}{by}{who}", change.package, change.at);
            let entry = change.command.as_deref().unwrap_or(&change.action);
            Draft::new(code::MISMATCH_CAUSED_BY_UPGRADE, summary)
                .evidence(&change.source, format!("{}: {entry}", change.at))
        }
        (None, Some(_)) => Draft::new(
            code::MISMATCH_CAUSED_BY_UPGRADE,
            "the driver's libraries were changed after the machine was started",
        ),
        (None, None) => return,
    };
    draft = draft.evidence_if(changed);
    out.push(draft.follows(Some(cause)).done());
    if let Some(finding) = armed(cx, change, kernel, libraries) {
        out.push(finding.follows(Some(cause)).done());
    }
}

/// A library whose file changed after the kernel was started.
fn changed_since_boot(cx: &Cx<'_>, nvidia: &Nvidia) -> Option<(String, String)> {
    let boot = cx.facts.system.boot_time?;
    if cx.is_container() {
        return None;
    }
    let libraries = [&nvidia.libraries.nvml, &nvidia.libraries.cuda];
    let library =
        libraries.into_iter().flatten().find(|l| l.changed_at.is_some_and(|at| at > boot))?;
    let after = library.changed_at? - boot;
    Some((library.path.clone(), format!("its file changed {} after the last boot", ago(after))))
}

/// Seconds in the largest unit that says enough.
fn ago(seconds: i64) -> String {
    match seconds {
        s if s >= 2 * 86400 => format!("{} days", s / 86400),
        s if s >= 2 * 3600 => format!("{} hours", s / 3600),
        s => format!("{} minutes", (s / 60).max(1)),
    }
}

/// Upgrades without being asked, where they made this mismatch.
fn armed(
    cx: &Cx<'_>,
    change: Option<&PackageChange>,
    kernel: &str,
    libraries: Option<&str>,
) -> Option<Draft> {
    let packages = &cx.facts.packages;
    let automatic = packages.automatic_upgrades.as_ref().filter(|a| a.value)?;
    let command = change.and_then(|change| change.command.as_deref());
    let is_automatic = |command: &str| {
        ["unattended-upgrade", "dnf-automatic", "packagekit"]
            .iter()
            .any(|name| command.contains(name))
    };
    if command.is_some_and(|command| !is_automatic(command)) {
        return None;
    }
    let is_excluded = packages.upgrade_blacklist.iter().any(|pattern| pattern.contains("nvidia"));
    let commands = libraries.and_then(|version| remedy::hold(cx, &[version, kernel]));
    if is_excluded || (commands.is_none() && !packages.installed.is_empty()) {
        return None;
    }
    let summary = "driver packages are upgraded without being asked, and will be again";
    let draft = Draft::new(code::AUTO_UPGRADE_ARMED, summary)
        .evidence(&automatic.source, "automatic upgrades are on");
    let draft = draft.evidence_if(
        change.and_then(|c| Some((c.source.clone(), format!("{}: {}", c.at, c.command.as_ref()?)))),
    );
    Some(draft.root_remedy("hold every package of the driver", commands.unwrap_or_default()))
}

fn reboot_will_not_fix(
    cx: &Cx<'_>,
    nvidia: &Nvidia,
    disk: &Disk,
    libraries: Option<&str>,
) -> Option<Draft> {
    let kernel = &cx.facts.system.kernel;
    let wanted = libraries.unwrap_or("the libraries' version");
    let draft = match disk {
        Disk::Other(path, version) => Draft::new(
            code::REBOOT_WILL_NOT_FIX,
            format!("a reboot alone does not help: the module on disk is not {wanted} either"),
        )
        .evidence(path, format!("is {version}")),
        Disk::Open(path, gpu) => Draft::new(
            code::REBOOT_WILL_NOT_FIX,
            format!(
                "a reboot alone does not help: the module on disk is the open one, which does not \
                 drive {gpu}"
            ),
        )
        .evidence(path, format!("is {wanted}, the open module")),
        Disk::None => Draft::new(
            code::REBOOT_WILL_NOT_FIX,
            format!("a reboot alone does not help: there is no module on disk for {kernel}"),
        )
        .evidence(format!("/lib/modules/{kernel}"), "no nvidia module"),
        Disk::Fits(_) | Disk::OtherKernel(_) | Disk::Unknown => return None,
    };
    let mut draft = draft;
    for entry in nvidia.dkms.iter().filter(|e| e.version == wanted && e.state == DkmsState::Failed)
    {
        let log = entry.log.iter().map(String::as_str);
        let text: Vec<_> = std::iter::once("DKMS could not build it").chain(log).collect();
        draft = draft.evidence(&entry.source, text.join("\n"));
    }
    if matches!(disk, Disk::Open(..)) {
        let what = "install the module that is not open, of the same version";
        return Some(draft.root_remedy(what, remedy::closed_module(cx)));
    }
    Some(draft.root_remedy(
        format!("build the module {wanted} for {kernel}"),
        remedy::build_module(cx, nvidia, libraries),
    ))
}

/// The next boot changes a driver that works now.
pub fn next_boot(cx: &Cx<'_>, nvidia: &Nvidia) -> Option<Finding> {
    let (kernel, _) = cx.kernel_module()?;
    if cx.is_container() {
        return None;
    }
    let other = nvidia.on_disk.iter().find(|m| m.version.as_deref().is_some_and(|v| v != kernel));
    let fits = nvidia.on_disk.iter().any(|m| m.version.as_deref() == Some(kernel));
    let asked = cx.facts.system.reboot_required.as_ref();
    let asked = asked.filter(|list| list.value.iter().any(|package| is_driver(package)));
    let mut draft = match other.filter(|_| !fits) {
        Some(module) => {
            let version = module.version.as_deref().unwrap_or_default();
            let summary = format!("the next boot loads the driver {version} in place of {kernel}");
            Draft::new(code::REBOOT_PENDING, summary)
                .evidence(&module.path, format!("the module on disk is {version}"))
        }
        None => Draft::new(code::REBOOT_PENDING, "packages of the driver ask for a reboot"),
    };
    if let Some(asked) = asked {
        draft = draft.evidence(&asked.source, asked.value.join(", "));
    } else if other.is_none() || fits {
        return None;
    }
    Some(draft.root_remedy("reboot when no job runs", vec!["reboot".to_owned()]).done())
}
