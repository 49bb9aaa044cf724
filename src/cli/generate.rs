//! The command line of `nvlaunch generate`: exactly what was typed.

use std::ffi::OsString;

use clap::{Arg, Command};

use super::{CliError, Invocation, SHELLS, SUBCOMMANDS, complete, help};
use crate::settings::values::nearest;

/// What `nvlaunch generate` was asked for. A completion script is printed as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Generated {
    /// The manual: of everything, or of one subcommand.
    Man(Option<&'static str>),
    /// The reference page.
    Reference,
}

/// What can be generated.
const WHAT: &[&str] = &["completions", "man", "reference"];

/// The subcommands that have pages of their own.
fn documented() -> impl Iterator<Item = &'static str> + Clone {
    SUBCOMMANDS.iter().copied().filter(|name| !matches!(*name, "run" | "help"))
}

/// The words as clap knows them.
pub(super) fn command() -> Command {
    let word = |id: &'static str, words: Vec<&'static str>| {
        Arg::new(id).value_name(id.to_uppercase()).value_parser(words)
    };
    let commands = documented().collect();
    Command::new("generate")
        .about("Completion scripts, the manual, the reference page")
        .subcommands([
            Command::new("completions")
                .about("A completion script for a shell")
                .arg(word("shell", SHELLS.to_vec()).required(true)),
            Command::new("man").about("The manual, for man(1)").arg(word("command", commands)),
            Command::new("reference").about("Everything that can be set, as Markdown"),
        ])
}

/// Reads the words after `generate`.
pub(super) fn generate(words: &[OsString]) -> Result<Invocation, CliError> {
    if words.iter().any(|word| word == "-h" || word == "--help") {
        return Ok(Invocation::Print(help::generate()));
    }
    let text = |word: &OsString| word.to_string_lossy().into_owned();
    if let Some(option) = words.iter().find(|word| word.to_string_lossy().starts_with('-')) {
        let option = text(option);
        let nearest = nearest(&option, ["--help"].into_iter()).map(str::to_owned);
        return Err(CliError::UnknownOption { option, nearest, command: "generate" });
    }
    let Some((what, of)) = words.split_first() else { return Err(CliError::GenerateWhat) };
    let (taken, invocation) = match (what.to_str(), of) {
        (Some("completions"), []) => return Err(CliError::GenerateShell),
        (Some("completions"), [shell, ..]) => (1, Invocation::Print(complete::script(shell)?)),
        (Some("man"), []) => (0, Invocation::Generate(Generated::Man(None))),
        (Some("man"), [command, ..]) => {
            let found = documented().find(|name| command == name);
            let word = || text(command);
            let command = found.ok_or_else(|| CliError::NoPage {
                nearest: nearest(&word(), documented()),
                word: word(),
            })?;
            (1, Invocation::Generate(Generated::Man(Some(command))))
        }
        (Some("reference"), _) => (0, Invocation::Generate(Generated::Reference)),
        _ => {
            let word = text(what);
            let nearest = nearest(&word, WHAT.iter().copied());
            return Err(CliError::UnknownGenerated { word, nearest });
        }
    };
    match of.get(taken) {
        Some(word) => Err(CliError::UnexpectedWord { word: text(word), command: "generate" }),
        None => Ok(invocation),
    }
}
