//! Finds where the options of nvlaunch end and the script begins.
//!
//! Decides on words alone, with clap's own definitions of the options: which exist, and which take
//! a value. It judges nothing: at an option that is not known, or one whose value is missing, it
//! stops, and clap, which is handed the words up to there, says what is wrong.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// The options that exist, by every spelling.
#[derive(Debug)]
pub struct Known<'a> {
    long: Vec<(&'a str, Takes)>,
    short: Vec<(char, bool)>,
}

/// What an option takes besides its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Word,
    /// A word that may look like an option, as `--resume {path}` does.
    Text,
}

impl<'a> Known<'a> {
    /// The options of `command`, which has been built (so that `--help` is among them).
    pub fn of(command: &'a clap::Command) -> Self {
        let mut known = Self { long: Vec::with_capacity(128), short: Vec::new() };
        for arg in command.get_arguments() {
            // An option whose value only ever stands behind `=` takes no further word.
            let takes_value = arg.get_action().takes_values() && !arg.is_require_equals_set();
            let aliases = arg.get_all_aliases().unwrap_or_default();
            let takes = match takes_value {
                false => Takes::Nothing,
                true if arg.is_allow_hyphen_values_set() => Takes::Text,
                true => Takes::Word,
            };
            known.long.extend(arg.get_long().into_iter().chain(aliases).map(|l| (l, takes)));
            known.short.extend(arg.get_short().map(|s| (s, takes_value)));
        }
        known
    }

    fn long(&self, name: &[u8]) -> Option<Takes> {
        self.long.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, takes)| *takes)
    }

    fn short(&self, letter: u8) -> Option<bool> {
        self.short.iter().find(|(known, _)| *known == char::from(letter)).map(|(_, takes)| *takes)
    }
}

/// Where the parts of a command line are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// The first so many words are options and their values.
    pub options: usize,
    /// The index of the script; its arguments follow it.
    pub script: Option<usize>,
}

enum Step {
    /// The option takes this many words.
    Words(usize),
    /// The option is not known or lacks its value.
    Broken,
}

/// Splits the words after the program's name (and after `run`).
pub fn split(words: &[OsString], known: &Known<'_>) -> Split {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            let script = at + 1;
            return Split { options: at, script: (script < words.len()).then_some(script) };
        }
        let next = words.get(at + 1).map(OsString::as_os_str);
        let step = match bytes {
            [b'-', b'-', name @ ..] => long(name, next, known),
            [b'-', cluster @ ..] if !cluster.is_empty() => short(cluster, next, known),
            _ => return Split { options: at, script: Some(at) },
        };
        match step {
            Step::Words(count) => at += count,
            Step::Broken => return Split { options: at + 1, script: None },
        }
    }
    Split { options: at, script: None }
}

fn long(name: &[u8], next: Option<&OsStr>, known: &Known<'_>) -> Step {
    let end = name.iter().position(|&byte| byte == b'=').unwrap_or(name.len());
    match known.long(&name[..end]) {
        None => Step::Broken,
        // Whether a flag may have `=value` is clap's to say.
        Some(takes) if takes == Takes::Nothing || end < name.len() => Step::Words(1),
        Some(Takes::Text) if next.is_some_and(is_text) => Step::Words(2),
        Some(_) => value_in(next),
    }
}

fn short(cluster: &[u8], next: Option<&OsStr>, known: &Known<'_>) -> Step {
    for (index, &letter) in cluster.iter().enumerate() {
        match known.short(letter) {
            None => return Step::Broken,
            Some(true) if index + 1 < cluster.len() => return Step::Words(1),
            Some(true) => return value_in(next),
            Some(false) => {}
        }
    }
    Step::Words(1)
}

fn value_in(next: Option<&OsStr>) -> Step {
    if next.is_some_and(is_value) { Step::Words(2) } else { Step::Broken }
}

/// Whether a word is no option, whatever it begins with.
fn is_text(word: &OsStr) -> bool {
    word.as_bytes().iter().any(|byte| matches!(byte, b' ' | b'{'))
}

/// Whether a word can be the value of the option before it: no option itself. `-1` is a number, so
/// that a wrong count is called a wrong count.
fn is_value(word: &OsStr) -> bool {
    match word.as_bytes() {
        [b'-', rest @ ..] => rest.first().is_none_or(|b| b.is_ascii_digit() || *b == b'.'),
        _ => true,
    }
}
