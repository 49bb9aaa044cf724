//! What kind of failure it was, and whether starting again can help.
//!
//! Pure: [`classify`] looks at how the first rank ended, what it said, and what the kernel says.
//! The rest is [`traceback`], which finds the exception that ended a script, and [`rules`], which
//! knows what exceptions and texts mean.
//!
//! - H1: a class is named with the words it rests on; where nothing is known it is
//!   [`Class::Unknown`], never a guess.
//! - H2: two failures are the same only where both have a fingerprint and these are equal. It holds
//!   the type of the exception and the innermost line of the user's code, no word of the message:
//!   numbers and addresses in it change. What comes from outside (a lost connection, a signal) has
//!   none.
//! - H3: of a chain of exceptions the last one counts; before it a lost peer, a timeout or a broken
//!   device anywhere in the chain, because what fails afterwards is its consequence; and where the
//!   last one tells nothing, what it was explicitly raised from.
//! - H4: only an exception that ended the script makes a failure final, or the same as another: one
//!   in the error file, or with exit code 1, which is Python's own, at the end of what was said. One
//!   that was printed and followed by more output, one of a thread or a destructor, one before a
//!   signal or before another exit code was survived: it is heard after all other words.
//! - H5: where the first rank to end lost another, or waited for it in vain, the cause is what ended
//!   that other one, as far as it had said so by then ([`own_exception`]).

mod rules;
#[cfg(test)]
mod tests;
mod traceback;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::error_file::ScriptError;
use super::exit::Exit;
use super::oom::Oom;
use super::secrets::scrub;

/// A kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The script is no Python.
    Syntax,
    /// A module is missing, or does not have what is asked of it.
    Import,
    /// A file or folder is missing.
    MissingFile,
    /// Something may not be read, written or executed.
    Permission,
    /// An assertion of the script, before its first step.
    Assertion,
    /// The script does not understand its arguments.
    Arguments,
    /// An exit code that the profile calls final.
    FinalCode,
    /// Another rank, or the connection to it, was lost.
    LostPeer,
    /// A collective or the store did not answer in time.
    Timeout,
    /// The machine was taken away.
    Preempted,
    /// A device is broken or lost.
    Device,
    /// The kernel ended a process for want of memory.
    Oom,
    /// Every rank ended with 0 and the job was not done.
    Unfinished,
    /// Anything else.
    Unknown,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// No restart can help.
    Never,
    /// A restart may help, unless it fails the same way at the same step.
    SameAgain,
    /// A restart helps.
    Retry,
    /// A restart helps on another machine; here only where there was progress since the last one.
    RetryElsewhere,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Syntax,
        Self::Import,
        Self::MissingFile,
        Self::Permission,
        Self::Assertion,
        Self::Arguments,
        Self::FinalCode,
        Self::LostPeer,
        Self::Timeout,
        Self::Preempted,
        Self::Device,
        Self::Oom,
        Self::Unfinished,
        Self::Unknown,
    ];

    /// As a profile names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Import => "import",
            Self::MissingFile => "missing-file",
            Self::Permission => "permission",
            Self::Assertion => "assertion",
            Self::Arguments => "arguments",
            Self::FinalCode => "final-code",
            Self::LostPeer => "lost-peer",
            Self::Timeout => "timeout",
            Self::Preempted => "preempted",
            Self::Device => "device",
            Self::Oom => "oom",
            Self::Unfinished => "unfinished",
            Self::Unknown => "unknown",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// What it is, in a sentence, for the schema and the reference page.
    pub fn text(self) -> &'static str {
        match self {
            Self::Syntax => "The script is no Python.",
            Self::Import => "A module is missing, or does not have what is asked of it.",
            Self::MissingFile => "A file or folder is missing.",
            Self::Permission => "Something may not be read, written or executed.",
            Self::Assertion => {
                "An assertion of the script, before its first step; later ones are unknown."
            }
            Self::Arguments => "The script does not understand its arguments.",
            Self::FinalCode => "An exit code of `restart.final-codes`.",
            Self::LostPeer => "Another rank, or the connection to it, was lost.",
            Self::Timeout => "A collective or the store did not answer in time.",
            Self::Preempted => "TERM, USR1 or USR2 from outside ended a rank.",
            Self::Device => "A device is broken, lost or held by somebody.",
            Self::Oom => "The kernel ended a process for want of memory.",
            Self::Unfinished => "Every rank ended with 0 and the job was not done.",
            Self::Unknown => "Anything else.",
        }
    }

    /// What follows from it where the profile does not say otherwise.
    pub fn remedy(self) -> Remedy {
        match self {
            Self::Syntax
            | Self::Import
            | Self::MissingFile
            | Self::Permission
            | Self::Assertion
            | Self::Arguments
            | Self::FinalCode => Remedy::Never,
            Self::LostPeer | Self::Timeout | Self::Preempted | Self::Unfinished => Remedy::Retry,
            Self::Device | Self::Oom => Remedy::RetryElsewhere,
            Self::Unknown => Remedy::SameAgain,
        }
    }

    /// The same after an attempt that came further than what it began with: the program and what it
    /// needs at its start are right, and what was there for hours may be there again. Where it is
    /// not, the next attempt comes no further.
    pub fn remedy_after_progress(self) -> Remedy {
        match self {
            Self::Import | Self::MissingFile | Self::Permission | Self::Assertion => {
                Remedy::SameAgain
            }
            _ => self.remedy(),
        }
    }
}

