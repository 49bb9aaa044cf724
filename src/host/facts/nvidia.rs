//! What is true of NVIDIA's driver on a machine.

use serde::{Deserialize, Serialize};

use super::Sourced;

/// NVIDIA's driver, in the kernel, on disk, and as libraries.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Nvidia {
    /// Whether this is WSL, where the driver is the host's: there is no module, and no node but
    /// `/dev/dxg`.
    pub is_wsl: bool,
    /// The module that the kernel runs; `None` where none is loaded.
    pub loaded: Option<LoadedModule>,
    /// `nvidia_uvm`, `nvidia_drm`, `nvidia_modeset`, `nvidia_peermem`, …: those that are loaded.
    pub modules: Vec<String>,
    /// Who uses the module: `/sys/module/nvidia/refcnt`.
    pub references: Option<u32>,
    /// Names in `/sys/module/nvidia/holders`.
    pub holders: Vec<String>,
    /// The modules on disk for the running kernel; empty where there is none or nobody looked.
    pub on_disk: Vec<DiskModule>,
    /// Whether `on_disk` was looked for.
    pub looked_on_disk: bool,
    /// DKMS' states of the driver's source, by version and kernel.
    pub dkms: Vec<Dkms>,
    /// The user-space libraries.
    pub libraries: Libraries,
    /// The driver's own list of GPUs (`/proc/driver/nvidia/gpus`).
    pub gpus: Vec<ProcGpu>,
    /// Device nodes that exist: `/dev/nvidia0`, `/dev/nvidiactl`, `/dev/nvidia-uvm`, …
    pub nodes: Vec<DeviceNode>,
    /// The fabric manager of `NVSwitch`.
    pub fabric: FabricManager,
    /// Whether `/run/nvidia-persistenced/socket` is there.
    pub persistence_daemon: bool,
    /// What the kernel log tells.
    pub xids: Xids,
    /// Whether a setuid `nvidia-modprobe` is there.
    pub modprobe_helper: Option<String>,
    /// `/proc/driver/nvidia/params`: `ModifyDeviceFiles`, `DeviceFileMode`… as far as they differ
    /// from what the driver starts with.
    pub params: Vec<(String, String)>,
    /// What NVML said.
    pub nvml: Probe<Nvml>,
    /// What `cuInit` said (`--preflight full` only).
    pub cuda: Probe<Cuda>,
}

/// The module in the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadedModule {
    /// `580.82.09`
    pub version: String,
    /// Open or proprietary.
    pub flavour: Flavour,
    /// The file that said so.
    pub source: String,
}

/// Which of NVIDIA's kernel modules it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flavour {
    /// The file does not say.
    #[default]
    Unknown,
    /// `Open Kernel Module`
    Open,
    /// The other.
    Proprietary,
}

/// A module file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskModule {
    /// Its path.
    pub path: String,
    /// `version=` of its `.modinfo`.
    pub version: Option<String>,
    /// By its licence: `Dual MIT/GPL` is the open one, `NVIDIA` the other.
    pub flavour: Flavour,
    /// The kernel it was built for, from `vermagic=`.
    pub kernel: Option<String>,
    /// Whether a signature is appended; `None` where it could not be read.
    pub is_signed: Option<bool>,
    /// Why it could not be read.
    pub problem: Option<String>,
}

/// One state in DKMS' tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dkms {
    /// The module's name in DKMS, `nvidia` or `nvidia-current`.
    pub name: String,
    /// The driver's version.
    pub version: String,
    /// The kernel; `None` for a source that was only added.
    pub kernel: Option<String>,
    /// How far it came.
    pub state: DkmsState,
    /// The end of `make.log`, where the build failed: at most 10 lines.
    pub log: Vec<String>,
    /// The folder.
    pub source: String,
}

/// How far DKMS came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DkmsState {
    /// The source is known.
    #[default]
    Added,
    /// It was tried to be built, and is not there.
    Failed,
    /// It was built.
    Built,
    /// It was built and installed.
    Installed,
}

