//! The driver's device nodes, its daemons and its helper.
//!
//! - N1: no device is opened: that alone would start a GPU. Whether a node may be used is asked of
//!   the kernel by `access(2)`, and only where the root is this machine's.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use crate::host::elf;
use crate::host::facts::nvidia::{DeviceNode, FabricManager};
use crate::host::facts::{Note, PciDevice, PciKind, Sourced};
use crate::host::files;

/// Nodes that belong to no single GPU.
const CONTROL: &[&str] =
    &["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps"];
/// WSL's node, through which the host's driver is reached.
const WSL_NODE: &str = "dxg";
/// Processes that are looked at.
const MAX_PROCESSES: usize = 32_768;
/// The name of the fabric manager's process, as the kernel cuts it.
const FABRIC_COMM: &str = "nv-fabricmanage";
const FABRIC_BINARIES: &[&str] = &["/usr/bin/nv-fabricmanager", "/usr/sbin/nv-fabricmanager"];
const FABRIC_PID: &str = "/run/nvidia-fabricmanager/nv-fabricmanager.pid";
const MODPROBES: &[&str] = &["/usr/bin/nvidia-modprobe", "/usr/sbin/nvidia-modprobe"];
const PERSISTENCED: &[&str] =
    &["/run/nvidia-persistenced/socket", "/var/run/nvidia-persistenced/socket"];

/// The nodes that exist: those of the GPUs by number, then the others by name.
pub fn read(root: &Path, notes: &mut Vec<Note>) -> Vec<DeviceNode> {
    let mut found: Vec<(Option<u32>, String)> = Vec::new();
    for name in files::names(root, "/dev", notes) {
        let number = name.strip_prefix("nvidia").and_then(number);
        if number.is_some() || name == WSL_NODE || CONTROL.contains(&name.as_str()) {
            found.push((number, name));
        }
    }
    found.sort_by_key(|(number, name)| (number.is_none(), *number, name.clone()));
    let is_this_machine = root == Path::new("/");
    let node = |(_, name): (_, String)| {
        let path = format!("/dev/{name}");
        let is_usable = is_this_machine.then(|| is_usable(&path));
        DeviceNode { path, is_usable }
    };
    found.into_iter().map(node).collect()
}

/// Whether this process may read and write a node, or look into a folder of nodes. What is no
/// device, as the empty file that a container build leaves, is not usable.
fn is_usable(path: &str) -> bool {
    let Ok(metadata) = std::fs::metadata(path) else { return false };
    if metadata.is_dir() {
        return access(path, AccessFlags::R_OK | AccessFlags::X_OK).is_ok();
    }
    metadata.file_type().is_char_device()
        && access(path, AccessFlags::R_OK | AccessFlags::W_OK).is_ok()
}

fn number(digits: &str) -> Option<u32> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { digits.parse().ok() } else { None }
}

/// Whether the machine has nodes of the driver at all; WSL's is none of them.
pub fn has_any(nodes: &[DeviceNode]) -> bool {
    nodes.iter().any(|node| !is_wsl_node(node))
}

/// Whether a node is WSL's.
pub fn is_wsl_node(node: &DeviceNode) -> bool {
    node.path == "/dev/dxg"
}

/// Whether the persistence daemon listens.
pub fn has_persistence_daemon(root: &Path) -> bool {
    PERSISTENCED.iter().any(|path| files::exists(root, path))
}

/// The `nvidia-modprobe` that makes nodes for whoever calls it.
pub fn modprobe_helper(root: &Path) -> Option<String> {
    let is_setuid = |path: &&&str| {
        files::metadata(root, path)
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o4000 != 0)
    };
    MODPROBES.iter().find(is_setuid).map(|path| (*path).to_owned())
}

/// The fabric manager, where a switch needs one.
pub fn fabric_manager(root: &Path, pci: &[PciDevice], notes: &mut Vec<Note>) -> FabricManager {
    if !pci.iter().any(|device| device.kind == PciKind::NvSwitch) {
        return FabricManager::default();
    }
    let processes = files::noted(files::list(root, "/proc", MAX_PROCESSES), notes);
    let processes = processes.unwrap_or_default().names;
    let is_fabric = |pid: &&String| {
        // A process that ended meanwhile has no file any more.
        files::read_text(root, format!("/proc/{pid}/comm"), 64)
            .is_ok_and(|comm| comm.is_some_and(|comm| comm.trim_end() == FABRIC_COMM))
    };
    let pid = processes.iter().filter(|name| number(name).is_some()).find(is_fabric);
    let pid = pid.cloned().or_else(|| hidden_fabric_pid(root));
    FabricManager { pid: pid.and_then(|pid| pid.parse().ok()), version: fabric_version(root) }
}

