//! Packages of drivers: which are installed, what the logs say of their upgrades, and what upgrades
//! them without being asked.
//!
//! - K1: nothing is asked of a package manager; its own files are read, and none of its locks taken.
//! - K2: a log is read from its end, and at most `MAX_LOG` bytes of it: what broke a machine today
//!   does not stand in last year's lines.
//! - K3: only packages of drivers count ([`is_driver`]); a toolkit or a container runtime is none.

mod apt;
mod dpkg;
mod rpm;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use super::facts::{Note, PackageChange, Packages, Sourced};
use super::files;
use crate::diagnose::secrets;

/// Bytes of one log that are read, compressed or not.
const MAX_LOG: u64 = 4 << 20;
/// Bytes that are read of all logs of one kind.
const MAX_LOGS: u64 = 12 << 20;
/// Changes that are kept, the newest.
const MAX_CHANGES: usize = 200;
/// Bytes of the list of installed packages.
const MAX_STATUS: u64 = 32 << 20;
/// Bytes of a file of settings.
const MAX_SETTINGS: u64 = 256 << 10;
/// Files in a folder of settings, or rotated logs, that are read.
const MAX_FILES: usize = 64;

/// Reads all of it.
pub fn read(root: &Path, notes: &mut Vec<Note>) -> Packages {
    let manager = manager(root);
    let mut packages = Packages {
        manager: manager.map(str::to_owned),
        run_installer: run_installer(root),
        ..Packages::default()
    };
    match manager {
        Some("apt") => {
            packages.installed = dpkg::installed(root, notes);
            packages.history = joined(apt::history(root, notes), dpkg::log(root, notes));
            (packages.automatic_upgrades, packages.upgrade_blacklist) = apt::automatic(root, notes);
        }
        Some("dnf") => {
            packages.history = rpm::dnf(root, notes);
            if packages.history.is_empty() {
                packages.history = rpm::yum(root, notes);
            }
            (packages.automatic_upgrades, packages.upgrade_blacklist) = rpm::automatic(root, notes);
        }
        Some("zypper") => packages.history = rpm::zypper(root, notes),
        Some("pacman") => packages.history = rpm::pacman(root, notes),
        _ => {}
    }
    let database = ["/var/lib/rpm", "/usr/lib/sysimage/rpm"];
    let mut database = database.into_iter().filter(|path| files::exists(root, path));
    let has_database = matches!(manager, Some("dnf" | "zypper"));
    if let Some(path) = database.next().filter(|_| has_database) {
        notes.push(files::note(Path::new(path), "what rpm has installed is not read"));
    }
    let excess = packages.history.len().saturating_sub(MAX_CHANGES);
    packages.history.drain(..excess);
    packages
}

/// What apt did, which says who asked, and what only dpkg knows: a package that was installed from
/// a file. By time, which both write alike.
fn joined(mut apt: Vec<PackageChange>, dpkg: Vec<PackageChange>) -> Vec<PackageChange> {
    fn key(change: &PackageChange) -> (String, Option<String>) {
        (change.package.clone(), change.to.clone().or_else(|| change.from.clone()))
    }
    let known: BTreeSet<_> = apt.iter().map(key).collect();
    apt.extend(dpkg.into_iter().filter(|change| !known.contains(&key(change))));
    apt.sort_by(|a, b| a.at.cmp(&b.at));
    apt
}

/// What manages packages, by what it keeps on disk, and else by its program.
pub fn manager(root: &Path) -> Option<&'static str> {
    let marks = [
        ("/var/lib/dpkg/status", "apt"),
        ("/var/lib/pacman/local", "pacman"),
        ("/etc/zypp", "zypper"),
        ("/etc/dnf", "dnf"),
        ("/etc/yum.conf", "dnf"),
        ("/var/log/dnf.rpm.log", "dnf"),
        ("/var/log/yum.log", "dnf"),
        ("/var/log/apt/history.log", "apt"),
        ("/usr/bin/apt-get", "apt"),
        ("/usr/bin/dnf", "dnf"),
        ("/usr/bin/yum", "dnf"),
        ("/usr/bin/zypper", "zypper"),
        ("/usr/bin/pacman", "pacman"),
    ];
    marks.into_iter().find(|(path, _)| files::exists(root, path)).map(|(_, name)| name)
}

/// What NVIDIA's `.run` installer leaves; no package has one of these.
pub fn run_installer(root: &Path) -> Vec<String> {
    let traces = [
        "/usr/bin/nvidia-uninstall",
        "/usr/bin/nvidia-installer",
        "/var/lib/nvidia/log",
        "/var/log/nvidia-installer.log",
    ];
    traces.into_iter().filter(|path| files::exists(root, path)).map(str::to_owned).collect()
}

