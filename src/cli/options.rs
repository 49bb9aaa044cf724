//! The options of `nvlaunch run`: exactly what was typed.
//!
//! Every value is kept as it was typed, and nothing has a default here: the defaults are those of
//! `launch-profiles/default.yaml`, so that a layer can tell "unset" from "set".

use std::ffi::{OsStr, OsString};

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{ArgAction, Args as _, Command};

/// The options, and what they start.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[expect(clippy::doc_markdown, reason = "these comments are the texts of the help")]
pub struct RunArgs {
    /// Launch profile to start from: its name, its file, or none [default: the one that matches
    /// this host, if any]
    #[arg(long, value_name = "NAME|PATH", help_heading = SHAPE, value_hint = clap::ValueHint::FilePath)]
    pub profile: Option<OsString>,
    /// Ranks to start: a number, or one per device with auto, gpu, cpu, xpu or a vendor's name
    /// such as npu; auto falls back to CPUs [default: 1]
    #[arg(long, visible_alias = "nproc", value_name = "N", help_heading = SHAPE)]
    pub nproc_per_node: Option<OsString>,
    /// What the ranks see as ROLE_NAME [default: default]
    #[arg(long, value_name = "NAME", help_heading = SHAPE)]
    pub role: Option<OsString>,
    /// LOCAL_RANK=0 for every rank, each seeing one device only
    #[arg(long, help_heading = SHAPE)]
    pub virtual_local_rank: bool,
    /// Keep each rank on CPUs near its GPU: node, socket, exclusive or core-complex
    #[arg(long, value_name = "MODE", help_heading = SHAPE, value_parser = Words(NUMA))]
    pub numa_binding: Option<OsString>,
    /// Address of rank 0 [default: 127.0.0.1]
    #[arg(long, value_name = "HOST", help_heading = SHAPE)]
    pub master_addr: Option<OsString>,
    /// Port of rank 0; 0 is a free one, fresh for each attempt [default: 0]
    #[arg(long, value_name = "PORT", help_heading = SHAPE)]
    pub master_port: Option<OsString>,

    /// Who serves the store at MASTER_PORT where the ranks meet: nvlaunch, or rank0 as PyTorch does
    /// by itself [default: nvlaunch]
    #[arg(long, value_name = "WHO", help_heading = SHAPE, value_parser = Words(STORES))]
    pub store: Option<OsString>,
    /// Say who is missing when init_process_group has not ended after this time; 0 is never
    /// [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = ENDS)]
    pub init_report_after: Option<OsString>,

    /// Run a module, as `python -m` does; its name stands in place of the script
    #[arg(short, long, help_heading = PROGRAM)]
    pub module: bool,
    /// Run a program as it is, without Python
    #[arg(long, help_heading = PROGRAM)]
    pub no_python: bool,
    /// Interpreter of the ranks [default: $PYTHON_EXEC, else that of the active environment, else
    /// python3 on PATH]
    #[arg(long, value_name = "PATH", help_heading = PROGRAM, value_hint = clap::ValueHint::ExecutablePath)]
    pub python: Option<OsString>,
    /// Who reads the standard input: a local rank, none, or auto, the only rank where there is one
    /// [default: auto]
    #[arg(long, value_name = "RANK", help_heading = PROGRAM, value_parser = Words(STDIN))]
    pub stdin: Option<OsString>,

    /// Fork the ranks from one interpreter that has imported these modules, separated by commas
    /// [default: off; with --warm alone, torch,torch.distributed]
    #[arg(long, value_name = "[=MODULES]", num_args = 0..=1, require_equals = true, default_missing_value = "", help_heading = PROGRAM)]
    pub warm: Option<OsString>,
    /// Which ranks are forked so: those of the start, of a restart, or both [default: both]
    #[arg(long, value_name = "WHEN", help_heading = PROGRAM, value_parser = Words(WARM_AT))]
    pub warm_at: Option<OsString>,
    /// How long the imports may take before ranks start cold [default: 5m]
    #[arg(long, value_name = "TIME", help_heading = PROGRAM)]
    pub warm_timeout: Option<OsString>,

