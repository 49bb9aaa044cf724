//! What a value looks like: for people on the reference page, and for editors in the JSON schema.
//!
//! Whether a value is right is decided by [`super::keys::Key::check`] alone; what stands here says
//! the same as far as words, bounds and patterns can, and a test compares the two.

use nix::sys::signal::Signal;

use super::keys::{Key, Kind};
use crate::host::vendors;
use crate::settings::spec::MAX_RANKS;
use crate::settings::values;

/// What a value looks like; of a list, one entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    /// In words, as the end of a sentence: `a number from 0 to 65535`.
    pub says: String,
    /// Words that may stand there.
    pub words: Vec<&'static str>,
    /// The least and the greatest whole number that may.
    pub numbers: Option<(u32, u32)>,
    /// A regular expression (ECMA 262, for the whole text) of texts that may besides these.
    pub pattern: Option<&'static str>,
    /// Whether what YAML takes for a number, true or false fits no text of that pattern.
    pub is_text: bool,
}

/// Numbers with units as [`humantime`] reads them: `30s`, `1h 30m`, `1.5min`.
macro_rules! time {
    () => {
        "([0-9]+(\\.[0-9]+)?\\s*(nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds|second|secs|sec|s|minutes|minute|mins|min|m|hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|wk|w|months|month|M|years|year|yrs|yr|y)\\s*)+"
    };
}
const TIME: &str = time!();

impl Key {
    /// What its value looks like, the word for "not given" included.
    pub fn form(&self) -> Form {
        let says = |says: &str| Form { says: says.to_owned(), ..Form::default() };
        let mut form = match self.kind {
            Kind::Flag => says("true or false"),
            Kind::Words(words) => Form { words: words.to_vec(), ..Form::default() },
            Kind::Time => Form { pattern: Some(TIME), ..says("a time with its unit: 30s, 5m, 1h") },
            Kind::Deadline => {
                Form { pattern: Some(TIME), ..says("a time above zero with its unit: 30s, 5m, 1h") }
            }
            Kind::Text => says("text"),
            Kind::Path => says("a path"),
            Kind::Number { least, most, words } => {
                Form { words: words.to_vec(), numbers: Some((least, most)), ..Form::default() }
            }
            Kind::List(check) | Kind::Form(check) => (check.form)(),
        };
        // A word of a text needs no place of its own among the words.
        let is_free = matches!(self.kind, Kind::Text | Kind::Path);
        if let Some(word) = self.unset.filter(|word| !form.words.contains(word)) {
            if is_free {
                form.says = format!("{}, or {word}", form.says);
            } else {
                form.words.insert(0, word);
            }
        }
        if form.says.is_empty() || !is_free {
            form.says = said(&form);
        }
        if matches!(self.kind, Kind::List(_)) {
            form.says = format!("a list, or entries with commas between them: {}", form.says);
        }
        form
    }
}

/// Numbers first, then what the form says itself, then its words.
fn said(form: &Form) -> String {
    let numbers = form.numbers.map(|(least, most)| match most {
        _ if least == most => least.to_string(),
        u32::MAX => format!("a number from {least}"),
        _ => format!("a number from {least} to {most}"),
    });
    let own = Some(form.says.clone()).filter(|says| !says.is_empty());
    let words = form.words.iter().map(|word| (*word).to_owned());
    let all: Vec<String> = numbers.into_iter().chain(own).chain(words).collect();
    match all.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The name of checkpoint files.
pub fn checkpoint_pattern() -> Form {
    Form {
        says: "the name of a file with {step} in it".to_owned(),
        pattern: Some("[^/]*\\{step\\}[^/]*"),
        is_text: true,
        ..Form::default()
    }
}

/// Arguments with places in them.
pub fn resume_arg() -> Form {
    Form {
        says: "arguments with {path} or the like in them".to_owned(),
        pattern: Some("[\\s\\S]*"),
        ..Form::default()
    }
}

/// A wait that doubles.
pub fn backoff() -> Form {
    Form {
        says: "two times, as in 1s..5m, or one".to_owned(),
        pattern: Some(concat!(time!(), "(\\.\\.\\s*", time!(), ")?")),
        is_text: true,
        ..Form::default()
    }
}

/// An exit code of a failure.
pub fn exit_code() -> Form {
    Form { numbers: Some((1, 255)), ..Form::default() }
}

/// A number of ranks or what to count.
pub fn nproc() -> Form {
    let words = ["auto", "gpu", "cpu"].into_iter();
    let others = vendors::names().filter(|name| !["auto", "gpu", "cpu"].contains(name));
    let words = words.chain(others).collect();
    Form { words, numbers: Some((1, MAX_RANKS)), ..Form::default() }
}

/// A number of nodes that can be started today.
pub fn one_node() -> Form {
    Form { numbers: Some((1, 1)), pattern: Some("1:1"), ..Form::default() }
}

/// A host name or address.
pub fn host() -> Form {
    Form {
        says: "a host name or address".to_owned(),
        // Letters of any script, which not every reader of schemas has a class for.
        pattern: Some("\\[?[^\\s!\"#$&'()*+,/;<=>?@\\[\\\\\\]^`{|}~]+\\]?"),
        ..Form::default()
    }
}

/// A backend, or one for each kind of device.
pub fn backend() -> Form {
    Form {
        says: "a backend (one for each kind of device: cpu:gloo,cuda:nccl)".to_owned(),
        pattern: Some("[A-Za-z0-9_:,-]+"),
        ..Form::default()
    }
}

/// Who reads the standard input.
pub fn stdin() -> Form {
    Form { words: vec!["auto", "none"], numbers: Some((0, u32::MAX)), ..Form::default() }
}

/// Streams, or streams by local rank.
pub fn streams() -> Form {
    Form {
        says: "such numbers by local rank as in 0:1,12:3".to_owned(),
        numbers: Some((0, 3)),
        pattern: Some("[0-9]+:[0-3](,[0-9]+:[0-3])*"),
        ..Form::default()
    }
}

/// The name of a signal that can end a job.
pub fn signal() -> Form {
    let all = Signal::iterator().map(Signal::as_str);
    Form { words: all.filter(|name| values::signals(name).is_ok()).collect(), ..Form::default() }
}

/// A local rank.
pub fn rank() -> Form {
    Form { numbers: Some((0, u32::MAX)), ..Form::default() }
}

/// The name of a Python module.
pub fn module() -> Form {
    Form {
        says: "names of Python modules".to_owned(),
        pattern: Some("[A-Za-z_][A-Za-z0-9_]*(\\.[A-Za-z_][A-Za-z0-9_]*)*"),
        ..Form::default()
    }
}