/// What the fabric manager's file says, where the processes of others are not shown (`hidepid`, or
/// a container with the host's `/run`). Elsewhere the file may be of one that died.
fn hidden_fabric_pid(root: &Path) -> Option<String> {
    if files::exists(root, "/proc/1") {
        return None;
    }
    let text = files::read_text(root, FABRIC_PID, 64).ok()??;
    Some(text.trim().to_owned())
}

/// The version that stands in the fabric manager's program.
fn fabric_version(root: &Path) -> Option<Sourced<String>> {
    FABRIC_BINARIES.iter().find_map(|path| {
        let opened = files::open(root, path).ok()?;
        let version = elf::driver_version(&elf::rodata(&opened.file).ok()?)?;
        Some(Sourced::new(version, *path))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::host::elf::tests::elf_file;
    use crate::host::tests::Root;

    #[test]
    fn nodes_are_listed_in_order() {
        let root = Root::new(&[
            ("dev/nvidia10", ""),
            ("dev/nvidia2", ""),
            ("dev/nvidiactl", ""),
            ("dev/nvidia-uvm", ""),
            ("dev/nvidia-caps/nvidia-cap1", ""),
            ("dev/nvidia-fs0", ""),
            ("dev/nvidia", ""),
            ("dev/nvidiax", ""),
            ("dev/dxg", ""),
            ("dev/nvidia99999999999", ""),
        ]);
        let nodes = read(root.path(), &mut Vec::new());
        let paths: Vec<&str> = nodes.iter().map(|node| node.path.as_str()).collect();
        let expected = [
            "/dev/nvidia2",
            "/dev/nvidia10",
            "/dev/dxg",
            "/dev/nvidia-caps",
            "/dev/nvidia-uvm",
            "/dev/nvidiactl",
        ];
        assert_eq!(paths, expected);
        assert!(nodes.iter().all(|node| node.is_usable.is_none()));
        assert!(has_any(&nodes) && !has_any(&nodes[2..3]));
        assert!(is_usable("/dev/null") && is_usable("/dev"));
        assert!(!is_usable("/proc/self/status") && !is_usable("/dev/nvidia-none"));
    }

    #[test]
    fn helper_and_daemon_are_seen() {
        let root = Root::new(&[("run/nvidia-persistenced/socket", "")]);
        assert!(has_persistence_daemon(root.path()));
        let helper = root.file("usr/bin/nvidia-modprobe", "");
        assert_eq!(modprobe_helper(root.path()), None);
        fs::set_permissions(helper, fs::Permissions::from_mode(0o4755)).expect("our file");
        assert_eq!(modprobe_helper(root.path()).as_deref(), Some("/usr/bin/nvidia-modprobe"));
    }

    #[test]
    fn the_fabric_manager_is_looked_for_where_a_switch_is() {
        let root = Root::new(&[
            ("proc/1/comm", "systemd\n"),
            ("proc/4711/comm", "nv-fabricmanage\n"),
            ("proc/self/comm", "nv-fabricmanage\n"),
        ]);
        let program = elf_file(&[(".rodata", b"Fabric Manager\x00580.95.05\x00")]);
        root.file("usr/bin/nv-fabricmanager", program);
        let pci = [PciDevice { kind: PciKind::NvSwitch, ..PciDevice::default() }];
        let none = fabric_manager(root.path(), &[PciDevice::default()], &mut Vec::new());
        assert_eq!(none, FabricManager::default());
        let fabric = fabric_manager(root.path(), &pci, &mut Vec::new());
        assert_eq!(fabric.pid, Some(4711));
        let version = Sourced::new("580.95.05".to_owned(), "/usr/bin/nv-fabricmanager");
        assert_eq!(fabric.version, Some(version));
        let root = Root::new(&[("run/nvidia-fabricmanager/nv-fabricmanager.pid", "99\n")]);
        let pid = |root: &Root| fabric_manager(root.path(), &pci, &mut Vec::new()).pid;
        assert_eq!(pid(&root), Some(99));
        root.file("proc/1/comm", "systemd\n");
        assert_eq!(pid(&root), None);
    }
}
