//! Every environment variable that nvlaunch reads or sets, in one list.
//!
//! Read besides these: `NVLAUNCH_<OPTION>` for every option, as `NVLAUNCH_LOG_DIR` for `--log-dir`,
//! below the command line; and below that `PET_<OPTION>` for every option of torchrun, as
//! `PET_NPROC_PER_NODE` for `--nproc-per-node`. An empty one is unset. The variables by which a
//! vendor's devices are chosen stand in [`crate::host::vendors`].
//!
//! The comments are the texts of the reference page and of the manual.

/// One variable.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What is done with it.
    pub used: Use,
    /// What it says; the lines of a comment, with the spaces they begin with.
    pub text: &'static str,
}

/// What nvlaunch does with a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It reads it.
    Read,
    /// It sets it for each rank.
    Set,
    /// It reads it, and sets it for each rank where the text says so.
    ReadAndSet,
    /// It takes it away from each rank.
    Removed,
}

macro_rules! variables {
    ($($(#[doc = $text:literal])+ $used:ident $name:ident = $value:literal;)+) => {
        $(
            #[doc = concat!(stringify!($used), ":")]
            $(#[doc = $text])+
            pub const $name: &str = $value;
        )+

        /// All of them, in the order of the page.
        pub static ALL: &[Variable] = &[$(
            Variable { name: $value, used: Use::$used, text: concat!($($text, "\n"),+) },
        )+];
    };
}

variables! {
    /// Identifies the run, and marks every descendant of its ranks.
    Set RUN_ID = "NVLAUNCH_RUN_ID";
    /// The number of this attempt, 0 for the first.
    Set ATTEMPT = "NVLAUNCH_ATTEMPT";
    /// The run folder; not set with `--log-dir /dev/null`.
    Set RUN_DIR = "NVLAUNCH_RUN_DIR";
    /// The version of nvlaunch that started the rank.
    Set VERSION = "NVLAUNCH_VERSION";
    /// The checkpoint that this attempt resumes from, an absolute path; not set where there is none.
    Set RESUME_FROM = "NVLAUNCH_RESUME_FROM";
    /// Its step, where that is known.
    Set RESUME_STEP = "NVLAUNCH_RESUME_STEP";
    /// A file where rank 0 may write the step that the job has reached, one number, as often as it
    /// likes; not set without a run folder.
    Set PROGRESS_FILE = "NVLAUNCH_PROGRESS_FILE";
    /// The backend, as `--backend`; each rank sees the one that was chosen, unless `--preflight off`.
    ReadAndSet BACKEND = "NVLAUNCH_BACKEND";
    /// The folder that preflight takes for `/`, as `--sysroot`.
    Read SYSROOT = "NVLAUNCH_SYSROOT";
    /// The launch profile, as `--profile`.
    Read PROFILE = "NVLAUNCH_PROFILE";
    /// With `--compat gcu`: whether `torch_gcu`'s `transfer_to_gcu` is imported (1), which makes
    /// `torch.cuda` mean GCUs. It needs a `PyTorch` that is built for CUDA and turns `torch.jit.script`
    /// off.
    Read COMPAT_TRANSFER = "NVLAUNCH_COMPAT_TRANSFER";
    /// The level of the developers' log on stderr, `error` to `trace`; off by default.
    Read LOG = "NVLAUNCH_LOG";
    /// The file that the probe loads in place of `libnvidia-ml.so.1`; for tests.
    Read NVML_LIB = "NVLAUNCH_NVML_LIB";

    /// The id of the Slurm job, for the id of the run and for `--requeue`.
    Read SLURM_JOB_ID = "SLURM_JOB_ID";
    /// When Slurm ends the job, in seconds since 1970: ranks have until then to save.
    Read SLURM_JOB_END_TIME = "SLURM_JOB_END_TIME";
    /// The name of the Slurm cluster, to choose a profile.
    Read SLURM_CLUSTER_NAME = "SLURM_CLUSTER_NAME";
    /// The Slurm partition of the job, to choose a profile.
    Read SLURM_JOB_PARTITION = "SLURM_JOB_PARTITION";
    /// The folder of the user's configuration files.
    Read XDG_CONFIG_HOME = "XDG_CONFIG_HOME";
    /// The folder where preflight finds drivers that were fetched before.
    Read XDG_CACHE_HOME = "XDG_CACHE_HOME";
    /// The folder for the temporary run folders; `/tmp` by default.
    Read TMPDIR = "TMPDIR";
    /// Nothing is coloured where it is set.
    Read NO_COLOR = "NO_COLOR";

    /// The interpreter of the ranks, as for torchrun; below `--python`.
    Read PYTHON_EXEC = "PYTHON_EXEC";
    /// The active virtual environment, whose interpreter the ranks get.
    Read VIRTUAL_ENV = "VIRTUAL_ENV";
    /// The active environment of conda, whose packages preflight looks at.
    Read CONDA_PREFIX = "CONDA_PREFIX";
    /// The version of Python that pyenv's `python` stands for.
    Read PYENV_VERSION = "PYENV_VERSION";
    /// Folders of packages that come before the interpreter's own. With `--compat` its folder comes
    /// first.
    ReadAndSet PYTHONPATH = "PYTHONPATH";
    /// Where it is set, the user's own packages are left out.
    Read PYTHONNOUSERSITE = "PYTHONNOUSERSITE";
    /// Where the user's own packages are, instead of below `HOME`.
    Read PYTHONUSERBASE = "PYTHONUSERBASE";
    /// Where the user's own packages and settings of NCCL are.
    Read HOME = "HOME";
    /// Fixes the seed of hashes, which warm ranks share in any case.
    Read PYTHONHASHSEED = "PYTHONHASHSEED";
    /// Where it is not 1, `PyTorch` looks for no entry points, and `--compat` goes another way.
    Read TORCH_AUTOLOAD = "TORCH_DEVICE_BACKEND_AUTOLOAD";
    /// The working folder, with the links that led to it.
    Read PWD = "PWD";
    /// Where programs without a slash in their name are.
    Read PATH = "PATH";
    /// Libraries that the dynamic linker loads first; added to for the NVML probe alone.
    Read LD_PRELOAD = "LD_PRELOAD";
    /// Folders that the dynamic linker looks through first.
    Read LD_LIBRARY_PATH = "LD_LIBRARY_PATH";
    /// NCCL's own settings, instead of `.nccl.conf` below `HOME`.
    Read NCCL_CONF_FILE = "NCCL_CONF_FILE";
    /// Set in every pod of Kubernetes: preflight knows by it where it is.
    Read KUBERNETES_SERVICE_HOST = "KUBERNETES_SERVICE_HOST";
    /// The same for Apptainer.
    Read APPTAINER_CONTAINER = "APPTAINER_CONTAINER";
    /// The same for Singularity.
    Read SINGULARITY_CONTAINER = "SINGULARITY_CONTAINER";
    /// The time to end in, in seconds, below `--shutdown-timeout` and its `PET_*` variable.
    Read SHUTDOWN_TIMEOUT = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT";
    /// The start of each console line, below `--log-line-prefix-template`.
    Read PREFIX_TEMPLATE = "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE";

    /// The visible GPUs; with `--virtual-local-rank` one for each rank.
    ReadAndSet CUDA_VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES";
    /// The same on `ROCm`, where it comes before CUDA's.
    ReadAndSet HIP_VISIBLE_DEVICES = "HIP_VISIBLE_DEVICES";
    /// The GPUs that `ROCm` leaves to HIP.
    Read ROCR_VISIBLE_DEVICES = "ROCR_VISIBLE_DEVICES";

    /// Whether CUDA numbers GPUs by PCI address (`PCI_BUS_ID`) or the fastest first.
    Read CUDA_DEVICE_ORDER = "CUDA_DEVICE_ORDER";

    /// Where it is unset: a rank's share of the cores where there are several ranks, the quota of
    /// the control group where that is less than the CPUs a rank sees.
    Set OMP_NUM_THREADS = "OMP_NUM_THREADS";
    /// Set to 1 where it is unset.
    Set NCCL_ASYNC_ERROR_HANDLING = "TORCH_NCCL_ASYNC_ERROR_HANDLING";
    /// Where `@record` of `PyTorch` writes the error; not set without a run folder. Where nvlaunch
    /// itself is given one, it writes the job's error there.
    ReadAndSet ERROR_FILE = "TORCHELASTIC_ERROR_FILE";

    /// The rank's number in the job.
    Set RANK = "RANK";
    /// The rank's number on its node; 0 with `--virtual-local-rank`.
    Set LOCAL_RANK = "LOCAL_RANK";
    /// Ranks of the job.
    Set WORLD_SIZE = "WORLD_SIZE";
    /// Ranks of the rank's node.
    Set LOCAL_WORLD_SIZE = "LOCAL_WORLD_SIZE";
    /// The number of the rank's node.
    Set GROUP_RANK = "GROUP_RANK";
    /// Nodes of the job.
    Set GROUP_WORLD_SIZE = "GROUP_WORLD_SIZE";
    /// The rank's number among those of its role.
    Set ROLE_RANK = "ROLE_RANK";
    /// Ranks of the rank's role.
    Set ROLE_WORLD_SIZE = "ROLE_WORLD_SIZE";
    /// `--role`.
    Set ROLE_NAME = "ROLE_NAME";
    /// Where the store is.
    Set MASTER_ADDR = "MASTER_ADDR";
    /// The store's port; another one for each attempt unless one was asked for.
    Set MASTER_PORT = "MASTER_PORT";
    /// The number of this attempt, as torchrun counts it.
    Set RESTART_COUNT = "TORCHELASTIC_RESTART_COUNT";
    /// `--max-restarts`.
    Set MAX_RESTARTS = "TORCHELASTIC_MAX_RESTARTS";
    /// The id of the run; `PyTorch` knows by it that a launcher started it.
    Set TORCH_RUN_ID = "TORCHELASTIC_RUN_ID";
    /// `True` where nvlaunch serves the store, `False` where rank 0 does.
    Set USE_AGENT_STORE = "TORCHELASTIC_USE_AGENT_STORE";
    /// `--signals-to-handle`.
    Set SIGNALS_TO_HANDLE = "TORCHELASTIC_SIGNALS_TO_HANDLE";
    /// The watchdog of a torchrun around this run.
    Removed TIMER_FILE = "TORCHELASTIC_TIMER_FILE";
}

/// The names that begin with `NVLAUNCH_` and are no option's.
pub const OWN: &[&str] = &[
    RUN_ID,
    ATTEMPT,
    RUN_DIR,
    VERSION,
    RESUME_FROM,
    RESUME_STEP,
    PROGRESS_FILE,
    LOG,
    NVML_LIB,
    COMPAT_TRANSFER,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A constant beside the table would be missing on the reference page.
    #[test]
    fn every_variable_stands_in_the_table_once() {
        let beside =
            include_str!("env_vars.rs").lines().filter(|line| line.starts_with("pub const"));
        assert_eq!(beside.collect::<Vec<_>>().len(), 1, "only OWN stands beside the table");
        let names: BTreeSet<_> = ALL.iter().map(|variable| variable.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(OWN.iter().all(|own| names.contains(own)));
    }

    /// A variable that is read by a text of its own would be missing there too.
    #[test]
    fn no_variable_is_read_that_is_not_in_the_table() {
        let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            for entry in fs_err::read_dir(folder).expect("a folder of the source") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|ending| ending == "rs") {
                    let text = fs_err::read_to_string(&path).expect("a source file");
                    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                    seen += code.matches("env_vars::").count();
                    for read in ["env.get(\"", "env.get_nonempty(\""] {
                        let is_test = path.ends_with("tests.rs") || path.ends_with("env_vars.rs");
                        assert!(is_test || !code.contains(read), "{}: {read}", path.display());
                    }
                }
            }
        }
        assert!(seen > 50, "only {seen} uses of the table were found");
    }
}
