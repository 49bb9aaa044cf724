//! The command line of `nvlaunch smoke`: exactly what was typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as _, Command, FromArgMatches as _};

use super::options::{BACKENDS, RunArgs, Words, house_style};
use super::{CliError, Invocation, error, help};

/// The options of `nvlaunch smoke`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[expect(clippy::doc_markdown, reason = "these comments are the texts of the help")]
pub struct SmokeArgs {
    /// Launch profile to start from: its name, its file, or none [default: the one that matches
    /// this host, if any]
    #[arg(long, value_name = "NAME|PATH", help_heading = TEST, value_hint = clap::ValueHint::FilePath)]
    pub profile: Option<OsString>,
    /// Ranks to start, as for a launch [default: one per accelerator, else 2]
    #[arg(long, visible_alias = "nproc", value_name = "N", help_heading = TEST)]
    pub nproc_per_node: Option<OsString>,
    /// Backend to test, used or refused [default: what fits the devices]
    #[arg(long, value_name = "NAME", help_heading = TEST, value_parser = Words(BACKENDS))]
    pub backend: Option<OsString>,
    /// Interpreter of the ranks [default: as for a launch]
    #[arg(long, value_name = "PATH", help_heading = TEST, value_hint = clap::ValueHint::ExecutablePath)]
    pub python: Option<OsString>,
    /// How long all of it may take: seconds, or 30s, 5m [default: 60s]
    #[arg(long, value_name = "TIME", help_heading = TEST)]
    pub timeout: Option<OsString>,
    /// Sizes that all_reduce is measured with, in bytes or as 64k, 4m, 1g [default: 4,64k,4m,64m]
    #[arg(long, value_name = "LIST", help_heading = TEST)]
    pub sizes: Option<OsString>,

    /// Nodes; one is all there is today [default: 1]
    #[arg(long, value_name = "N", help_heading = MEETING)]
    pub nnodes: Option<OsString>,
    /// Address of rank 0 [default: 127.0.0.1]
    #[arg(long, value_name = "HOST", help_heading = MEETING)]
    pub master_addr: Option<OsString>,
    /// Port of rank 0; 0 is a free one [default: 0]
    #[arg(long, value_name = "PORT", help_heading = MEETING)]
    pub master_port: Option<OsString>,
    /// Who serves the store where the ranks meet: nvlaunch, or rank0 [default: nvlaunch]
    #[arg(long, value_name = "WHO", help_heading = MEETING, value_parser = Words(&["nvlaunch", "rank0"]))]
    pub store: Option<OsString>,

    /// Look at the machine first: auto, full (which also starts CUDA) or off [default: auto]
    #[arg(long, value_name = "MODE", help_heading = MACHINE, value_parser = Words(&["auto", "full", "off"]))]
    pub preflight: Option<OsString>,
    /// Start although preflight found that a job cannot work
    #[arg(long, help_heading = MACHINE)]
    pub force: bool,
    /// Folder to take for / where preflight looks [default: $NVLAUNCH_SYSROOT, else /]
    #[arg(long, value_name = "DIR", help_heading = MACHINE, value_hint = clap::ValueHint::DirPath)]
    pub sysroot: Option<OsString>,

    /// Print the result as JSON
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
    /// Also write the result as JUnit XML to this file
    #[arg(long, value_name = "FILE", help_heading = OUTPUT, value_hint = clap::ValueHint::FilePath)]
    pub junit: Option<OsString>,
    /// Folder for what the ranks write; kept [default: a temporary folder, removed]
    #[arg(long, value_name = "DIR", help_heading = OUTPUT, value_hint = clap::ValueHint::DirPath)]
    pub log_dir: Option<OsString>,
    /// Print the program of the ranks, and start nothing
    #[arg(long, help_heading = OUTPUT)]
    pub print_program: bool,
}

const TEST: &str = "The test";
const MEETING: &str = "Where the ranks meet";
const MACHINE: &str = "Preflight";
const OUTPUT: &str = "Output";

/// The module that the ranks are said to run until their program has a place.
pub const PLACEHOLDER: &str = "nvlaunch_smoke";

/// The options as clap knows them.
pub(super) fn command() -> Command {
    house_style(SmokeArgs::augment_args(Command::new("smoke")))
}

/// Reads the words after `smoke`.
pub(super) fn smoke(words: &[OsString]) -> Result<Invocation, CliError> {
    let mut command = command();
    command.build();
    let matches = match command.try_get_matches_from_mut(words) {
        Ok(matches) => matches,
        Err(error) => return error::from_clap(&error, "smoke", help::smoke),
    };
    let args = SmokeArgs::from_arg_matches(&matches)
        .map_err(|error| CliError::Other { message: error.to_string() })?;
    Ok(Invocation::Smoke(Box::new(args)))
}

impl SmokeArgs {
    /// The same as the options of a launch. What it starts is decided later.
    pub fn launch(&self) -> RunArgs {
        RunArgs {
            profile: self.profile.clone(),
            nproc_per_node: self.nproc_per_node.clone(),
            backend: self.backend.clone(),
            python: self.python.clone(),
            nnodes: self.nnodes.clone(),
            master_addr: self.master_addr.clone(),
            master_port: self.master_port.clone(),
            store: self.store.clone(),
            preflight: self.preflight.clone(),
            force: self.force,
            sysroot: self.sysroot.clone(),
            log_dir: self.log_dir.clone(),
            module: true,
            script: Some(PLACEHOLDER.into()),
            ..RunArgs::default()
        }
    }

    /// The file of `--junit`.
    pub fn junit_file(&self) -> Option<PathBuf> {
        self.junit.as_ref().map(PathBuf::from)
    }
}
