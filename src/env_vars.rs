//! Every environment variable that nvlaunch reads or sets, in one list.
//!
//! Read besides these: `PET_<OPTION>` for every option of torchrun, as `PET_NPROC_PER_NODE` for
//! `--nproc-per-node`, below the command line; an empty one is unset.

/// Set for each rank: identifies the run, and marks every descendant of its ranks.
pub const RUN_ID: &str = "NVLAUNCH_RUN_ID";
/// Set for each rank: the number of this attempt, 0 for the first.
pub const ATTEMPT: &str = "NVLAUNCH_ATTEMPT";
/// Set for each rank: the run folder (absent with `--log-dir /dev/null`).
pub const RUN_DIR: &str = "NVLAUNCH_RUN_DIR";
/// Set for each rank: the version of nvlaunch that started it.
pub const VERSION: &str = "NVLAUNCH_VERSION";
/// Set for each rank unless `--preflight off`: the backend that was chosen, or `--backend`.
pub const BACKEND: &str = "NVLAUNCH_BACKEND";
/// Read: the folder that preflight takes for `/`, below `--sysroot`.
pub const SYSROOT: &str = "NVLAUNCH_SYSROOT";
/// Read: the level of the developers' log on stderr (`error` … `trace`); off by default.
pub const LOG: &str = "NVLAUNCH_LOG";

/// Read: the file that the probe loads in place of `libnvidia-ml.so.1`; for tests.
pub const NVML_LIB: &str = "NVLAUNCH_NVML_LIB";
/// Read, and added to for the NVML probe alone: libraries that the dynamic linker loads first.
pub const LD_PRELOAD: &str = "LD_PRELOAD";

/// Read: the interpreter of the ranks, as for torchrun; below `--python`.
pub const PYTHON_EXEC: &str = "PYTHON_EXEC";
/// Read: the active virtual environment, whose interpreter the ranks get.
pub const VIRTUAL_ENV: &str = "VIRTUAL_ENV";
/// Read: the active environment of conda, whose packages preflight looks at.
pub const CONDA_PREFIX: &str = "CONDA_PREFIX";
/// Read: folders of packages that come before the interpreter's own.
pub const PYTHONPATH: &str = "PYTHONPATH";
/// Read: where the user's own packages and settings of NCCL are.
pub const HOME: &str = "HOME";
/// Read: where programs without a slash in their name are.
pub const PATH: &str = "PATH";
/// Read: the time to end in, in seconds, below `--shutdown-timeout` and its `PET_*` variable.
pub const SHUTDOWN_TIMEOUT: &str = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT";
/// Read: the start of each console line, below `--log-line-prefix-template`.
pub const PREFIX_TEMPLATE: &str = "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE";

/// Read, and set to one device for each rank with `--virtual-local-rank`: the visible GPUs.
pub const CUDA_VISIBLE_DEVICES: &str = "CUDA_VISIBLE_DEVICES";
/// The same on `ROCm`, where it comes before CUDA's.
pub const HIP_VISIBLE_DEVICES: &str = "HIP_VISIBLE_DEVICES";
/// Read: the GPUs that `ROCm` leaves to HIP.
pub const ROCR_VISIBLE_DEVICES: &str = "ROCR_VISIBLE_DEVICES";

/// Read: fixes the seed of hashes, which warm ranks share in any case.
pub const PYTHONHASHSEED: &str = "PYTHONHASHSEED";

/// Set to 1 for each rank where it is unset and there are several ranks.
pub const OMP_NUM_THREADS: &str = "OMP_NUM_THREADS";
/// Set to 1 for each rank where it is unset.
pub const NCCL_ASYNC_ERROR_HANDLING: &str = "TORCH_NCCL_ASYNC_ERROR_HANDLING";
/// Set for each rank: where `@record` of `PyTorch` writes the error (absent without run folder).
pub const ERROR_FILE: &str = "TORCHELASTIC_ERROR_FILE";

/// Set for each rank: its number in the job.
pub const RANK: &str = "RANK";
/// Set for each rank: its number on its node; 0 with `--virtual-local-rank`.
pub const LOCAL_RANK: &str = "LOCAL_RANK";
/// Set for each rank: ranks of the job.
pub const WORLD_SIZE: &str = "WORLD_SIZE";
/// Set for each rank: ranks of its node.
pub const LOCAL_WORLD_SIZE: &str = "LOCAL_WORLD_SIZE";
/// Set for each rank: the number of its node.
pub const GROUP_RANK: &str = "GROUP_RANK";
/// Set for each rank: nodes of the job.
pub const GROUP_WORLD_SIZE: &str = "GROUP_WORLD_SIZE";
/// Set for each rank: its number among those of its role.
pub const ROLE_RANK: &str = "ROLE_RANK";
/// Set for each rank: ranks of its role.
pub const ROLE_WORLD_SIZE: &str = "ROLE_WORLD_SIZE";
/// Set for each rank: `--role`.
pub const ROLE_NAME: &str = "ROLE_NAME";
/// Set for each rank: where the store is.
pub const MASTER_ADDR: &str = "MASTER_ADDR";
/// Set for each rank: the store's port; another one for each attempt unless one was asked for.
pub const MASTER_PORT: &str = "MASTER_PORT";
/// Set for each rank: the number of this attempt, as torchrun counts it.
pub const RESTART_COUNT: &str = "TORCHELASTIC_RESTART_COUNT";
/// Set for each rank: `--max-restarts`.
pub const MAX_RESTARTS: &str = "TORCHELASTIC_MAX_RESTARTS";
/// Set for each rank: the id of the run; `PyTorch` knows by it that a launcher started it.
pub const TORCH_RUN_ID: &str = "TORCHELASTIC_RUN_ID";
/// Set for each rank: `True` where nvlaunch serves the store, `False` where rank 0 does.
pub const USE_AGENT_STORE: &str = "TORCHELASTIC_USE_AGENT_STORE";
/// Set for each rank: `--signals-to-handle`.
pub const SIGNALS_TO_HANDLE: &str = "TORCHELASTIC_SIGNALS_TO_HANDLE";
/// Removed for each rank: the watchdog of a torchrun around this run.
pub const TIMER_FILE: &str = "TORCHELASTIC_TIMER_FILE";
