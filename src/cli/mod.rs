//! The command line: what was typed, not yet what it means.
//!
//! Two stages. [`split`] finds where the options end and the script begins; clap then reads the
//! options alone. Nothing here reads the environment or the machine, and no value is looked into:
//! that is the work of [`crate::settings`], which treats a typed value and a `PET_*` variable
//! alike.
//!
//! - C1: options end at the first word that is no option, or after `--`. What follows the script
//!   belongs to the script, byte for byte, whatever it looks like.
//! - C2: only the very first word can be a subcommand; `nvlaunch run plan` runs a file `plan`.
//! - C3: an option that is not known is an error, never handed to the script.
//! - C4: every option has a spelling with underscores besides the one with hyphens.

mod checkpoint;
mod complete;
mod error;
mod generate;
mod help;
mod options;
mod plan;
mod preflight;
mod profile;
mod smoke;
pub mod split;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Command, FromArgMatches};

pub use checkpoint::InspectArgs;
pub use complete::{SHELLS, program};
pub use error::CliError;
pub use generate::Generated;
pub use options::{RunArgs, Words, command};
pub use plan::{PlanArgs, PlanOutput};
pub use preflight::{Explained, PreflightArgs};
pub use profile::{InitArgs, LintArgs, ListArgs, ProfileCommand, ShowArgs};
pub use smoke::{PLACEHOLDER, SmokeArgs};

use crate::settings::env::Env;

/// The words that are subcommands where they stand first.
pub const SUBCOMMANDS: &[&str] = &[
    "run",
    "plan",
    "preflight",
    "profile",
    "checkpoint",
    "explain",
    "replay",
    "smoke",
    "generate",
    "help",
];

/// What nvlaunch was asked to do.
#[derive(Debug)]
pub enum Invocation {
    /// Start a job.
    Run(Box<RunArgs>),
    /// Say what a launch would do, and start nothing.
    Plan(Box<PlanArgs>),
    /// Check the recorded decisions of a run.
    Replay {
        /// The recorded events.
        file: PathBuf,
    },
    /// Judge the machine, and start nothing.
    Preflight(Box<PreflightArgs>),
    /// Prove that collectives work here.
    Smoke(Box<SmokeArgs>),
    /// Say what launch profiles there are, and what is in them.
    Profile(ProfileCommand),
    /// Say what checkpoints there are, and which one would be used.
    Inspect(Box<InspectArgs>),
    /// Say what a finding of preflight means.
    Explain(Explained),
    /// Print what packages and editors need.
    Generate(Generated),
    /// Print this on stdout and end well: help, version, completion script.
    Print(String),
}

/// Reads the command line; `argv` starts with the program's own name.
///
/// The environment is not needed yet: it is the layer below the command line, joined in
/// [`crate::settings::resolve`].
pub fn parse(argv: Vec<OsString>, _env: &Env) -> Result<Invocation, CliError> {
    let mut words: Vec<OsString> = argv.into_iter().skip(1).collect();
    match words.first().and_then(|word| word.to_str()) {
        Some("run") => {
            words.remove(0);
            run(words)
        }
        Some("plan") => plan(words.split_off(1)),
        Some("replay") => replay(&words[1..]),
        Some("preflight") => preflight::preflight(&words[1..]),
        Some("smoke") => smoke::smoke(&words[1..]),
        Some("profile") => profile::profile(&words[1..]),
        Some("checkpoint") => checkpoint::checkpoint(&words[1..]),
        Some("explain") => preflight::explain(&words[1..]),
        Some("generate") => generate::generate(&words[1..]),
        Some("help") => help(&words[1..]),
        _ => run(words),
    }
}

/// What `--help` prints after these words; `None` where there is no such subcommand.
pub fn help_text(words: &[&str]) -> Option<String> {
    let line = ["nvlaunch"].iter().chain(words).chain(&["--help"]);
    match parse(line.map(OsString::from).collect(), &Env::default()) {
        Ok(Invocation::Print(text)) => Some(text),
        _ => None,
    }
}