    /// Restarts of the whole job after a failure [default: 0]
    #[arg(long, value_name = "N", help_heading = ENDS)]
    pub max_restarts: Option<OsString>,
    /// Time to end in before ranks are killed: seconds, or 30s, 5m [default: 30]
    #[arg(long, value_name = "TIME", help_heading = ENDS)]
    pub shutdown_timeout: Option<OsString>,
    /// Whom signals reach: the rank alone, or its whole process group [default: rank]
    #[arg(long, value_name = "SCOPE", help_heading = ENDS, value_parser = Words(SCOPES))]
    pub signal_scope: Option<OsString>,
    /// Signals that end the job; the four of the default always do [default:
    /// SIGTERM,SIGINT,SIGHUP,SIGQUIT]
    #[arg(long, value_name = "LIST", help_heading = ENDS)]
    pub signals_to_handle: Option<OsString>,
    /// Let processes that left their rank's session outlive the job
    #[arg(long, help_heading = ENDS)]
    pub keep_daemons: bool,

    /// Folder where the job saves; ranks resume from its newest whole checkpoint [default: none]
    #[arg(long, value_name = "DIR", help_heading = CHECKPOINTS, value_hint = clap::ValueHint::DirPath)]
    pub checkpoint_dir: Option<OsString>,
    /// How checkpoints are laid out [default: auto]
    #[arg(long, value_name = "NAME", help_heading = CHECKPOINTS, value_parser = Words(crate::settings::values::LAYOUTS))]
    pub checkpoint_layout: Option<OsString>,
    /// Name of files that torch.save writes, as in step_{step}.pt
    #[arg(long, value_name = "NAME", help_heading = CHECKPOINTS)]
    pub checkpoint_pattern: Option<OsString>,
    /// Arguments for the script where there is something to resume from, as in '--resume {path}';
    /// knows {path}, {quoted} (for Hydra), {step}, {name} and {dir}
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, help_heading = CHECKPOINTS)]
    pub resume_arg: Option<OsString>,
    /// The arguments by which this framework is told where to resume
    #[arg(long, value_name = "NAME", help_heading = CHECKPOINTS, value_parser = Words(crate::settings::values::RESUME_STYLES))]
    pub resume_style: Option<OsString>,
    /// Rename newer checkpoints that are not whole aside
    #[arg(long, help_heading = CHECKPOINTS)]
    pub quarantine: bool,
    /// The step that a job reaches before its success is believed
    #[arg(long, value_name = "STEP", help_heading = CHECKPOINTS)]
    pub expect_step: Option<OsString>,
    /// What follows when every rank ended with 0 and the job was not done: warn or fail [default:
    /// warn]
    #[arg(long, value_name = "WHAT", help_heading = CHECKPOINTS, value_parser = Words(&["warn", "fail"]))]
    pub on_suspicious_success: Option<OsString>,
    /// Wait before a restart, doubled up to a limit [default: 1s..5m with a checkpoint folder, else
    /// none]
    #[arg(long, value_name = "TIMES", help_heading = CHECKPOINTS)]
    pub restart_backoff: Option<OsString>,
    /// Signals by which a scheduler takes the machine away; with a checkpoint folder ranks then have
    /// time to save [default: SIGTERM]
    #[arg(long, value_name = "LIST", help_heading = CHECKPOINTS)]
    pub stop_signal: Option<OsString>,
    /// How long that is [default: until the end of the Slurm job, at most 5m]
    #[arg(long, value_name = "TIME", help_heading = CHECKPOINTS)]
    pub preemption_grace: Option<OsString>,
    /// Put the Slurm job back into its queue afterwards
    #[arg(long, help_heading = CHECKPOINTS)]
    pub requeue: bool,

    /// Folder for the logs; kept. /dev/null writes no files [default: a temporary folder, removed
    /// after a run that ends well]
    #[arg(long, value_name = "DIR", help_heading = OUTPUT, value_hint = clap::ValueHint::DirPath)]
    pub log_dir: Option<OsString>,
    /// Streams to files only: 0 none, 1 stdout, 2 stderr, 3 both; or by local rank, 0:1,12:3
    /// [default: 0]
    #[arg(short, long, value_name = "STD", help_heading = OUTPUT)]
    pub redirects: Option<OsString>,
    /// Streams to files and the console, in the same form [default: 0]
    #[arg(short, long, value_name = "STD", help_heading = OUTPUT)]
    pub tee: Option<OsString>,
    /// Start of each line on the console, '' for none; knows ${role_name}, ${local_rank}, ${rank},
    /// ${hostname} [default: the rank, where there are several]
    #[arg(long, value_name = "TEXT", help_heading = OUTPUT)]
    pub log_line_prefix_template: Option<OsString>,
    /// Local ranks whose output the console shows, as in 0,1 [default: all]
    #[arg(long, value_name = "LIST", help_heading = OUTPUT)]
    pub local_ranks_filter: Option<OsString>,
    /// Also write stdout lines that contain one of these texts to one file; ,, is a comma
    #[arg(long, value_name = "LIST", help_heading = OUTPUT)]
    pub duplicate_stdout_filters: Option<OsString>,
    /// The same for stderr
    #[arg(long, value_name = "LIST", help_heading = OUTPUT)]
    pub duplicate_stderr_filters: Option<OsString>,
    /// Do not join identical lines of several ranks on a terminal
    #[arg(long, help_heading = OUTPUT)]
    pub no_fold: bool,
    /// Write the report as JSON to this file
    #[arg(long, value_name = "FILE", help_heading = OUTPUT, value_hint = clap::ValueHint::FilePath)]
    pub json_report: Option<OsString>,

    /// Look at the machine first: auto, full (which also starts CUDA) or off [default: auto]
    #[arg(long, value_name = "MODE", help_heading = PREFLIGHT, value_parser = Words(PREFLIGHTS))]
    pub preflight: Option<OsString>,
    /// Start although preflight found that the job cannot work
    #[arg(long, help_heading = PREFLIGHT)]
    pub force: bool,
    /// Backend for torch.distributed, used or refused; the ranks see it as NVLAUNCH_BACKEND
    /// [default: what fits the devices]
    #[arg(long, value_name = "NAME", help_heading = PREFLIGHT, value_parser = Words(BACKENDS))]
    pub backend: Option<OsString>,
    /// Make scripts that insist on CUDA start without it: cpu, gcu, off, or auto, which only says when
    /// it would help [default: auto]
    #[arg(long, value_name = "NAME", help_heading = PREFLIGHT, value_parser = Words(&["auto", "off", "cpu", "gcu"]))]
    pub compat: Option<OsString>,
    /// Folder to take for / where preflight looks [default: $NVLAUNCH_SYSROOT, else /]
    #[arg(long, value_name = "DIR", help_heading = PREFLIGHT, value_hint = clap::ValueHint::DirPath)]
    pub sysroot: Option<OsString>,

    /// One node, a free port; what happens anyway
    #[arg(long, help_heading = TORCHRUN)]
    pub standalone: bool,
    /// Nodes of the job; one is all there is today [default: 1]
    #[arg(long, value_name = "N", help_heading = TORCHRUN)]
    pub nnodes: Option<OsString>,
    /// Number of this node; 0 with one node [default: 0]
    #[arg(long, value_name = "N", help_heading = TORCHRUN)]
    pub node_rank: Option<OsString>,
    /// static or c10d [default: static]
    #[arg(long, value_name = "NAME", help_heading = TORCHRUN, value_parser = Words(&["static", "c10d"]))]
    pub rdzv_backend: Option<OsString>,
    /// With static, address and port of rank 0; with c10d, this machine
    #[arg(long, value_name = "HOST:PORT", help_heading = TORCHRUN)]
    pub rdzv_endpoint: Option<OsString>,
    /// Id of the run [default: made up]
    #[arg(long, value_name = "ID", help_heading = TORCHRUN)]
    pub rdzv_id: Option<OsString>,
    /// Address of this machine, for MASTER_ADDR
    #[arg(long, value_name = "HOST", help_heading = TORCHRUN)]
    pub local_addr: Option<OsString>,

    /// Nothing is negotiated between nodes
    #[arg(long, value_name = "CONF", help_heading = IGNORED)]
    pub rdzv_conf: Option<OsString>,
    /// Ranks are watched without polling
    #[arg(long, value_name = "SECONDS", help_heading = IGNORED)]
    pub monitor_interval: Option<OsString>,
    /// Ranks are always programs of their own
    #[arg(long, value_name = "METHOD", help_heading = IGNORED, value_parser = Words(START_METHODS))]
    pub start_method: Option<OsString>,
    /// Events are in the run folder
    #[arg(long, value_name = "NAME", help_heading = IGNORED)]
    pub event_log_handler: Option<OsString>,
    /// Python classes for logs are not loaded
    #[arg(long, value_name = "NAME", help_heading = IGNORED)]
    pub logs_specs: Option<OsString>,
    /// The script runs as any other script
    #[arg(long, help_heading = IGNORED)]
    pub run_path: bool,

    /// Say what would be done, and start nothing; as `nvlaunch plan`
    #[arg(long, help_heading = "Other")]
    pub dry_run: bool,
    /// Print a completion script: bash, zsh, fish, elvish or powershell
    #[arg(long, value_name = "SHELL", help_heading = "Other", value_parser = Words(super::SHELLS))]
    pub print_completion: Option<OsString>,

    /// The script, module or program; always there after [`super::parse`].
    #[arg(skip)]
    pub script: Option<OsString>,
    /// What stands after the script.
    #[arg(skip)]
    pub args: Vec<OsString>,
}

