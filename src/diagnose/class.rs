//! What kind of failure it was, and whether starting again can help.
//!
//! Pure: [`classify`] looks at how the first rank ended, what it said, and what the kernel says.
//!
//! - H1: a class is named with the words it rests on; where nothing is known it is
//!   [`Class::Unknown`], never a guess.
//! - H2: two failures are the same only where both have a fingerprint and these are equal.

use serde::{Deserialize, Serialize};

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
