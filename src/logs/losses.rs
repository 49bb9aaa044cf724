//! What did not reach the console or a file, and why: counters for the report.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Lines and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Whole lines.
    pub lines: u64,
    /// Bytes, prefixes and line ends included.
    pub bytes: u64,
}

impl Amount {
    /// Adds that much.
    pub fn add(&mut self, lines: u64, bytes: usize) {
        self.lines += lines;
        self.bytes += bytes as u64;
    }

    /// Whether nothing is counted.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

/// What one console stream did not show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleLoss {
    /// It took less than the ranks printed, or had not taken all when time was up.
    pub slow: Amount,
    /// Its reader was gone (`EPIPE`).
    pub closed: Amount,
    /// Writing failed otherwise.
    pub failed: Amount,
    /// The first error other than `EPIPE`.
    pub error: Option<String>,
}

impl ConsoleLoss {
    /// All causes together.
    pub fn total(&self) -> Amount {
        let parts = [self.slow, self.closed, self.failed];
        Amount {
            lines: parts.iter().map(|p| p.lines).sum(),
            bytes: parts.iter().map(|p| p.bytes).sum(),
        }
    }
}

/// The first thing that could not be written to a log file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileError {
    /// Which file.
    pub path: PathBuf,
    /// The system's words.
    pub reason: String,
}

/// What log files lack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLoss {
    /// Bytes of ranks that are in no file.
    pub bytes: u64,
    /// The first error.
    pub first: Option<FileError>,
}

/// Everything that was lost in a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Console, standard output.
    pub stdout: ConsoleLoss,
    /// Console, standard error.
    pub stderr: ConsoleLoss,
    /// Log files of ranks.
    pub files: FileLoss,
    /// Lines missing in `events.jsonl`.
    pub events: u64,
    /// The thread that writes did not answer in time: the counters are not complete.
    pub incomplete: bool,
}

impl Losses {
    /// Whether nothing was lost.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
