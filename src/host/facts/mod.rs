//! What is true of a machine, as far as preflight judges it: plain values, written to a file and
//! read back, so that a host can be judged elsewhere and a verdict replayed.
//!
//! - F1: nothing here decides. A fact that could not be read is `None` (or a [`Note`]), never a guess.
//! - F2: a fact that may become evidence carries its source: the file, or the call.
//! - F3: the form is versioned ([`SCHEMA`]); fields may be added, an unknown one is ignored, a
//!   missing one is "not known".

pub mod nvidia;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Version of the serialized form.
pub const SCHEMA: u32 = 1;

/// A value and where it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sourced<T> {
    /// What it says.
    pub value: T,
    /// The file (as seen from the machine, without the root it was read below) or the call.
    pub source: String,
}

impl<T> Sourced<T> {
    /// Joins a value with its source.
    pub fn new(value: T, source: impl Into<String>) -> Self {
        Self { value, source: source.into() }
    }
}

/// Something that could not be read, or not understood; it is never an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The file or call.
    pub source: String,
    /// Why, in words.
    pub what: String,
}

/// Everything preflight knows of one machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostFacts {
    /// [`SCHEMA`]
    pub schema: u32,
    /// The version of nvlaunch that read them.
    pub nvlaunch: String,
    /// The machine's name.
    pub hostname: String,
    /// What could not be read.
    pub notes: Vec<Note>,
    /// Kernel, distribution, container.
    pub system: System,
    /// Accelerators (and NVIDIA's switches) on the PCI bus, of every known vendor, by address.
    pub pci: Vec<PciDevice>,
    /// Every known vendor of which anything was seen, in the order of the vendor table.
    pub vendors: Vec<VendorFacts>,
    /// NVIDIA's driver; `None` where nothing of NVIDIA's was seen.
    pub nvidia: Option<nvidia::Nvidia>,
    /// Packages: driver upgrades, holds, automatic upgrades.
    pub packages: Packages,
    /// `/dev/shm`, limits.
    pub resources: Resources,
    /// Network interfaces and InfiniBand.
    pub network: Network,
    /// The Python environment of the ranks.
    pub python: Python,
    /// The variables that decide something, of the environment the ranks will get.
    pub variables: BTreeMap<String, String>,
    /// Where those were set that are not from the environment: the profile's file and line, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variables_from: BTreeMap<String, String>,
    /// Files that NCCL reads as if they were variables.
    pub nccl_conf: Vec<ConfFile>,
}

/// Kernel, distribution, container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct System {
    /// `uname -r`
    pub kernel: String,
    /// `uname -m`
    pub arch: String,
    /// `ID` of `/etc/os-release`, as `ubuntu`.
    pub distribution: Option<String>,
    /// `ID_LIKE` of `/etc/os-release`, in words.
    pub distribution_like: Vec<String>,
    /// `VERSION_ID` of `/etc/os-release`.
    pub distribution_version: Option<String>,
    /// Seconds since the epoch at which the kernel was started.
    pub boot_time: Option<i64>,
    /// What kind of container this is, if one.
    pub container: Option<Container>,
    /// Whether Secure Boot is on; `None` is not known (no EFI variables).
    pub secure_boot: Option<Sourced<bool>>,
    /// `none`, `integrity` or `confidentiality`.
    pub lockdown: Option<Sourced<String>>,
    /// Modules that are loaded and matter here: `nouveau`, `nvidia…`, `vfio_pci`, `amdgpu`, `enflame`…
    pub modules: Vec<String>,
    /// Other kernels that have a folder in `/lib/modules`.
    pub other_kernels: Vec<String>,
    /// `/run/reboot-required` exists; the packages that ask for it.
    pub reboot_required: Option<Sourced<Vec<String>>>,
}

/// A container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// `docker`, `podman`, `kubernetes`, `lxc`, or what `/run/systemd/container` says.
    pub kind: String,
    /// How it was recognised.
    pub source: String,
    /// Driver libraries that the runtime mounted into it, one mount point each.
    pub mounted_libraries: Vec<String>,
}

/// A device on the PCI bus.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PciDevice {
    /// Its address in sysfs' form, `0000:dc:00.0`, lower case.
    pub address: String,
    /// Vendor id, `0x10de`.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Class, as 0x030200.
    pub class: u32,
    /// What it is, by class and vendor.
    pub kind: PciKind,
    /// The name of the driver that is bound to it.
    pub driver: Option<String>,
    /// Whether the first four bytes of its configuration space read as all ones: it left the bus.
    pub is_off_bus: bool,
    /// Lanes now and at most.
    pub link_width: Option<(u32, u32)>,
    /// Its NUMA node.
    pub numa_node: Option<u32>,
    /// Whether it is a virtual function of another device.
    pub is_virtual_function: bool,
}

/// What a PCI device is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PciKind {
    /// It can run ranks.
    #[default]
    Accelerator,
    /// NVIDIA's `NVSwitch`.
    NvSwitch,
}

