//! Completion scripts for shells.

use std::ffi::OsStr;

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
    let hint = |id: &'static str, hint| clap::Arg::new(id).value_hint(hint);
    let mut command = super::command()
        .arg(hint("script", clap::ValueHint::FilePath))
        .arg(hint("args", clap::ValueHint::AnyPath).num_args(0..).trailing_var_arg(true));
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "nvlaunch", &mut text);
    String::from_utf8(text).map_err(|error| CliError::Other { message: error.to_string() })
}
