//! What kind of failure it was, and whether starting again can help.
//!
//! Pure: [`classify`] looks at how the first rank ended, what it said, and what the kernel says.
//!
//! - H1: a class is named with the words it rests on; where nothing is known it is
//!   [`Class::Unknown`], never a guess.
//! - H2: two failures are the same only where both have a fingerprint and these are equal.

use serde::{Deserialize, Serialize};

use super::error_file::ScriptError;
use super::exit::Exit;
use super::oom::Oom;

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
}

/// What kind of failure it was.
pub fn classify(evidence: &Evidence<'_>) -> Classified {
    let class = match evidence.exit {
        Exit::Code(0) => Class::Unfinished,
        exit if evidence.final_codes.contains(&i32::from(exit.as_exit_code())) => Class::FinalCode,
        _ if evidence.oom.is_some() => Class::Oom,
        _ => Class::Unknown,
    };
    Classified { class, why: evidence.exit.to_string(), fingerprint: None }
}
