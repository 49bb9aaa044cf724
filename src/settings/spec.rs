//! The launch as the user wants it, every default filled in, nothing about this machine yet.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::env::Env;
use super::{Effective, Origin};
use crate::checkpoint::Layout;
use crate::diagnose::class::{Class, Remedy};
use crate::preflight::finding::{Code, Severity};
use crate::profile::layer::Used;

/// What each rank runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `python -u SCRIPT args…`
    Script(PathBuf),
    /// `python -u -m MODULE args…`
    Module(OsString),
    /// `PROGRAM args…`, executed as it is (`--no-python`).
    Program(PathBuf),
}

/// How many ranks this node gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcCount {
    /// That many, 1 to [`MAX_RANKS`].
    Count(u32),
    /// One per accelerator, or one per CPU where there is none.
    Auto,
    /// One per GPU; an error where there is none.
    Gpu,
    /// One per CPU of this process' affinity mask.
    Cpu,
    /// One per device of that kind (`xpu`, or a vendor's name such as `gcu`).
    Device(String),
}

/// The most ranks that one node can be asked for.
pub const MAX_RANKS: u32 = 4096;

/// Who gets the standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StdinChoice {
    /// The only rank where there is one, else nobody.
    Auto,
    /// Nobody: every rank reads `/dev/null`.
    None,
    /// This local rank.
    Rank(u32),
}

/// Whom a stop request or a passed-on signal reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignalScope {
    /// The rank's own process only, so that its workers live while it saves.
    Rank,
    /// The rank's whole process group, as torchrun does.
    Group,
}

/// Who serves the store that the ranks meet at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreHost {
    /// nvlaunch, for the whole run.
    Nvlaunch,
    /// Rank 0, as `PyTorch` does without a launcher.
    Rank0,
}

/// How a rank's CPUs follow from its device, in torchrun's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumaBinding {
    /// All CPUs of the device's NUMA node.
    Node,
    /// All CPUs of the device's socket.
    Socket,
    /// An equal share of the node's physical cores for each of its devices.
    Exclusive,
    /// One group of cores that share a last-level cache.
    CoreComplex,
}

/// Where the run folder is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogDir {
    /// Below the temporary folder; removed after a run that ends well.
    Temporary,
    /// Below this folder; kept.
    Kept(PathBuf),
    /// Nowhere (`--log-dir /dev/null`): no files, no error files, no events.
    Off,
}

/// Streams of one rank, as the bits of torchrun's `-r` and `-t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Streams {
    /// Bit 1.
    pub stdout: bool,
    /// Bit 2.
    pub stderr: bool,
}

/// A value for every rank, or one for some local ranks (`0:1,12:3`); the others have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamMap {
    /// The same for all.
    All(Streams),
    /// By local rank.
    ByRank(BTreeMap<u32, Streams>),
}

impl StreamMap {
    /// What holds for `local_rank`.
    pub fn of(&self, local_rank: u32) -> Streams {
        match self {
            Self::All(streams) => *streams,
            Self::ByRank(map) => map.get(&local_rank).copied().unwrap_or_default(),
        }
    }
}

/// What happens to the ranks' output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSpec {
    /// Where files go.
    pub dir: LogDir,
    /// Streams that go to a file only.
    pub redirects: StreamMap,
    /// Streams that go to a file and to the console.
    pub tee: StreamMap,
    /// Template of the console prefix; `None` is `[rank N] ` (nothing where there is one rank).
    pub prefix: Option<String>,
    /// Local ranks whose output the console shows; `None` is all.
    pub ranks_filter: Option<Vec<u32>>,
    /// Whether identical lines of several ranks are joined on a terminal.
    pub fold: bool,
    /// Lines of stdout that contain one of these also go to `filtered_stdout.log`.
    pub stdout_filters: Vec<String>,
    /// Lines of stderr that contain one of these also go to `filtered_stderr.log`.
    pub stderr_filters: Vec<String>,
}

/// How much is looked at before the job starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreflightMode {
    /// Nothing.
    Off,
    /// What a launch can afford.
    Auto,
    /// Everything, CUDA's start included.
    Full,
}

