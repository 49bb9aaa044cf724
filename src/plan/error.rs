//! Why a launch cannot be.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::cli;
use crate::error::Explain;
use crate::exit_code;
use crate::host::target::AskedBy;
use crate::settings::spec::MAX_RANKS;
use crate::settings::values;

/// Why a launch cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum PlanError {
    /// Nothing can be watched without it.
    #[error("there is no /proc")]
    NoProc,
    /// Ranks would start in a folder that is gone.
    #[error("the working directory was deleted")]
    WorkingDirDeleted,
    /// No such script.
    #[error("there is no script `{}`", script.display())]
    ScriptMissing { script: PathBuf, nearest: Option<PathBuf>, then: Option<OsString> },
    /// A folder that Python cannot run.
    #[error("`{}` is a folder without `__main__.py`", script.display())]
    ScriptFolder { script: PathBuf },
    /// No permission.
    #[error("the script `{}` may not be read", script.display())]
    ScriptNotReadable { script: PathBuf },
    /// Another reason of the file system.
    #[error("the script `{}` cannot be used: {why}", script.display())]
    ScriptBroken { script: PathBuf, why: String },
    /// No interpreter, or no program.
    #[error("{}", missing_program(asked, *by))]
    ProgramMissing { asked: PathBuf, by: AskedBy, in_working_dir: bool },
    /// A file that is no program.
    #[error("`{}` cannot be executed{}", path.display(), if *is_folder { ": it is a folder" } else { "" })]
    NotExecutable { path: PathBuf, is_folder: bool },
    /// The facts lack the program.
    #[error("internal error: nobody looked for the program")]
    ProgramUnknown,
    /// A c10d endpoint elsewhere.
    #[error(
        "--rdzv-endpoint: `{host}` is not this machine, and a job of several nodes is not built yet"
    )]
    OtherHost { host: String },
    /// `gpu` without one.
    #[error("{}", if *hidden { "no GPU is visible" } else { "there is no GPU" })]
    NoGpu { hidden: bool },
    /// A vendor's device without one.
    #[error("there is no device of the kind `{name}`")]
    NoDevice { name: String },
    /// A count found on the machine that is out of range.
    #[error("{count} ranks cannot be started on one node")]
    Count { count: u32 },
    /// The limit on open files.
    #[error("{count} ranks need {needed} open files, and the hard limit is {limit}")]
    OpenFiles { count: u32, needed: u64, limit: u64 },
    /// `--stdin` of a rank that is not there.
    #[error("--stdin: there is no local rank {rank} among {count}")]
    StdinRank { rank: u32, count: u32 },
    /// `--virtual-local-rank` with more ranks than devices.
    #[error(
        "--virtual-local-rank: there is no device for local rank {local_rank} in {variable}={list}"
    )]
    NoDeviceForRank { local_rank: u32, variable: &'static str, list: String },
    /// Nothing to bind to.
    #[error("--numa-binding: there is no visible device to be near to")]
    NumaWithoutDevice,
    /// More ranks than devices.
    #[error("--numa-binding: local rank {local_rank} has no device, {devices} visible")]
    NumaRank { local_rank: u32, devices: u32 },
    /// A device whose place the kernel does not tell.
    #[error("--numa-binding: the place of the device of local rank {local_rank} is not known")]
    NumaUnknown { local_rank: u32 },
    /// A node whose CPUs are all forbidden.
    #[error("--numa-binding: no CPU of NUMA node {node} is allowed to local rank {local_rank}")]
    NumaNoCpus { local_rank: u32, node: u32 },
    /// More devices than cores.
    #[error("--numa-binding: NUMA node {node} has {cores} cores for {devices} devices")]
    NumaCores { node: u32, cores: usize, devices: usize },
    /// No caches in sysfs.
    #[error("--numa-binding: the kernel does not tell which CPUs share a cache")]
    NumaNoCache,
}

fn missing_program(asked: &std::path::Path, by: AskedBy) -> String {
    let asked = asked.display();
    match by {
        AskedBy::Option => format!("--python: there is no interpreter `{asked}`"),
        AskedBy::PythonExec => format!("PYTHON_EXEC: there is no interpreter `{asked}`"),
        AskedBy::Search => "there is no Python on PATH".to_owned(),
        AskedBy::NoPython => format!("there is no program `{asked}`"),
    }
}