/// What is here of one vendor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VendorFacts {
    /// The vendor's name in the vendor table: `cuda`, `gcu`, `rocm`, `npu`, …
    pub name: String,
    /// Its accelerators on the PCI bus.
    pub pci: u32,
    /// Its device nodes, one per device (control nodes not counted).
    pub nodes: Vec<String>,
    /// Its kernel module, where one is loaded, with its version.
    pub module: Option<Sourced<String>>,
    /// Its management or collective libraries that were found.
    pub libraries: Vec<String>,
    /// Its visible-devices variable, where it is set in the ranks' environment.
    pub visible: Option<Sourced<String>>,
}

/// Packages of drivers, and what upgrades them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Packages {
    /// `apt`, `dnf`, `zypper`, `pacman`, as far as one is recognised.
    pub manager: Option<String>,
    /// Installed packages of drivers.
    pub installed: Vec<Package>,
    /// What the logs tell about driver packages, oldest first; the newest 200.
    pub history: Vec<PackageChange>,
    /// Whether packages are upgraded without being asked (`APT::Periodic::Unattended-Upgrade`,
    /// dnf-automatic's `apply_updates`).
    pub automatic_upgrades: Option<Sourced<bool>>,
    /// Patterns that automatic upgrades leave alone.
    pub upgrade_blacklist: Vec<String>,
    /// Traces of NVIDIA's `.run` installer.
    pub run_installer: Vec<String>,
}

/// An installed package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version, as the package manager writes it.
    pub version: String,
    /// Whether it is held back from upgrades.
    pub is_held: bool,
}

/// One change of a package, from a log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PackageChange {
    /// When, as the log writes it: `2025-10-03 06:50:54` (local time of the machine).
    pub at: String,
    /// `install`, `upgrade`, `remove`.
    pub action: String,
    /// The package.
    pub package: String,
    /// The version before, where there was one.
    pub from: Option<String>,
    /// The version after, where there is one.
    pub to: Option<String>,
    /// What was run, as `/usr/bin/unattended-upgrade`.
    pub command: Option<String>,
    /// Who asked (`Requested-By`), where the log says it.
    pub by: Option<String>,
    /// The log.
    pub source: String,
}

/// Shared memory and limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes of `/dev/shm` in all; `None` where it is not there or was not asked (another root).
    pub shm_bytes: Option<u64>,
    /// The limit on locked memory in bytes; `None` is unlimited or not known.
    pub memlock_soft: Option<u64>,
    /// The hard limit; `None` is unlimited or not known.
    pub memlock_hard: Option<u64>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
}

/// The network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Interfaces, by name.
    pub interfaces: Vec<Interface>,
    /// InfiniBand and `RoCE` devices.
    pub infiniband: Vec<InfinibandPort>,
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `operstate`: `up`, `down`, `unknown`.
    pub state: String,
    /// Whether it is the loopback.
    pub is_loopback: bool,
    /// Megabits per second, where known.
    pub speed: Option<u32>,
}

/// A port of an InfiniBand device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InfinibandPort {
    /// The device, `mlx5_0`.
    pub device: String,
    /// The port, from 1.
    pub port: u32,
    /// `ACTIVE`, `DOWN`, …
    pub state: String,
    /// `LinkUp`, …
    pub physical_state: String,
    /// `InfiniBand` or `Ethernet`.
    pub link_layer: String,
    /// As `400 Gb/sec (4X NDR)`.
    pub rate: String,
}

/// The Python environment of the ranks, read without running Python.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Python {
    /// The interpreter.
    pub interpreter: Option<String>,
    /// `3.11`, where known.
    pub version: Option<String>,
    /// The folders that packages were looked for in, first wins.
    pub site_packages: Vec<String>,
    /// `PyTorch`; `None` where it was not found.
    pub torch: Option<Torch>,
    /// Other packages that matter: distribution name in lower case to version (`mmengine`,
    /// `torch-gcu`, `torch-npu`, `nvidia-nccl-cu12`, `deepspeed`, …).
    pub packages: BTreeMap<String, String>,
    /// The NCCL that the ranks will load.
    pub nccl: Option<NcclLibrary>,
}

/// `torch/version.py`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Torch {
    /// `2.8.0+cu128`
    pub version: String,
    /// The CUDA it was built for, `12.8`.
    pub cuda: Option<String>,
    /// The HIP it was built for.
    pub hip: Option<String>,
    /// The XPU runtime it was built for.
    pub xpu: Option<String>,
    /// The file.
    pub source: String,
}

/// A `libnccl.so.2`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NcclLibrary {
    /// Its path.
    pub path: String,
    /// `2.27.3`, where known.
    pub version: Option<String>,
    /// Whether the ranks get it from `LD_LIBRARY_PATH` or `LD_PRELOAD` rather than from the wheel.
    pub is_override: bool,
    /// The wheel's own, where the ranks get another.
    pub wheel: Option<String>,
    /// Every `NCCL_…` name that stands in its read-only data; empty where it was not scanned.
    pub names: Vec<String>,
}

/// A file whose lines NCCL takes for variables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfFile {
    /// Its path.
    pub path: String,
    /// Its `NAME=VALUE` lines.
    pub variables: BTreeMap<String, String>,
}
