//! The driver in the kernel: its version, its modules, who holds them, its GPUs and settings.
//!
//! - K1: the version is what the module itself says in `/proc/driver/nvidia/version`; where that
//!   file is not there, what sysfs says of the module.

use std::path::Path;

use super::version;
use crate::host::facts::Note;
use crate::host::facts::nvidia::{Flavour, LoadedModule, ProcGpu};
use crate::host::files;

/// Where the module says its version.
pub const PROC_VERSION: &str = "/proc/driver/nvidia/version";
const SYS_MODULE: &str = "/sys/module/nvidia";
const PROC_GPUS: &str = "/proc/driver/nvidia/gpus";
const PROC_PARAMS: &str = "/proc/driver/nvidia/params";
/// Bytes of a small file of the kernel.
const MAX_SMALL: u64 = 64 << 10;
/// Bytes of `/proc/modules`.
const MAX_MODULES: u64 = 1 << 20;
/// GPUs in the driver's list.
const MAX_GPUS: usize = 1_024;

/// Modules of other names that use NVIDIA's.
const OTHER_MODULES: &[&str] = &["gdrdrv", "nv_peer_mem"];

/// What the driver starts with, of the settings that decide something
/// (kernel-open/nvidia/nv-reg.h).
const PARAMS: &[(&str, &str)] = &[
    ("ModifyDeviceFiles", "1"),
    ("DeviceFileUID", "0"),
    ("DeviceFileGID", "0"),
    ("DeviceFileMode", "438"),
    ("RegisterPCIDriver", "1"),
    ("NvLinkDisable", "0"),
    ("RegistryDwords", "\"\""),
    ("RegistryDwordsPerDevice", "\"\""),
    ("GpuBlacklist", "\"\""),
    ("ExcludedGpus", "\"\""),
];

/// The module in the kernel; `None` where none is loaded, or it does not say its version.
pub fn loaded(root: &Path, notes: &mut Vec<Note>) -> Option<LoadedModule> {
    if let Some(text) = files::text(root, PROC_VERSION, MAX_SMALL, notes) {
        if let Some((version, flavour)) = parse_version(&text) {
            return Some(LoadedModule { version, flavour, source: PROC_VERSION.to_owned() });
        }
        notes.push(files::note(Path::new(PROC_VERSION), "no version stands in it"));
    }
    let source = format!("{SYS_MODULE}/version");
    let text = files::text(root, &source, MAX_SMALL, notes)?;
    let version = version::first_in(&text)?.to_owned();
    Some(LoadedModule { version, flavour: Flavour::Unknown, source })
}

/// Reads the line `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  …`.
pub(super) fn parse_version(text: &str) -> Option<(String, Flavour)> {
    let line = text.lines().find(|line| line.starts_with("NVRM version:"))?;
    let (before, after) = line.split_once("Kernel Module")?;
    let is_open = before.trim_end().ends_with("Open");
    let flavour = if is_open { Flavour::Open } else { Flavour::Proprietary };
    Some((version::first_in(after)?.to_owned(), flavour))
}

/// The driver's modules that are loaded, sorted.
pub fn modules(root: &Path, notes: &mut Vec<Note>) -> Vec<String> {
    let text = files::text(root, "/proc/modules", MAX_MODULES, notes).unwrap_or_default();
    let first_word = |line: &str| line.split_ascii_whitespace().next().map(str::to_owned);
    let mut modules: Vec<String> = text.lines().filter_map(first_word).collect();
    modules.extend(files::names(root, "/sys/module", notes));
    modules.retain(|name| {
        let rest = name.strip_prefix("nvidia");
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
            && !name.starts_with("nvidia_wmi")
            || OTHER_MODULES.contains(&name.as_str())
    });
    modules.sort_unstable();
    modules.dedup();
    modules
}

/// How many use the module; `None` is not known.
pub fn references(root: &Path, notes: &mut Vec<Note>) -> Option<u32> {
    files::text(root, format!("{SYS_MODULE}/refcnt"), MAX_SMALL, notes)?.trim().parse().ok()
}

/// The modules that use the module.
pub fn holders(root: &Path, notes: &mut Vec<Note>) -> Vec<String> {
    files::names(root, format!("{SYS_MODULE}/holders"), notes)
}

/// The driver's own list of GPUs, by address.
pub fn gpus(root: &Path, notes: &mut Vec<Note>) -> Vec<ProcGpu> {
    let folders = files::noted(files::list(root, PROC_GPUS, MAX_GPUS), notes).unwrap_or_default();
    let read = |address: &String| {
        let path = format!("{PROC_GPUS}/{address}/information");
        let text = files::text(root, path, MAX_SMALL, notes).unwrap_or_default();
        parse_information(address, &text)
    };
    let mut gpus: Vec<ProcGpu> = folders.names.iter().map(read).collect();
    gpus.sort_by(|a, b| a.address.cmp(&b.address));
    gpus
}

/// Reads the `Name: value` lines of a GPU; until a GPU is first used the driver prints question
/// marks.
pub(super) fn parse_information(address: &str, text: &str) -> ProcGpu {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim).filter(|value| !value.is_empty() && !value.contains('?'))
    };
    ProcGpu {
        address: address.to_lowercase(),
        model: field("Model").filter(|model| *model != "Unknown").map(str::to_owned),
        uuid: field("GPU UUID").map(str::to_owned),
        minor: field("Device Minor").and_then(|minor| minor.parse().ok()),
    }
}