/// What names of packages of drivers start with, over distributions.
const DRIVERS: [&str; 26] = [
    "nvidia",
    "libnvidia",
    "cuda-drivers",
    "cuda-compat",
    "libcuda1",
    "libcuda.so",
    "xserver-xorg-video-nvidia",
    "xorg-x11-drv-nvidia",
    "xorg-x11-nvidia",
    "x11-video-nvidia",
    "linux-modules-nvidia",
    "linux-objects-nvidia",
    "linux-signatures-nvidia",
    "kmod-nvidia",
    "akmod-nvidia",
    "dkms-nvidia",
    "lib32-nvidia",
    "datacenter-gpu-manager",
    "amdgpu",
    "rocm-dkms",
    "enflame",
    "topsrider",
    "ascend-driver",
    "Ascend-",
    "habanalabs",
    "cambricon",
];

/// What they start with and are no driver all the same.
const NO_DRIVERS: [&str; 9] = [
    "nvidia-container",
    "libnvidia-container",
    "nvidia-docker",
    "nvidia-cuda-",
    "nvidia-cudnn",
    "nvidia-nsight",
    "nvidia-opencl-dev",
    "nvidia-visual-profiler",
    "nvidia-profiler",
];

/// Whether a package is one of a driver (K3).
pub fn is_driver(name: &str) -> bool {
    DRIVERS.iter().any(|start| name.starts_with(start))
        && !NO_DRIVERS.iter().any(|start| name.starts_with(start))
        // A repository that was set up installs nothing.
        && !name.contains("-local-repo-")
}

/// A command line as it is told: without what is nobody's business, as the password of a proxy.
fn command_line(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    short(&secrets::redact(&words))
}

/// The text of a log: its end where it is long, all of it where it is compressed (K2).
fn log(root: &Path, path: &str, notes: &mut Vec<Note>) -> Option<String> {
    if path.strip_suffix(".gz").is_none() {
        return files::noted(files::read_tail(root, path, MAX_LOG), notes);
    }
    let file = match files::open(root, path) {
        Ok(opened) => opened.file,
        Err(error) if files::is_absence(&error) => return None,
        Err(error) => {
            notes.push(files::note(Path::new(path), &error));
            return None;
        }
    };
    let mut bytes = Vec::new();
    let unpacked = flate2::read::MultiGzDecoder::new(file.take(MAX_LOG));
    // What came before the end of a file that is cut off is as good as a whole one.
    if let Err(error) = unpacked.take(MAX_LOG).read_to_end(&mut bytes) {
        notes.push(files::note(Path::new(path), &error));
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The start of a text that stands in every change of a log, so that a strange log cannot make the
/// facts larger than itself.
fn short(text: &str) -> String {
    text.chars().take(400).collect()
}

/// The changes that a log and its rotated forms tell, oldest first: `name`, then `name.1`,
/// `name.2.gz`, `name-20251003`, as far as there are bytes left to read.
fn changes(
    root: &Path,
    folder: &str,
    name: &str,
    notes: &mut Vec<Note>,
    parse: impl Fn(&str, &str) -> Vec<PackageChange>,
) -> Vec<PackageChange> {
    let listing = files::noted(files::list(root, folder, 65_536), notes).unwrap_or_default();
    let mut logs: Vec<(Age, String)> =
        listing.names.into_iter().filter_map(|file| Some((Age::of(&file, name)?, file))).collect();
    logs.sort();
    let mut newest_first: Vec<Vec<PackageChange>> = Vec::new();
    let (mut count, mut left) = (0, MAX_LOGS);
    for (_, file) in logs.into_iter().take(MAX_FILES) {
        if count >= MAX_CHANGES || left == 0 {
            break;
        }
        let path = format!("{folder}/{file}");
        let Some(text) = log(root, &path, notes) else { continue };
        left = left.saturating_sub(text.len() as u64);
        let found = parse(&text, &path);
        count += found.len();
        newest_first.push(found);
    }
    newest_first.into_iter().rev().flatten().collect()
}

/// How old a rotated log is: the current one, then by number, then by date, the newest first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    Current,
    Number(u32),
    Date(std::cmp::Reverse<u32>),
}

impl Age {
    fn of(file: &str, name: &str) -> Option<Self> {
        let rest = file.strip_prefix(name)?;
        let rest = rest.strip_suffix(".gz").unwrap_or(rest);
        if rest.is_empty() {
            return Some(Self::Current);
        }
        if let Some(number) = rest.strip_prefix('.') {
            return Some(Self::Number(number.parse().ok()?));
        }
        Some(Self::Date(std::cmp::Reverse(rest.strip_prefix('-')?.parse().ok()?)))
    }
}

/// A setting that is on or off, where it was found.
type Automatic = (Option<Sourced<bool>>, Vec<String>);
