//! Every finding there is: code, name, default severity, title, long text.
//!
//! - G1: a code is never given another meaning, and never used again once it is gone.
//! - G2: the severity here is the usual one; [`super::judge`] may say less where the job does not
//!   depend on it, and a profile may say anything.
//! - G3: every text has the same sections and fits 80 columns.

#[cfg(test)]
mod tests;

use super::finding::{Code, Severity};

/// What the catalogue tells of one finding.
#[derive(Debug)]
pub struct Entry {
    /// Its code.
    pub code: Code,
    /// Its name.
    pub name: &'static str,
    /// Its usual severity.
    pub severity: Severity,
    /// Its title: one line, without a final period.
    pub summary: &'static str,
    /// What it is, how it was found, what helps, what does not, sources.
    pub text: &'static str,
}

/// The sections of every text, in order.
pub const SECTIONS: [&str; 5] =
    ["What it is", "How it was found", "What helps", "What does not help", "Sources"];

macro_rules! catalogue {
    ($($code:ident $name:ident $severity:ident $summary:literal)*) => {
        /// The codes by their names.
        pub mod code {
            use super::Code;
            $(
                #[doc = concat!("`", stringify!($code), "`")]
                pub const $name: Code = Code::new(stringify!($code));
            )*
        }

        /// All of them, by code.
        pub static ALL: &[Entry] = &[$(
            Entry {
                code: code::$name,
                name: stringify!($name),
                severity: Severity::$severity,
                summary: $summary,
                text: include_str!(concat!("texts/", stringify!($code), ".txt")),
            },
        )*];
    };
}

