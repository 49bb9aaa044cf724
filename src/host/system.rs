//! The kernel, the distribution, and what stands between a driver and the kernel.

use std::collections::BTreeSet;
use std::path::Path;

use super::facts::{Note, Sourced, System};
use super::{files, sysfs, vendors};

/// Modules that matter besides those of the vendor table and NVIDIA's own.
const MODULES: [&str; 6] = ["nouveau", "nova_core", "vfio_pci", "gdrdrv", "nv_peer_mem", "radeon"];
const MAX_MODULES: u64 = 1 << 20;
const MAX_STAT: u64 = 4 << 20;

/// Kernel, architecture and distribution, which are always worth knowing. What a container says
/// ([`super::container`]) and [`details`] are left out.
pub fn basics(root: &Path) -> System {
    let kernel = kernel(root);
    let (distribution, distribution_like, distribution_version) = distribution(root);
    System {
        arch: arch(root, &kernel),
        kernel,
        distribution,
        distribution_like,
        distribution_version,
        ..System::default()
    }
}

/// What matters only where a driver is: boot time, Secure Boot, modules, other kernels.
pub fn details(root: &Path, system: &mut System, notes: &mut Vec<Note>) {
    system.boot_time = boot_time(root, notes);
    system.secure_boot = secure_boot(root);
    system.lockdown = lockdown(root);
    system.modules = modules(root, notes);
    system.other_kernels = files::names(root, "/lib/modules", notes)
        .into_iter()
        .filter(|name| *name != system.kernel && name.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    system.reboot_required = reboot_required(root, notes);
}

/// The name of the machine; empty where nothing tells it.
pub fn hostname(root: &Path) -> String {
    let name = ["/proc/sys/kernel/hostname", "/etc/hostname"];
    name.into_iter().find_map(|path| sysfs::text(root, path)).unwrap_or_default()
}

/// `uname -r`; `/proc/version` has it too, as its third word.
fn kernel(root: &Path) -> String {
    let version = || {
        let text = sysfs::text(root, "/proc/version")?;
        text.strip_prefix("Linux version ")?.split_whitespace().next().map(str::to_owned)
    };
    sysfs::text(root, "/proc/sys/kernel/osrelease").or_else(version).unwrap_or_default()
}

/// `uname -m`. Kernels before 6.1 have no file for it; then the machine is ours where the root is,
/// and told by the release's end or the dynamic linker's name below another root.
fn arch(root: &Path, kernel: &str) -> String {
    if let Some(arch) = sysfs::text(root, "/proc/sys/kernel/arch") {
        return arch;
    }
    if root == Path::new("/") {
        return std::env::consts::ARCH.to_owned();
    }
    let known = ["x86_64", "aarch64", "ppc64le", "riscv64"];
    if let Some(arch) = known.into_iter().find(|arch| kernel.ends_with(arch)) {
        return arch.to_owned();
    }
    let linkers = [
        ("/lib64/ld-linux-x86-64.so.2", "x86_64"),
        ("/lib/ld-linux-aarch64.so.1", "aarch64"),
        ("/lib64/ld64.so.2", "ppc64le"),
        ("/lib/ld-linux-riscv64-lp64d.so.1", "riscv64"),
    ];
    let linker = linkers.into_iter().find(|(path, _)| files::exists(root, path));
    linker.map_or("x86_64", |(_, arch)| arch).to_owned()
}

fn distribution(root: &Path) -> (Option<String>, Vec<String>, Option<String>) {
    let paths = ["/etc/os-release", "/usr/lib/os-release"];
    let text = paths.into_iter().find_map(|path| sysfs::text(root, path)).unwrap_or_default();
    let field = |name: &str| os_release(&text, name).filter(|value| !value.is_empty());
    let like = field("ID_LIKE").unwrap_or_default();
    (
        field("ID").map(|id| id.to_lowercase()),
        like.split_whitespace().map(str::to_lowercase).collect(),
        field("VERSION_ID"),
    )
}

/// A value of `os-release`, which a shell could read: quotes and backslashes undone (os-release(5)).
pub fn os_release(text: &str, name: &str) -> Option<String> {
    let lines = text.lines().map(str::trim);
    let value = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).next_back()?;
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    let inner = match quote {
        Some(quote) => {
            let inner = &value[1..];
            inner.strip_suffix(quote).unwrap_or(inner)
        }
        None => value,
    };
    if quote == Some('\'') {
        return Some(inner.to_owned());
    }
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    Some(plain)
}

