//! The command line of `nvlaunch checkpoint`: exactly what was typed.

use std::ffi::OsString;

use clap::{Args, Command, FromArgMatches as _};

use super::options::{Words, house_style};
use super::{CliError, Invocation, error, help};
use crate::settings::values::{self, nearest};

/// The words that may follow `checkpoint`.
pub const SUBCOMMANDS: &[&str] = &["inspect"];

/// The options of `nvlaunch checkpoint inspect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct InspectArgs {
    /// The folder where a job saves; always there after [`super::parse`]
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub dir: Option<OsString>,
    /// How checkpoints are laid out [default: auto]
    #[arg(long, visible_alias = "checkpoint-layout", value_name = "NAME", help_heading = FOLDER, value_parser = Words(values::LAYOUTS))]
    pub layout: Option<OsString>,
    /// Name of files that torch.save writes, as in step_{step}.pt
    #[arg(long, visible_alias = "checkpoint-pattern", value_name = "NAME", help_heading = FOLDER)]
    pub pattern: Option<OsString>,
    /// Ranks of the job that saved: so many shards must be there [default: not compared]
    #[arg(long, value_name = "N", help_heading = FOLDER)]
    pub world_size: Option<OsString>,
    /// How long looking may take; a file system that does not answer is left behind [default: 60s]
    #[arg(long, value_name = "TIME", help_heading = FOLDER)]
    pub timeout: Option<OsString>,
    /// Print everything as JSON
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
}

const FOLDER: &str = "The folder";
const OUTPUT: &str = "Output";

/// All of them as clap knows them, for completions and reference pages.
pub(super) fn command() -> Command {
    Command::new("checkpoint")
        .about("What checkpoints there are")
        .subcommands([inspect().about("Which checkpoints are whole, and which one would be used")])
}

/// The options of `inspect`.
pub(super) fn inspect() -> Command {
    house_style(InspectArgs::augment_args(Command::new("inspect")))
}

/// Reads the words after `checkpoint`.
pub(super) fn checkpoint(words: &[OsString]) -> Result<Invocation, CliError> {
    let Some((word, rest)) = words.split_first() else { return Err(CliError::CheckpointCommand) };
    match word.to_string_lossy().as_ref() {
        "-h" | "--help" | "help" => Ok(Invocation::Print(help::checkpoint())),
        "inspect" => read(rest),
        word => {
            let near = nearest(word, SUBCOMMANDS.iter().copied()).map(str::to_owned);
            // `nvlaunch checkpoint runs/a`
            let near = near.or_else(|| word.contains('/').then(|| format!("inspect {word}")));
            Err(CliError::UnknownCheckpointCommand { word: word.to_owned(), nearest: near })
        }
    }
}

fn read(words: &[OsString]) -> Result<Invocation, CliError> {
    let mut command = inspect();
    command.build();
    let matches = match command.try_get_matches_from_mut(words) {
        Ok(matches) => matches,
        Err(error) => return error::from_clap(&error, "checkpoint inspect", help::inspect),
    };
    let args = InspectArgs::from_arg_matches(&matches)
        .map_err(|error| CliError::Other { message: error.to_string() })?;
    if args.dir.as_ref().is_none_or(|dir| dir.is_empty()) {
        return Err(CliError::InspectFolder);
    }
    Ok(Invocation::Inspect(Box::new(args)))
}