catalogue! {
    NVL001 DRIVER_LIB_MISMATCH_NEWER_USERSPACE Error
        "the driver's libraries are newer than the module in the kernel"
    NVL002 DRIVER_LIB_MISMATCH_OLDER_USERSPACE Error
        "the driver's libraries are older than the module in the kernel"
    NVL003 CUDA_FWD_COMPAT_UNSUPPORTED_GPU Error
        "libcuda is newer than the driver, which this kind of GPU does not allow"
    NVL004 CUDA_FWD_COMPAT_BRANCH Error
        "libcuda is newer than the driver and does not know the driver's branch"
    NVL005 NVML_CUDA_LIB_SKEW Warning
        "libnvidia-ml and libcuda are of different versions"
    NVL006 NCCL_NVML_DISABLE_NOT_READ Note
        "NCCL_NVML_DISABLE is set, and this NCCL does not read it"
    NVL007 UNKNOWN_NCCL_ENV Warning
        "a variable of NCCL that this NCCL does not know"
    NVL008 MISMATCH_CAUSED_BY_UPGRADE Note
        "an upgrade of driver packages made the mismatch"
    NVL009 AUTO_UPGRADE_ARMED Note
        "driver packages are upgraded without being asked"
    NVL010 REBOOT_WILL_NOT_FIX Note
        "a reboot alone does not cure the mismatch"
    NVL011 REBOOT_PENDING Note
        "the next boot changes the driver"
    NVL020 DRIVER_NOT_LOADED Error
        "NVIDIA's kernel module is not loaded"
    NVL021 DKMS_MODULE_MISSING_FOR_KERNEL Error
        "there is no driver module for the running kernel"
    NVL022 SECUREBOOT_UNSIGNED_MODULE Error
        "Secure Boot refuses the unsigned driver module"
    NVL023 NOUVEAU_BOUND Error
        "the driver nouveau holds the GPU"
    NVL024 VFIO_BOUND Warning
        "GPUs are set aside for virtual machines"
    NVL025 MIXED_INSTALLS Warning
        "driver files of two origins are mixed"
    NVL026 UVM_NODE_MISSING Error
        "the device node /dev/nvidia-uvm is missing"
    NVL027 DEV_PERMISSION Error
        "the device nodes may not be used by this user"
    NVL030 LIB_ZERO_BYTE Error
        "a driver library is an empty file"
    NVL031 LDCACHE_STALE Warning
        "the linker's cache names driver libraries that are not there"
    NVL032 LIBCUDA_NOT_FOUND Error
        "libcuda is not found"
    NVL033 CONTAINER_NO_GPU_RUNTIME Error
        "the container was started without GPUs"
    NVL034 CONTAINER_CGROUP_LOST Error
        "the container lost the right to its GPUs"
    NVL035 DRIVER_LIB_UNUSABLE Error
        "a driver library cannot be used"
    NVL036 NVML_LIB_NOT_FOUND Error
        "libnvidia-ml is not found"
    NVL040 GPU_COUNT_MISMATCH Warning
        "the driver lists fewer GPUs than the bus has"
    NVL041 GPU_OFF_BUS Error
        "a GPU left the bus"
    NVL042 GPU_PROBE_HANG Error
        "the driver does not answer"
    NVL043 GPU_RECOVERY_REQUIRED Error
        "a GPU needs to be reset"
    NVL044 RECENT_FATAL_XID Warning
        "the kernel log has serious GPU errors since boot"
    NVL045 ROW_REMAP Warning
        "GPU memory has rows that are to be, or cannot be, remapped"
    NVL046 ECC_UNCORRECTED Warning
        "GPU memory had errors that could not be corrected"
    NVL047 THERMAL_OR_POWER_THROTTLE Warning
        "a GPU is slowed down by heat or power"
    NVL048 PCIE_LINK_DEGRADED Warning
        "a GPU's PCI link has fewer lanes than it could"
    NVL049 PERSISTENCE_OFF Warning
        "persistence mode is off"
    NVL050 FABRIC_MANAGER_NOT_READY Error
        "the fabric manager has not set up the NVSwitches"
    NVL051 FABRIC_MANAGER_VERSION Error
        "the fabric manager is of another version than the driver"
    NVL052 GPU_BUSY Warning
        "a GPU is in use, or lets nobody in"
    NVL053 MIG_ENABLED Warning
        "multi-instance GPU mode is on"
    NVL054 PROBE_DIED Error
        "the driver's library ended the process that asked it"
    NVL055 NVML_FAILED Error
        "NVML fails"
    NVL056 CUDA_INIT_FAILED Error
        "CUDA does not start"
    NVL057 MORE_RANKS_THAN_GPUS Warning
        "there are more ranks than GPUs for them"
    NVL060 CUDA_TOOLKIT_TOO_NEW Error
        "PyTorch's CUDA is too new for the driver"
    NVL061 PTX_JIT_RISK Note
        "compiled extensions may be too new for the driver"
    NVL062 TORCH_CPU_BUILD_ON_GPU_HOST Warning
        "PyTorch is built for the CPU, and there are accelerators"
    NVL063 CUDA_TORCH_ON_NO_NVIDIA_HOST Warning
        "PyTorch is built for CUDA, and there is no NVIDIA GPU"
    NVL064 NCCL_LIB_OVERRIDE Warning
        "another NCCL than PyTorch's own is loaded"
    NVL070 DEPRECATED_TORCH_NCCL_ENV Warning
        "a variable has another name in this PyTorch"
    NVL071 DEBUG_ENV_LEFT_ON Warning
        "variables for debugging are left on"
    NVL072 SOCKET_IFNAME_NO_MATCH Error
        "no network interface fits the variable that names one"
    NVL073 SHM_TOO_SMALL Warning
        "/dev/shm is small"
    NVL074 MEMLOCK_LOW_WITH_IB Warning
        "the limit on locked memory is low for InfiniBand"
    NVL075 VARIABLE_CONFLICT Warning
        "a variable of yours conflicts with another, or with the decision"
    NVL080 GCU_HOST Note
        "a variable that chooses no GCU is set on a machine with GCUs"
    NVL081 GCU_DRIVER_NOT_LOADED Error
        "Enflame's kernel module is not loaded"
    NVL082 GLOO_WITH_DEVICE_TENSORS Warning
        "gloo cannot carry this accelerator's tensors"
    NVL083 BACKEND_VENDOR_MISMATCH Error
        "the backend is another vendor's"
    NVL084 SEVERAL_VENDORS Error
        "accelerators of two vendors, and nothing says which is meant"
    NVL085 BACKEND_NOT_IN_TORCH Error
        "the backend is not in this PyTorch"
    NVL086 VENDOR_DRIVER_NOT_LOADED Error
        "accelerators without device nodes"
    NVL090 MMENGINE_NO_ACCEL Warning
        "MMEngine's launcher does not know this machine's devices"
    NVL091 MMENGINE_MUSA_RANK_BUG Warning
        "MMEngine chooses MUSA devices by the global rank"
    NVL092 MMENGINE_MODULO_ZERO Warning
        "MMEngine divides by the number of GPUs, which is zero"
    NVL095 HETEROGENEOUS_DRIVERS Warning
        "the nodes run different drivers"
}

/// The entry of `code`, written exactly as in the catalogue.
pub fn find(code: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.code.0 == code)
}