/// The subcommand that a word without a dot or a slash may be a slip for.
fn subcommand_like(script: &std::path::Path) -> Option<&'static str> {
    let word = script.to_str().filter(|word| !word.contains(['.', '/']))?;
    values::nearest(word, cli::SUBCOMMANDS.iter().copied())
}

impl Explain for PlanError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoProc => "mount it: `mount -t proc proc /proc`".to_owned(),
            Self::WorkingDirDeleted => "change to a folder that exists".to_owned(),
            Self::ScriptMissing { then: Some(then), .. } => format!(
                "nvlaunch starts the interpreter itself: `nvlaunch {}`",
                then.to_string_lossy()
            ),
            Self::ScriptMissing { nearest: Some(nearest), .. } => {
                format!("did you mean `{}`?", nearest.display())
            }
            Self::ScriptMissing { script, .. } => match subcommand_like(script) {
                Some(name) => format!("did you mean `nvlaunch {name}`?"),
                None => "a module is started with -m".to_owned(),
            },
            Self::ScriptFolder { .. } => "give a script in it".to_owned(),
            Self::NotExecutable { is_folder: false, path } => {
                format!("`chmod +x {}` where it is a program", path.display())
            }
            Self::ProgramMissing { asked, in_working_dir: true, .. } => {
                format!("the one in the working directory is `./{}`", asked.display())
            }
            Self::ProgramMissing { by: AskedBy::Search, .. } => {
                "activate an environment, or name the interpreter with --python".to_owned()
            }
            Self::OtherHost { .. } => "leave --rdzv-endpoint out: one node needs none".to_owned(),
            Self::NoGpu { hidden: false } => {
                "--nproc auto counts what there is, or else CPUs".to_owned()
            }
            Self::NoGpu { hidden: true } => {
                "CUDA_VISIBLE_DEVICES or HIP_VISIBLE_DEVICES hides those there are".to_owned()
            }
            Self::NoDevice { .. } => "--nproc auto counts what there is".to_owned(),
            Self::Count { .. } => format!("give --nproc a number from 1 to {MAX_RANKS}"),
            Self::OpenFiles { needed, .. } => {
                format!("raise it with `ulimit -n {needed}` as root, or start fewer ranks")
            }
            Self::StdinRank { .. } => "give one of the local ranks, counted from 0".to_owned(),
            Self::NoDeviceForRank { .. } => "start one rank per listed device".to_owned(),
            Self::NumaWithoutDevice | Self::NumaUnknown { .. } | Self::NumaNoCache => {
                "leave --numa-binding out".to_owned()
            }
            Self::NumaRank { .. } => "start one rank per device: --nproc auto".to_owned(),
            Self::NumaNoCpus { .. } => "widen the CPU mask (taskset, cpuset)".to_owned(),
            Self::NumaCores { .. } => "use --numa-binding node".to_owned(),
            Self::ProgramMissing { .. } => {
                "give the path of a program, or a name that is found on PATH".to_owned()
            }
            Self::ScriptNotReadable { .. } | Self::ScriptBroken { .. } => {
                "give the path of a Python file that this user may read".to_owned()
            }
            Self::NotExecutable { .. } | Self::ProgramUnknown => return None,
        })
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::NoProc | Self::OpenFiles { .. } => exit_code::OS,
            Self::WorkingDirDeleted
            | Self::ScriptMissing { .. }
            | Self::ScriptFolder { .. }
            | Self::ScriptNotReadable { .. }
            | Self::ScriptBroken { .. }
            | Self::ProgramMissing { by: AskedBy::NoPython, .. } => exit_code::NO_INPUT,
            Self::NotExecutable { .. } => exit_code::NOT_EXECUTABLE,
            Self::ProgramMissing { .. }
            | Self::NoGpu { .. }
            | Self::NoDevice { .. }
            | Self::NumaWithoutDevice
            | Self::NumaRank { .. }
            | Self::NumaUnknown { .. }
            | Self::NumaNoCpus { .. }
            | Self::NumaCores { .. }
            | Self::NumaNoCache => exit_code::UNAVAILABLE,
            Self::OtherHost { .. }
            | Self::Count { .. }
            | Self::StdinRank { .. }
            | Self::NoDeviceForRank { .. } => exit_code::USAGE,
            Self::ProgramUnknown => exit_code::INTERNAL,
        }
    }
}
