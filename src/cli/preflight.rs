//! The command lines of `nvlaunch preflight` and `nvlaunch explain`: exactly what was typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as _, Command, FromArgMatches as _};

use super::options::{BACKENDS, Words, house_style};
use super::{CliError, Invocation, error, help};

/// The options of `nvlaunch preflight`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[expect(clippy::doc_markdown, reason = "these comments are the texts of the help")]
pub struct PreflightArgs {
    /// Launch profile of the job: its name, its file, or none [default: the one that matches this
    /// host, if any]
    #[arg(long, value_name = "NAME|PATH", help_heading = JOB, value_hint = clap::ValueHint::FilePath)]
    pub profile: Option<OsString>,
    /// Ranks of the job that is thought of [default: one per device]
    #[arg(long, visible_alias = "nproc", value_name = "N", help_heading = JOB)]
    pub nproc_per_node: Option<OsString>,
    /// Backend of the job, judged as it is [default: what fits the devices]
    #[arg(long, value_name = "NAME", help_heading = JOB, value_parser = Words(BACKENDS))]
    pub backend: Option<OsString>,
    /// Interpreter of the ranks [default: as for a launch]
    #[arg(long, value_name = "PATH", help_heading = JOB, value_hint = clap::ValueHint::ExecutablePath)]
    pub python: Option<OsString>,

    /// Look everywhere, whatever devices there are, and let the driver start CUDA
    #[arg(long, help_heading = MACHINE)]
    pub full: bool,
    /// Folder to take for the machine's / [default: $NVLAUNCH_SYSROOT, else /]
    #[arg(long, value_name = "DIR", help_heading = MACHINE, value_hint = clap::ValueHint::DirPath)]
    pub sysroot: Option<OsString>,
    /// Judge the facts in this file, and read nothing of this machine
    #[arg(long, value_name = "FILE", help_heading = MACHINE, value_hint = clap::ValueHint::FilePath)]
    pub facts: Option<OsString>,

    /// Print everything as JSON: verdict, backend, findings, facts
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
    /// Also write the facts to this file; --facts judges them elsewhere
    #[arg(long, value_name = "FILE", help_heading = OUTPUT, value_hint = clap::ValueHint::FilePath)]
    pub facts_out: Option<OsString>,
}

const JOB: &str = "The job";
const MACHINE: &str = "The machine";
const OUTPUT: &str = "Output";

/// What `nvlaunch explain` was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explained {
    /// One finding, by its code or its name.
    Code(String),
    /// All of them, a line each.
    List,
}

/// The options as clap knows them.
pub(super) fn command() -> Command {
    house_style(PreflightArgs::augment_args(Command::new("preflight")))
}

/// Reads the words after `preflight`.
pub(super) fn preflight(words: &[OsString]) -> Result<Invocation, CliError> {
    let mut command = command();
    command.build();
    let matches = match command.try_get_matches_from_mut(words) {
        Ok(matches) => matches,
        Err(error) => return error::from_clap(&error, "preflight", help::preflight),
    };
    let args = PreflightArgs::from_arg_matches(&matches)
        .map_err(|error| CliError::Other { message: error.to_string() })?;
    let given = [
        ("--sysroot", args.sysroot.is_some()),
        ("--python", args.python.is_some()),
        ("--full", args.full),
        ("--facts-out", args.facts_out.is_some()),
    ];
    if let (Some(_), Some((option, _))) = (&args.facts, given.iter().find(|(_, is)| *is)) {
        return Err(CliError::WithFacts { option });
    }
    Ok(Invocation::Preflight(Box::new(args)))
}

/// Reads the words after `explain`.
pub(super) fn explain(words: &[OsString]) -> Result<Invocation, CliError> {
    let text = |word: &OsString| word.to_string_lossy().into_owned();
    match words {
        [word] if word == "-h" || word == "--help" => Ok(Invocation::Print(help::explain())),
        [word] if word == "--list" => Ok(Invocation::Explain(Explained::List)),
        [] => Err(CliError::ExplainCode),
        [word, ..] if word.to_string_lossy().starts_with('-') => {
            let option = text(word);
            let known = ["--list", "--help"].into_iter();
            let nearest = crate::settings::values::nearest(&option, known).map(str::to_owned);
            Err(match option.as_str() {
                "--list" => CliError::UnexpectedWord { word: text(&words[1]), command: "explain" },
                _ => CliError::UnknownOption { option, nearest, command: "explain" },
            })
        }
        [code] => Ok(Invocation::Explain(Explained::Code(text(code)))),
        [_, word, ..] => Err(CliError::UnexpectedWord { word: text(word), command: "explain" }),
    }
}

impl PreflightArgs {
    /// The file of `--facts`.
    pub fn facts_file(&self) -> Option<PathBuf> {
        self.facts.as_ref().map(PathBuf::from)
    }

    /// The file of `--facts-out`.
    pub fn facts_out_file(&self) -> Option<PathBuf> {
        self.facts_out.as_ref().map(PathBuf::from)
    }
}