/// `btime` of `/proc/stat`. On a machine with many processors the kernel takes milliseconds for
/// the file, so it is read only where the time matters.
fn boot_time(root: &Path, notes: &mut Vec<Note>) -> Option<i64> {
    let text = files::text(root, "/proc/stat", MAX_STAT, notes)?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// The variable's four bytes of attributes, then its value (UEFI, section 3.3).
fn secure_boot(root: &Path) -> Option<Sourced<bool>> {
    const VARIABLE: &str =
        "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    let bytes = sysfs::bytes(root, VARIABLE, 8)?;
    Some(Sourced::new(*bytes.get(4)? == 1, VARIABLE))
}

/// The word in brackets of `none [integrity] confidentiality`.
fn lockdown(root: &Path) -> Option<Sourced<String>> {
    const FILE: &str = "/sys/kernel/security/lockdown";
    let text = sysfs::text(root, FILE)?;
    let word = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    Some(Sourced::new(word?.to_owned(), FILE))
}

/// What matters of the modules that are loaded, by name.
fn modules(root: &Path, notes: &mut Vec<Note>) -> Vec<String> {
    let of_vendors = || vendors::ALL.iter().flat_map(|vendor| vendor.modules).copied();
    let text = files::text(root, "/proc/modules", MAX_MODULES, notes).unwrap_or_default();
    let listed = text.lines().filter_map(|line| line.split(' ').next());
    let matters = |name: &&str| {
        name.starts_with("nvidia") || MODULES.contains(name) || of_vendors().any(|of| of == *name)
    };
    let mut all: BTreeSet<String> = listed.filter(matters).map(str::to_owned).collect();
    // What is built into the kernel, or hidden from a container, is in sysfs only.
    for name in MODULES.into_iter().chain(of_vendors()).chain(["nvidia_uvm", "nvidia_drm"]) {
        if !all.contains(name) && is_loaded(root, name) {
            all.insert(name.to_owned());
        }
    }
    all.into_iter().collect()
}

/// Whether a module is in the kernel, for good or until it has finished to leave.
pub fn is_loaded(root: &Path, name: &str) -> bool {
    let folder = format!("/sys/module/{name}");
    files::exists(root, &folder)
        && sysfs::text(root, &format!("{folder}/initstate")).is_none_or(|state| state == "live")
}

/// Debian's mark that a restart is due, and the packages that ask for it.
fn reboot_required(root: &Path, notes: &mut Vec<Note>) -> Option<Sourced<Vec<String>>> {
    let file = ["/run/reboot-required", "/var/run/reboot-required"]
        .into_iter()
        .find(|file| files::exists(root, file))?;
    let packages = files::text(root, format!("{file}.pkgs"), 1 << 16, notes).unwrap_or_default();
    let packages: BTreeSet<&str> =
        packages.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Some(Sourced::new(packages.into_iter().map(str::to_owned).collect(), file))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::fuzz;

    #[test]
    fn values_of_os_release() {
        let text = "NAME=\"Ubuntu\"\nID=ubuntu\nVERSION_ID=\"24.04\"\nID_LIKE='debian x'\n\
                    A=\"say \\\"hi\\\" for \\$1\"\nB=\nC=\"open\nID_LIKE_NOT=1\nD=1\nD=2\n#E=1\n";
        for (name, value) in [
            ("ID", Some("ubuntu")),
            ("VERSION_ID", Some("24.04")),
            ("ID_LIKE", Some("debian x")),
            ("A", Some("say \"hi\" for $1")),
            ("B", Some("")),
            ("C", Some("open")),
            ("D", Some("2")),
            ("E", None),
            ("VERSION", None),
        ] {
            assert_eq!(os_release(text, name).as_deref(), value, "{name}");
        }
    }

    #[test]
    fn files_that_nobody_wrote() {
        let text = "NAME=\"Ubuntu\"\nID=ubuntu\nVERSION_ID=\"24.04\"\nID_LIKE='debian \\x'\n";
        fuzz::run_text("os-release", &[text], |text| {
            os_release(text, "ID");
            os_release(text, "ID_LIKE");
        });
    }

    proptest! {
        #[test]
        fn no_os_release_is_too_strange(text in "(?s)[ -~\n\u{e9}]{0,200}") {
            os_release(&text, "ID");
            os_release(&format!("ID={text}"), "ID");
        }

        #[test]
        fn a_value_that_was_quoted_is_read_back(value in "[ -~]{0,40}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let read = os_release(&format!("X=1\nID=\"{quoted}\"\n"), "ID");
            // What stands at the end of a line is no part of a value.
            prop_assert_eq!(read, Some(value));
        }
    }
}