const SHAPE: &str = "Shape of the job";
const PROGRAM: &str = "What each rank runs";
const ENDS: &str = "Failures and ends";
const CHECKPOINTS: &str = "Checkpoints and restarts";
const OUTPUT: &str = "Output";
const PREFLIGHT: &str = "Preflight";
const TORCHRUN: &str = "Accepted from torchrun, for one node";
const IGNORED: &str = "Accepted from torchrun, without effect";

const NUMA: &[&str] = &["node", "socket", "exclusive", "core-complex"];
const SCOPES: &[&str] = &["rank", "group"];
const STDIN: &[&str] = &["auto", "none", "0"];
const PREFLIGHTS: &[&str] = &["auto", "full", "off"];
/// Backends that completion offers; others are taken too.
pub(super) const BACKENDS: &[&str] =
    &["nccl", "gloo", "mpi", "ucc", "xccl", "hccl", "eccl", "cncl", "mccl"];
const WARM_AT: &[&str] = &["start", "restart", "both"];
const STORES: &[&str] = &["nvlaunch", "rank0"];
const START_METHODS: &[&str] = &["spawn", "fork", "forkserver"];

/// Any text, with words that completion offers. What is right is decided with the other layers.
#[derive(Debug, Clone, Copy)]
pub struct Words(pub &'static [&'static str]);

impl TypedValueParser for Words {
    type Value = OsString;

    fn parse_ref(
        &self,
        _command: &Command,
        _arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<OsString, clap::Error> {
        Ok(value.to_owned())
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}

/// The options as clap knows them, without the script.
pub fn command() -> Command {
    let command = Command::new("nvlaunch").version(env!("CARGO_PKG_VERSION"));
    house_style(RunArgs::augment_args(command))
}

/// How every command reads its options.
pub(super) fn house_style(command: Command) -> Command {
    let command = command
        .no_binary_name(true)
        // As with argparse, the last of several wins.
        .args_override_self(true)
        .disable_colored_help(true)
        .color(clap::ColorChoice::Never);
    command.mut_args(|arg| {
        let arg = match arg.get_long() {
            // C4
            Some(long) if long.contains('-') => {
                let alias = long.replace('-', "_");
                arg.alias(alias)
            }
            _ => arg,
        };
        if matches!(arg.get_action(), ArgAction::Set) {
            arg.allow_negative_numbers(true)
        } else {
            arg
        }
    })
}