fn run(words: Vec<OsString>) -> Result<Invocation, CliError> {
    let (mut args, script_and_args) = match read::<RunArgs>(words, command(), "run", help::run)? {
        Read::Args(args, script_and_args) => (args, script_and_args),
        Read::Help(text) => return Ok(text),
    };
    if let Some(shell) = &args.print_completion {
        return complete::script(shell).map(Invocation::Print);
    }
    let mut script_and_args = script_and_args.into_iter();
    args.script = Some(script_and_args.next().ok_or(CliError::NoScript)?);
    args.args = script_and_args.collect();
    Ok(Invocation::Run(Box::new(args)))
}

fn plan(words: Vec<OsString>) -> Result<Invocation, CliError> {
    let read = read::<PlanArgs>(words, plan::command(), "plan", help::plan)?;
    let (mut args, script_and_args) = match read {
        Read::Args(args, script_and_args) => (args, script_and_args),
        Read::Help(text) => return Ok(text),
    };
    let mut script_and_args = script_and_args.into_iter();
    args.run.script = script_and_args.next();
    args.run.args = script_and_args.collect();
    if args.run.script.is_none() && args.run.no_python {
        return Err(CliError::NoScript);
    }
    Ok(Invocation::Plan(Box::new(args)))
}

/// What the words before the script are.
enum Read<T> {
    /// Options, and the script with what follows it.
    Args(T, Vec<OsString>),
    /// A question for help, answered.
    Help(Invocation),
}

fn read<T: FromArgMatches>(
    mut words: Vec<OsString>,
    mut command: Command,
    name: &'static str,
    help: fn() -> String,
) -> Result<Read<T>, CliError> {
    command.build();
    let split = split::split(&words, &split::Known::of(&command));
    let script_and_args = split.script.map(|at| words.split_off(at)).unwrap_or_default();
    words.truncate(split.options);
    let matches = match command.try_get_matches_from_mut(words) {
        Ok(matches) => matches,
        Err(error) => return error::from_clap(&error, name, help).map(Read::Help),
    };
    let args = T::from_arg_matches(&matches)
        .map_err(|error| CliError::Other { message: error.to_string() })?;
    Ok(Read::Args(args, script_and_args))
}

fn replay(words: &[OsString]) -> Result<Invocation, CliError> {
    match words {
        [word] if word == "-h" || word == "--help" => Ok(Invocation::Print(help::replay())),
        [] => Err(CliError::ReplayFile),
        [word, ..] if word.to_string_lossy().starts_with('-') && word != "-" => {
            Err(CliError::UnknownOption {
                option: word.to_string_lossy().into_owned(),
                nearest: None,
                command: "replay",
            })
        }
        [file] => Ok(Invocation::Replay { file: PathBuf::from(file) }),
        [_, word, ..] => {
            let word = word.to_string_lossy().into_owned();
            Err(CliError::UnexpectedWord { word, command: "replay" })
        }
    }
}

fn help(words: &[OsString]) -> Result<Invocation, CliError> {
    let topic = words.first().map(|word| word.to_string_lossy());
    if let (Some("profile"), Some(word)) = (topic.as_deref(), words.get(1)) {
        return profile::profile(&[word.clone(), "--help".into()]);
    }
    match topic.as_deref() {
        None | Some("run" | "-h" | "--help" | "help") => Ok(Invocation::Print(help::run())),
        Some("plan") => Ok(Invocation::Print(help::plan())),
        Some("replay") => Ok(Invocation::Print(help::replay())),
        Some("preflight") => Ok(Invocation::Print(help::preflight())),
        Some("smoke") => Ok(Invocation::Print(help::smoke())),
        Some("profile") => Ok(Invocation::Print(help::profile())),
        Some("checkpoint") if words.get(1).is_some_and(|word| word == "inspect") => {
            Ok(Invocation::Print(help::inspect()))
        }
        Some("checkpoint") => Ok(Invocation::Print(help::checkpoint())),
        Some("explain") => Ok(Invocation::Print(help::explain())),
        Some("generate") => Ok(Invocation::Print(help::generate())),
        Some(word) => Err(CliError::UnknownTopic { word: word.to_owned() }),
    }
}
