//! `nvlaunch profile lint FILE…`: every problem in some files.
//!
//! - L1: the problems are what was asked for: they go to stdout, in both forms.
//! - L2: one file's problem hides no other's: all files are looked through.
//! - L3: a warning is a problem here, though a launch goes on with it.

use std::path::Path;

use super::output;
use crate::cli::LintArgs;
use crate::error::{BoxError, Explain as _};
use crate::exit_code;
use crate::profile::error::ProfileError;
use crate::profile::render::{Counts, Entry, Manner};
use crate::profile::source;

/// Columns of the text; a report that people paste looks the same whatever their terminal is.
const WIDTH: usize = 80;

/// Prints the problems; the exit code.
pub(super) fn lint(args: &LintArgs) -> Result<u8, BoxError> {
    let errors: Vec<ProfileError> =
        args.files.iter().filter_map(|path| problems(path).err()).collect();
    let text = if args.format.as_deref().is_some_and(|format| format == "json") {
        json(&errors)
    } else {
        let stdout = std::io::stdout();
        let choice = anstream::AutoStream::choice(&stdout);
        let colour = !matches!(choice, anstream::ColorChoice::Never);
        text(&errors, args.files.len(), Manner { colour, width: WIDTH })
    };
    let printed = output::print(&text);
    Ok(code(&errors).unwrap_or(printed))
}

/// Everything that is or may be wrong with a file.
fn problems(path: &Path) -> Result<(), ProfileError> {
    let source_text = source::read(path)?;
    let (_, problems) = source::judge(&source_text);
    if problems.is_empty() {
        return Ok(());
    }
    Err(ProfileError::Problems { source_text, problems })
}

/// What is wrong in a file weighs more than a file that is not there.
fn code(errors: &[ProfileError]) -> Option<u8> {
    let codes = errors.iter().map(ProfileError::exit_code);
    codes.max_by_key(|code| *code == exit_code::CONFIG)
}

fn json(errors: &[ProfileError]) -> String {
    let entries: Vec<Entry> = errors.iter().flat_map(ProfileError::entries).collect();
    let text = serde_json::to_string_pretty(&entries).expect("numbers and texts become JSON");
    text + "\n"
}

fn text(errors: &[ProfileError], files: usize, manner: Manner) -> String {
    let mut text = String::new();
    let mut counts = Counts::default();
    for error in errors {
        text.push_str(&error.blocks(manner));
        text.push('\n');
        counts += error.counts();
    }
    let of = match files {
        1 => "1 file".to_owned(),
        _ => format!("{files} files"),
    };
    match errors.len() {
        0 => format!("nothing is wrong in {of}\n"),
        bad if bad == files => format!("{text}{} in {of}\n", counts.text()),
        bad => format!("{text}{} in {bad} of {of}\n", counts.text()),
    }
}