impl Remedy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Never, Self::SameAgain, Self::Retry, Self::RetryElsewhere];

    /// As a profile names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::SameAgain => "same-again",
            Self::Retry => "retry",
            Self::RetryElsewhere => "retry-elsewhere",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|remedy| remedy.name() == name)
    }
}

/// What is known of a failure.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// How the first rank to fail ended.
    pub exit: Exit,
    /// What its script wrote into the error file.
    pub error: Option<&'a ScriptError>,
    /// Its last lines, oldest first.
    pub stdout: &'a [Vec<u8>],
    /// The same of the other stream.
    pub stderr: &'a [Vec<u8>],
    /// What the kernel says of a kill for want of memory.
    pub oom: Option<&'a Oom>,
    /// Whether others waited for ranks that never came.
    pub missing: bool,
    /// `Some(false)`: the script reports its steps, and reported none in this attempt; `None`: not
    /// known.
    pub steps_done: Option<bool>,
    /// Exit codes that no restart can mend.
    pub final_codes: &'a [i32],
}

/// A failure with its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classified {
    /// What kind it is.
    pub class: Class,
    /// The words it rests on, as the end of a sentence: `ModuleNotFoundError: No module named 'x'`.
    /// One line, without secrets.
    pub why: String,
    /// The same for failures that are the same (H2); the step is not in it.
    pub fingerprint: Option<String>,
    /// What it may be besides: an assertion of which is not known whether it was before the first
    /// step. It weighs only where a profile says what follows from that.
    pub perhaps: Option<Class>,
}

impl Classified {
    /// Of this class, by these words.
    pub fn new(class: Class, why: &str, fingerprint: Option<String>) -> Self {
        Self { class, why: shown(why), fingerprint, perhaps: None }
    }
}

/// So many lines may follow the exception that ended a script: what libraries say at their end.
const LINES_AFTER: usize = 20;

/// The most characters of [`Classified::why`].
const WHY_WIDTH: usize = 200;

/// What kind of failure it was.
pub fn classify(evidence: &Evidence<'_>) -> Classified {
    let exit = evidence.exit;
    let plain = |class, why: String| Classified::new(class, &why, None);
    if exit.is_success() {
        return plain(Class::Unfinished, "the job was not done".to_owned());
    }
    if evidence.final_codes.contains(&i32::from(exit.as_exit_code())) {
        return plain(Class::FinalCode, exit.to_string());
    }
    match evidence.oom {
        Some(Oom::Logged { line }) => return plain(Class::Oom, line.clone()),
        Some(Oom::Counted { .. }) => {
            return plain(Class::Oom, "the kernel killed a process for want of memory".to_owned());
        }
        None => {}
    }
    match signal(exit) {
        // Not from nvlaunch, which asks the others only after the first: schedulers end or warn
        // every process of a job by these.
        Some(Signal::SIGTERM | Signal::SIGUSR1 | Signal::SIGUSR2) => {
            return plain(Class::Preempted, format!("{exit} from outside"));
        }
        // What a script prints last does not end it by KILL.
        Some(Signal::SIGKILL) => return from_texts(evidence, &said(evidence)),
        _ => {}
    }
    let said = said(evidence);
    let Some(exception) = exception(evidence, &said) else { return from_texts(evidence, &said) };
    if exception.ends_it {
        return from_exception(evidence, &exception.chain, &said);
    }
    // H4
    let found = from_texts(evidence, &said);
    if found.class == Class::Unknown && found.fingerprint.is_none() {
        return from_survived(&exception.chain);
    }
    found
}

/// What ends or will end another rank than the first, by what it had said when that one failed: an
/// exception of its own that ended its script, and no consequence of what happens to others. Ranks
/// that wait for one that fails may be gone before it: it cleans up, uploads, waits for its threads.
pub fn own_exception(evidence: &Evidence<'_>) -> Option<Classified> {
    // It has not ended, or not by itself.
    let evidence = &Evidence { exit: Exit::Code(1), ..*evidence };
    let said = said(evidence);
    let exception = exception(evidence, &said).filter(|exception| exception.ends_it)?;
    if rules::is_between_ranks(&exception.chain) {
        return None;
    }
    let found = from_exception(evidence, &exception.chain, &said);
    let is_own = match found.class {
        Class::LostPeer | Class::Timeout => false,
        // What comes from outside has no fingerprint (H2).
        Class::Unknown => found.fingerprint.is_some(),
        _ => true,
    };
    is_own.then_some(found)
}

