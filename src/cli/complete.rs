//! Completion scripts for shells, and the one definition of the command line that they follow.

use std::ffi::OsStr;

use clap::{Arg, ArgAction, Command, ValueHint};
use clap_complete::Shell;

use super::CliError;

/// The shells there are scripts for.
pub const SHELLS: &[&str] = &["bash", "zsh", "fish", "elvish", "powershell"];

/// The script for `shell`.
pub(super) fn script(shell: &OsStr) -> Result<String, CliError> {
    let shell = match shell.to_str() {
        Some("bash") => Shell::Bash,
        Some("zsh") => Shell::Zsh,
        Some("fish") => Shell::Fish,
        Some("elvish") => Shell::Elvish,
        Some("powershell") => Shell::PowerShell,
        _ => return Err(CliError::UnknownShell { shell: shell.to_string_lossy().into_owned() }),
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut program(), "nvlaunch", &mut text);
    String::from_utf8(text).map_err(|error| CliError::Other { message: error.to_string() })
}

/// The whole command line as clap knows it: every subcommand with its options, what stands behind
/// them included. Completions, the manual and the reference page all follow it.
pub fn program() -> Command {
    let hint = |id: &'static str, hint| Arg::new(id).value_hint(hint);
    let launch = || {
        super::command()
            .arg(hint("script", ValueHint::FilePath))
            .arg(hint("args", ValueHint::AnyPath).num_args(0..).trailing_var_arg(true))
    };
    let list = Arg::new("list").long("list").action(ArgAction::SetTrue).help("All findings");
    let topics = super::SUBCOMMANDS.iter().filter(|word| **word != "help");
    launch().disable_help_subcommand(true).subcommands([
        launch().name("run").about("Start a job").version(None::<&str>),
        super::plan::command()
            .about("What a launch would do")
            .arg(hint("script", ValueHint::FilePath))
            .arg(hint("args", ValueHint::AnyPath).num_args(0..).trailing_var_arg(true)),
        super::preflight::command().about("Whether this machine can train"),
        super::smoke::command().about("Prove that this machine can train"),
        super::profile::command(),
        super::checkpoint::command(),
        Command::new("explain")
            .about("What a finding means")
            .arg(list)
            .arg(hint("code", ValueHint::Other)),
        Command::new("replay")
            .about("Check the recorded decisions of a run")
            .arg(hint("file", ValueHint::FilePath)),
        super::generate::command(),
        Command::new("help")
            .about("Help on a subcommand")
            .arg(Arg::new("topic").value_parser(topics.copied().collect::<Vec<_>>())),
    ])
}