/// The driver's settings that differ from what it starts with, of those that decide something.
pub fn params(root: &Path, notes: &mut Vec<Note>) -> Vec<(String, String)> {
    let text = files::text(root, PROC_PARAMS, MAX_SMALL, notes).unwrap_or_default();
    let differs = |(name, value): &(&str, &str)| {
        PARAMS.iter().any(|(known, start)| known == name && value != start)
    };
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    let pairs = pairs.map(|(name, value)| (name.trim(), value.trim())).filter(differs);
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tests::Root;

    #[test]
    fn the_loaded_version_is_read_from_every_form() {
        let proprietary = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.135  \
                           Fri Jan 10 00:00:00 UTC 2025\nGCC version:  gcc version 12.2.0\n";
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  \
                    Release Build  (dvs-builder@U22-I3)  Tue Sep 23 10:11:16 UTC 2025\n";
        let arm = "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.82.07  Release\n";
        let old = "NVRM version: NVIDIA UNIX aarch64 Kernel Module  470.256.02  Thu May  2\n";
        for (text, version, flavour) in [
            (proprietary, "550.135", Flavour::Proprietary),
            (open, "580.95.05", Flavour::Open),
            (arm, "580.82.07", Flavour::Open),
            (old, "470.256.02", Flavour::Proprietary),
        ] {
            assert_eq!(parse_version(text), Some((version.to_owned(), flavour)), "{text}");
        }
        for text in ["", "GCC version: gcc 550.135\n", "NVRM version: 550.135", "\0\0"] {
            assert_eq!(parse_version(text), None, "{text}");
        }
    }

    #[test]
    fn sysfs_answers_where_proc_does_not() {
        let root = Root::new(&[("sys/module/nvidia/version", "535.261.03\n")]);
        let mut notes = Vec::new();
        let loaded = |notes: &mut _| loaded(root.path(), notes).expect("loaded");
        assert_eq!(loaded(&mut notes).source, "/sys/module/nvidia/version");
        assert_eq!(notes, []);
        root.file("proc/driver/nvidia/version", "what?\n");
        assert_eq!(loaded(&mut notes).version, "535.261.03");
        assert_eq!(notes[0].source, PROC_VERSION);
    }

    #[test]
    fn modules_settings_and_holders_are_read() {
        let root = Root::new(&[
            ("proc/modules", "nvidia_uvm 4096 0 - Live 0x0\nnvidia 1 3 a, Live\nnvidiafb 1 0\n"),
            ("sys/module/nvidia_drm/refcnt", "2"),
            ("sys/module/nvidia_wmi_ec_backlight/refcnt", "0"),
            ("sys/module/gdrdrv/refcnt", "0"),
            ("sys/module/nvidia/refcnt", "12\n"),
            ("sys/module/nvidia/holders/nvidia_uvm", ""),
            (
                "proc/driver/nvidia/params",
                "ResmanDebugLevel: 4294967295\nModifyDeviceFiles: 0\nDeviceFileMode: 438\n\
                 RegistryDwords: \"\"\nExcludedGpus: \"GPU-1\"\n",
            ),
        ]);
        let (root, notes) = (root.path(), &mut Vec::new());
        assert_eq!(modules(root, notes), ["gdrdrv", "nvidia", "nvidia_drm", "nvidia_uvm"]);
        assert_eq!(references(root, notes), Some(12));
        assert_eq!(holders(root, notes), ["nvidia_uvm"]);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [pair("ModifyDeviceFiles", "0"), pair("ExcludedGpus", "\"GPU-1\"")];
        assert_eq!(params(root, notes), expected);
        assert_eq!(*notes, []);
    }

    #[test]
    fn the_drivers_gpus_are_read() {
        let used = "Model: \t\t NVIDIA RTX A6000\nIRQ:   \t\t 44\n\
                    GPU UUID: \t GPU-4e0b1b2c-0000-0000-0000-000000000000\nDevice Minor: \t 1\n";
        let unused = "Model: \t\t Unknown\nGPU UUID: \t GPU-????????-????-????-????-????????????\n\
                      Device Minor: \t x\n";
        let root = Root::new(&[
            ("proc/driver/nvidia/gpus/0000:DC:00.0/information", used),
            ("proc/driver/nvidia/gpus/0000:3b:00.0/information", unused),
            ("proc/driver/nvidia/gpus/0000:5e:00.0/registry", ""),
        ]);
        let gpus = gpus(root.path(), &mut Vec::new());
        let none = |address: &str| ProcGpu { address: address.into(), ..ProcGpu::default() };
        assert_eq!(gpus[0], none("0000:3b:00.0"));
        assert_eq!(gpus[1], none("0000:5e:00.0"));
        assert_eq!(gpus[2].address, "0000:dc:00.0");
        assert_eq!(gpus[2].model.as_deref(), Some("NVIDIA RTX A6000"));
        assert!(gpus[2].uuid.as_deref().is_some_and(|uuid| uuid.starts_with("GPU-4e0b")));
        assert_eq!(gpus[2].minor, Some(1));
    }
}