/// The signal that ended it, also where a shell took it over as its exit code.
fn signal(exit: Exit) -> Option<Signal> {
    let (Exit::Signal(number) | Exit::Code(number)) = exit;
    let number = if matches!(exit, Exit::Code(_)) { number - 128 } else { number };
    Signal::try_from(number).ok()
}

/// What was said, in lines without colours and prefixes.
struct Said {
    error: Vec<String>,
    stderr: Vec<String>,
    stdout: Vec<String>,
}

fn said(evidence: &Evidence<'_>) -> Said {
    let of = |lines: &[Vec<u8>]| {
        traceback::clean(lines.iter().map(|line| String::from_utf8_lossy(line)))
    };
    let error = evidence.error.map(|error| error.traceback.as_ref().unwrap_or(&error.message));
    Said {
        error: traceback::clean(error.iter().flat_map(|text| text.lines()).map(Into::into)),
        stderr: of(evidence.stderr),
        stdout: of(evidence.stdout),
    }
}

/// The last exception that was said.
struct Exception {
    chain: traceback::Chain,
    /// Whether it ended the script (H4).
    ends_it: bool,
}

fn exception(evidence: &Evidence<'_>, said: &Said) -> Option<Exception> {
    let written = traceback::last(&said.error).or_else(|| {
        let message = &evidence.error?.message;
        traceback::Chain::of_message(message)
    });
    if let Some(chain) = written {
        return Some(Exception { chain, ends_it: true });
    }
    let chain = traceback::last(&said.stderr).or_else(|| traceback::last(&said.stdout))?;
    // `Py_RunMain` of CPython's `Modules/main.c`.
    let ends_it = evidence.exit == Exit::Code(1) && chain.lines_after <= LINES_AFTER;
    Some(Exception { chain, ends_it })
}

/// By the exception that ended the script.
fn from_exception(evidence: &Evidence<'_>, chain: &traceback::Chain, said: &Said) -> Classified {
    let thrown = chain.last();
    let mut is = rules::of_chain(chain);
    let mut perhaps = None;
    if matches!(is, rules::Is::Class(Class::Assertion, _)) && evidence.steps_done != Some(false) {
        is = rules::Is::Unknown;
        perhaps = evidence.steps_done.is_none().then_some(Class::Assertion);
    }
    match is {
        rules::Is::Class(class, words) => Classified::new(class, &words, thrown.fingerprint()),
        // A broken device is said by the driver, whatever the script fails of.
        rules::Is::Unknown | rules::Is::Passing => {
            if let Some(words) = rules::device(&said.stderr, &said.stdout) {
                return Classified::new(Class::Device, &words, None);
            }
            let fingerprint = thrown.fingerprint().filter(|_| is == rules::Is::Unknown);
            Classified { perhaps, ..Classified::new(Class::Unknown, &thrown.words(), fingerprint) }
        }
    }
}

/// By an exception after which the script went on, where nothing else is known: nothing that makes
/// the failure final may rest on it.
fn from_survived(chain: &traceback::Chain) -> Classified {
    let (class, why) = match rules::of_chain(chain) {
        rules::Is::Class(class, words) if class.remedy() == Remedy::Retry => (class, words),
        _ => (Class::Unknown, chain.last().words()),
    };
    Classified::new(class, &why, None)
}

/// By the last lines, where no exception ended the script.
fn from_texts(evidence: &Evidence<'_>, said: &Said) -> Classified {
    let exit = evidence.exit;
    let known = match exit {
        Exit::Code(code) => rules::of_program(code, &said.stderr),
        Exit::Signal(_) => None,
    };
    let known = known.or_else(|| rules::of_lines(&said.stderr, &said.stdout));
    let (class, why) = match known {
        Some((class, words)) => (class, words),
        None if evidence.missing => (Class::Timeout, "other ranks never came".to_owned()),
        None => (Class::Unknown, exit.to_string()),
    };
    let is_signal = signal(exit).is_some_and(|signal| signal != Signal::SIGKILL);
    let fingerprint = traceback::crash(&said.stderr)
        .filter(|_| is_signal && class == Class::Unknown)
        .map(|place| format!("{exit} at {place}"));
    Classified::new(class, &why, fingerprint)
}

/// One line without secrets and control characters, not too long.
fn shown(words: &str) -> String {
    crate::layout::cut(&crate::layout::plain(&scrub(words)), WHY_WIDTH)
}