/// The driver's libraries, as the ranks' dynamic linker would find them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Libraries {
    /// `libnvidia-ml.so.1`
    pub nvml: Option<Library>,
    /// `libcuda.so.1`
    pub cuda: Option<Library>,
    /// Every other file of the driver's libraries in the folders that the linker searches, and of
    /// other versions of the two above.
    pub others: Vec<Library>,
    /// Entries of `/etc/ld.so.cache` for driver libraries whose file is missing, empty, or of
    /// another version than its folder holds: name and path.
    pub stale_cache: Vec<Sourced<String>>,
    /// Files of the module's own version that exist anywhere likely: what could be pinned.
    pub matching: Vec<String>,
}

/// A library file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Library {
    /// The name that was asked for.
    pub name: String,
    /// The file after all links.
    pub path: String,
    /// Where `path` leads, where that is another file: told of a library with a problem alone.
    pub leads_to: Option<String>,
    /// How the linker comes to it: `LD_LIBRARY_PATH`, `ld.so.cache`, `default folder`.
    pub found_by: String,
    /// Its version.
    pub version: Option<String>,
    /// Its size in bytes.
    pub bytes: u64,
    /// What is wrong with it.
    pub problem: Option<LibraryProblem>,
    /// For libcuda: kernel module branches it works with (the ELF note), empty where there is none.
    pub compatible_branches: Vec<u32>,
    /// For libcuda: the CUDA version that the note tells.
    pub cuda_version: Option<String>,
    /// Seconds since the epoch at which its inode last changed.
    pub changed_at: Option<i64>,
}

/// What is wrong with a library file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LibraryProblem {
    /// It has no bytes.
    Empty,
    /// It is a link to nothing.
    Dangling,
    /// It is no ELF file, or is cut off.
    Broken,
    /// It is the linker's stub of the toolkit.
    Stub,
    /// It cannot be read.
    Unreadable,
}

/// A GPU in the driver's list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcGpu {
    /// PCI address, lower case.
    pub address: String,
    /// `NVIDIA RTX A6000`
    pub model: Option<String>,
    /// `GPU-…`
    pub uuid: Option<String>,
    /// N of `/dev/nvidiaN`.
    pub minor: Option<u32>,
}

/// A device node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceNode {
    /// Its path.
    pub path: String,
    /// Whether this process may read and write it; `None` is not known (another root).
    pub is_usable: Option<bool>,
}

/// The fabric manager.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FabricManager {
    /// Its process, where one runs.
    pub pid: Option<i32>,
    /// The version of its package or binary, where known.
    pub version: Option<Sourced<String>>,
}

/// GPU errors in the kernel log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Xids {
    /// Why the log could not be read.
    pub unreadable: Option<String>,
    /// Those since boot, oldest first; the newest 200.
    pub events: Vec<Xid>,
}

/// One GPU error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Xid {
    /// PCI address as the log writes it, lower case.
    pub address: String,
    /// Its number.
    pub code: u32,
    /// The line.
    pub line: String,
    /// The log.
    pub source: String,
}

/// The answer of a probe that may hang.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "detail")]
pub enum Probe<T> {
    /// Nobody asked, and why.
    #[default]
    NotAsked,
    /// It was not asked for a reason: the static checks already know the answer, another root, …
    Skipped(String),
    /// It answered.
    Answered(T),
    /// It did not answer in time.
    Hung(Hang),
    /// Its process ended without an answer.
    Died(Death),
}

/// A probe that did not answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hang {
    /// The call that it did not return from, as `nvmlInit_v2`,
    /// `nvmlDeviceGetHandleByIndex_v2(3)`.
    pub stage: String,
    /// Milliseconds it was given.
    pub after_ms: u64,
    /// State letter of its process.
    pub process_state: Option<char>,
    /// The kernel function it sleeps in.
    pub waits_in: Option<String>,
    /// Whether it was still there after KILL.
    pub survived_kill: bool,
}

