//! `nvlaunch profile lint FILE…`: every problem in some files.
//!
//! - L1: the problems are what was asked for: they go to stdout, in both forms.
//! - L2: one file's problem hides no other's: all files are looked through.
//! - L3: what a file extends is followed to the end; what is wrong there is one problem at the line
//!   that says `extends`.
//! - L4: a warning is a problem here, though a launch goes on with it.
//! - L5: the `config.yaml` of the user or the system is read as a launch reads it: what only a
//!   profile can say is wrong there.

use std::ffi::OsString;
use std::path::Path;

use super::output;
use crate::cli::LintArgs;
use crate::error::Explain as _;
use crate::exit_code;
use crate::profile::error::ProfileError;
use crate::profile::load::{self, ChoiceError};
use crate::profile::node::{self, Value};
use crate::profile::places::{self, Places};
use crate::profile::problem::{Level, Problem, Span};
use crate::profile::render::{self, Counts, Entry, Manner};
use crate::profile::source::{self, Source};
use crate::settings::env::Env;

/// Columns of the text; a report that people paste looks the same whatever their terminal is.
const WIDTH: usize = 80;

/// Prints the problems; the exit code.
pub(super) fn lint(args: &LintArgs, env: &Env) -> u8 {
    let places = Places::new(Path::new("/"), Path::new(""), env);
    let errors: Vec<ProfileError> =
        args.files.iter().filter_map(|path| problems(path, &places).err()).collect();
    let text = if args.format.as_deref().is_some_and(|format| format == "json") {
        json(&errors)
    } else {
        let stdout = std::io::stdout();
        let choice = anstream::AutoStream::choice(&stdout);
        let colour = !matches!(choice, anstream::ColorChoice::Never);
        text(&errors, args.files.len(), Manner { colour, width: WIDTH })
    };
    let printed = output::print(&text);
    code(&errors).unwrap_or(printed)
}

/// Everything that is or may be wrong with a file.
fn problems(path: &Path, places: &Places) -> Result<(), ProfileError> {
    let source_text = source::read(path)?;
    let (document, mut problems) = source::judge(&source_text);
    if is_config(path, places) {
        problems.extend(load::only_of_profiles(&source_text));
    }
    let is_right = problems.iter().all(|problem| problem.level != Level::Error);
    if is_right && let Some(extends) = &document.extends {
        let followed = follow(path, places);
        problems.extend(followed.err().map(|error| {
            let text = said(&error);
            let own = format!("{}: ", extends.origin);
            let what = text.strip_prefix(&own).unwrap_or(&text);
            let problem = Problem::new(place_of_extends(&source_text), what);
            Problem { hint: error.hint(), ..problem }
        }));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(ProfileError::Problems { source_text, problems })
}

/// Whether every launch follows this file, whatever its profile is (L5).
fn is_config(path: &Path, places: &Places) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    real(path).is_some_and(|own| places.configs().iter().any(|one| real(one) == Some(own.clone())))
}

/// Reads what a profile extends (L3).
fn follow(path: &Path, places: &Places) -> Result<(), ChoiceError> {
    // A file, whatever its name ends with.
    let is_file = places::is_path(&path.to_string_lossy());
    let mut word = OsString::from(if is_file { "" } else { "./" });
    word.push(path);
    let profile = load::named(&word, "FILE", places, Path::new(""))?;
    load::whole(profile, places).map(drop)
}

/// An error as one clause.
fn said(error: &ChoiceError) -> String {
    match error {
        ChoiceError::File(ProfileError::Problems { source_text, problems }) => {
            let first = problems.iter().find(|problem| problem.level == Level::Error);
            let first = first.map_or_else(String::new, |first| render::line(source_text, first));
            format!("what it extends is wrong: {first}")
        }
        error => error.to_string(),
    }
}

/// The name that stands behind `extends`.
fn place_of_extends(source: &Source) -> Span {
    let root = node::parse(&source.text).ok();
    let found = root.and_then(|root| match root.value {
        Value::Map(entries) => entries.into_iter().find(|(key, _)| key.text == "extends"),
        _ => None,
    });
    found.map_or_else(Span::default, |(_, name)| name.span)
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