/// What is looked at before a job starts, and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreflightSpec {
    /// How much.
    pub mode: PreflightMode,
    /// Whether a job that cannot work is started all the same.
    pub force: bool,
    /// `--backend`, where given.
    pub backend: Option<String>,
    /// What is taken for `/`.
    pub root: PathBuf,
    /// How long the devices' driver may take to answer.
    pub deadline: Duration,
    /// The same where nothing keeps its state between jobs.
    pub deadline_without_persistence: Duration,
    /// How bad a finding is, where it is not as the catalogue says.
    pub severity: BTreeMap<Code, Severity>,
    /// `--compat`: what is done about scripts that insist on CUDA is judged, too.
    pub compat: CompatChoice,
}

/// `OMP_NUM_THREADS` of the ranks, where it is unset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OmpThreads {
    /// A rank's share of the cores.
    Auto,
    /// It stays unset.
    Keep,
    /// This many, 1 or more.
    Count(u32),
}

/// What the profile says of a variable of the ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileVariable {
    /// The value; `None` takes it away.
    pub value: Option<String>,
    /// Why, where the profile says so.
    pub why: Option<String>,
    /// The line of the profile.
    pub origin: Origin,
    /// Whether the caller has set it, who comes first.
    pub is_kept: bool,
}

/// Which attempts get warm ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarmAt {
    /// The first.
    Start,
    /// All but the first.
    Restart,
    /// Every one.
    Both,
}

/// Ranks that are forked from an interpreter which has imported their modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmSpec {
    /// The modules, in this order; never empty.
    pub modules: Vec<String>,
    /// Which attempts get such ranks.
    pub at: WarmAt,
    /// How long the imports may take before ranks start cold.
    pub deadline: Duration,
}

/// Where a job saves, and how its ranks are told to resume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointSpec {
    /// The folder.
    pub dir: PathBuf,
    /// How checkpoints are laid out there; `None` is found out.
    pub layout: Option<Layout>,
    /// The name of files that `torch.save` writes, with `{step}` in it.
    pub pattern: Option<String>,
    /// Words that are added to the script's arguments, with `{path}`, `{step}`, `{name}` and
    /// `{dir}` in them; mostly none.
    pub resume_args: Vec<String>,
    /// Whether a newer checkpoint that is not whole is renamed aside.
    pub quarantine: bool,
    /// How long looking for checkpoints may take, before each attempt.
    pub deadline: Duration,
}

/// The wait before a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first restart without progress; zero is no wait at all.
    pub first: Duration,
    /// Where doubling ends.
    pub most: Duration,
}

/// What follows when every rank ended with 0 and the job was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnfinished {
    /// It is said.
    Warn,
    /// It is a failure, and restarted like one.
    Fail,
}

/// What decides about a restart, besides how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartSpec {
    /// The wait before it; `None` is what fits the job.
    pub backoff: Option<Backoff>,
    /// Exit codes that no restart can mend, 1 to 255.
    pub final_codes: Vec<i32>,
    /// What follows from a class of failure, where it is not the class' own.
    pub remedies: BTreeMap<Class, Remedy>,
    /// What follows from a success that is none.
    pub unfinished: OnUnfinished,
}

/// A scheduler that takes the machine away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreemptionSpec {
    /// The signals that say so.
    pub signals: Vec<i32>,
    /// How long the ranks have to save; `None` is what fits.
    pub grace: Option<Duration>,
    /// Whether the Slurm job is put back into its queue.
    pub requeue: bool,
}

/// Whether scripts that insist on CUDA are made to start without it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompatChoice {
    /// It is said when that would help; nothing is changed.
    #[default]
    Auto,
    /// Nothing is said or changed.
    Off,
    /// They run on CPUs.
    Cpu,
    /// They run on Enflame GCUs, or on CPUs where `torch_gcu` is not here.
    Gcu,
}