/// A probe whose process ended early.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Death {
    /// The call it was in.
    pub stage: String,
    /// How it ended, in words.
    pub exit: String,
    /// The end of what it wrote on stderr: at most 10 lines.
    pub stderr: Vec<String>,
}

/// A result code of NVML or CUDA.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResultCode {
    /// Its number; 0 is success. -1 is "the library could not be loaded".
    pub code: i32,
    /// Its name or text.
    pub text: String,
}

/// What NVML said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Nvml {
    /// Result of `nvmlInit`.
    pub init: ResultCode,
    /// The library that was loaded, where known.
    pub library: Option<String>,
    /// `nvmlSystemGetDriverVersion`
    pub driver_version: Option<String>,
    /// `nvmlSystemGetNVMLVersion`
    pub nvml_version: Option<String>,
    /// The CUDA version of the driver, as 13000.
    pub cuda_version: Option<i32>,
    /// `nvmlDeviceGetCount`
    pub device_count: Option<u32>,
    /// Calls about the machine that failed, and how; what is not supported is none.
    pub errors: Vec<(String, ResultCode)>,
    /// Every device, by index.
    pub devices: Vec<NvmlDevice>,
    /// Milliseconds in all.
    pub took_ms: u64,
}

/// What NVML said of one GPU; what a GPU does not support is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NvmlDevice {
    /// NVML's index.
    pub index: u32,
    /// The first call that failed, and how: `GPU is lost` and the like. What is not supported is
    /// none, and what is not permitted only where nothing else failed.
    pub error: Option<(String, ResultCode)>,
    /// `GPU-…`
    pub uuid: Option<String>,
    /// PCI address in sysfs' form, lower case.
    pub address: Option<String>,
    /// `NVIDIA H200`
    pub name: Option<String>,
    /// NVML's brand number.
    pub brand: Option<u32>,
    /// Whether persistence mode is on.
    pub persistence: Option<bool>,
    /// `default`, `exclusive_process`, `prohibited`
    pub compute_mode: Option<String>,
    /// Uncorrectable ECC errors since the driver was loaded.
    pub ecc_uncorrected: Option<u64>,
    /// Rows remapped after correctable errors (`NVML_FI_DEV_REMAPPED_COR`).
    pub remapped_correctable: Option<u64>,
    /// Rows remapped after uncorrectable errors (`NVML_FI_DEV_REMAPPED_UNC`).
    pub remapped_uncorrectable: Option<u64>,
    /// Whether rows wait for a reset to be remapped.
    pub remap_pending: Option<bool>,
    /// Whether a row could not be remapped.
    pub remap_failed: Option<bool>,
    /// `NVML_FI_DEV_GET_GPU_RECOVERY_ACTION`: 0 none, 1 reset, 2 reboot, 3 drain, 4 drain and reset.
    pub recovery_action: Option<u32>,
    /// `nvmlDeviceGetCurrentClocksThrottleReasons`
    pub throttle_reasons: Option<u64>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Whether MIG is on.
    pub mig: Option<bool>,
    /// Compute processes on it: process ids.
    pub processes: Vec<u32>,
    /// Bytes of memory in use.
    pub memory_used: Option<u64>,
    /// Bytes of memory.
    pub memory_total: Option<u64>,
    /// Milliseconds until its handle was there: seconds where persistence is off.
    pub open_ms: Option<u64>,
}

/// What `cuInit` said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cuda {
    /// Result of `cuInit(0)`.
    pub init: ResultCode,
    /// The library that was loaded, where known.
    pub library: Option<String>,
    /// `cuDriverGetVersion`, as 13000.
    pub driver_version: Option<i32>,
    /// `cuDeviceGetCount`
    pub device_count: Option<u32>,
}