/// Everything the user wants of a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchSpec {
    /// What each rank runs.
    pub target: Target,
    /// The script's own arguments, as typed.
    pub args: Vec<OsString>,
    /// `--python`, when given.
    pub python: Option<PathBuf>,
    /// How many ranks.
    pub nproc: ProcCount,
    /// `ROLE_NAME`.
    pub role: String,
    /// `TORCHELASTIC_RUN_ID`, when given; else one is made up.
    pub run_id: Option<String>,
    /// Restarts of the whole job after a failure.
    pub max_restarts: u32,
    /// From the first request to end until KILL.
    pub shutdown_timeout: Duration,
    /// Whom TERM and passed-on signals reach.
    pub signal_scope: SignalScope,
    /// Signals that end the job besides TERM, INT, HUP and QUIT (`--signals-to-handle`).
    pub extra_end_signals: Vec<i32>,
    /// `TORCHELASTIC_SIGNALS_TO_HANDLE` for the ranks, as typed or torchrun's default.
    pub signals_to_handle: String,
    /// Whether descendants that left their rank's session may outlive the job.
    pub keep_daemons: bool,
    /// Who gets the standard input.
    pub stdin: StdinChoice,
    /// `MASTER_ADDR`, when given.
    pub master_addr: Option<String>,
    /// `MASTER_PORT`, when given.
    pub master_port: Option<u16>,
    /// Who serves the store at `MASTER_PORT`.
    pub store: StoreHost,
    /// After how long an `init_process_group` that has not ended is reported; `None` is never.
    pub init_report_after: Option<Duration>,
    /// The host of a c10d `--rdzv-endpoint`: with one node it must be this machine.
    pub rendezvous_host: Option<String>,
    /// `LOCAL_RANK=0` for all, each seeing one device.
    pub virtual_local_rank: bool,
    /// CPUs by device.
    pub numa_binding: Option<NumaBinding>,
    /// `OMP_NUM_THREADS`.
    pub omp_threads: OmpThreads,
    /// What the profile says of variables, by name.
    pub env: BTreeMap<String, ProfileVariable>,
    /// The profile, where one is used.
    pub profile: Option<Used>,
    /// What is looked at before the job starts.
    pub preflight: PreflightSpec,
    /// Whether what would be done is said, and nothing started.
    pub dry_run: bool,
    /// Warm start, where asked for.
    pub warm: Option<WarmSpec>,
    /// Where the job saves, if it says so.
    pub checkpoint: Option<CheckpointSpec>,
    /// The step that the job reaches before its success is believed.
    pub expect_step: Option<u64>,
    /// What decides about restarts.
    pub restart: RestartSpec,
    /// A scheduler that takes the machine away.
    pub preemption: PreemptionSpec,
    /// Scripts that insist on CUDA.
    pub compat: CompatChoice,
    /// Whether `compat` puts its layer into the ranks. A program of nvlaunch's own insists on nothing,
    /// and has the backend of a job with the layer all the same.
    pub has_compat_layer: bool,
    /// Output.
    pub logs: LogSpec,
    /// Where the report is written as JSON, when asked for.
    pub json_report: Option<PathBuf>,
    /// One line for each option that was accepted and has no meaning here.
    pub notes: Vec<String>,
    /// Every key that was looked at, with what holds of it and where it was given.
    pub settings: Vec<Effective>,
}

impl LaunchSpec {
    /// The caller's environment with what the profile says of variables. The devices that the ranks
    /// see and what preflight judges follow from it.
    pub fn env_of_ranks<'a>(&self, env: &'a Env) -> Cow<'a, Env> {
        with_profile(env, &self.env)
    }
}

/// The same for any environment and what a profile says of it.
pub fn with_profile<'a>(env: &'a Env, profile: &BTreeMap<String, ProfileVariable>) -> Cow<'a, Env> {
    let set = profile.iter().filter(|(_, variable)| !variable.is_kept);
    let set = set.filter_map(|(name, variable)| Some((name.into(), variable.value.as_ref()?)));
    let mut set = set.map(|(name, value)| (name, value.into())).peekable();
    if set.peek().is_none() {
        return Cow::Borrowed(env);
    }
    Cow::Owned(Env(env.0.iter().cloned().chain(set).collect()))
}
