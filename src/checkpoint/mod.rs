//! Checkpoints: finding them, and proving one whole.
//!
//! A layout's adapter ([`layout`]) finds candidates in a folder and judges them by what their
//! files' headers, ends and sizes say ([`read`]); [`scan`] asks the adapters, newest candidate
//! first, and chooses. Files are read, never executed, and never read whole.
//!
//! - W1: a pointer file (`latest`, `last_checkpoint`, …) and the highest number are hints, never
//!   proof.
//! - W2: whole means: every file that the layout and its index ask for is there, and each one's
//!   bytes are where its own index says. What cannot be told without reading every byte is listed
//!   in the documentation.
//! - W3: what could not be judged (no time, no permission) is [`Verdict::Unknown`]: it is never
//!   resumed from, and never passed over in silence.
//! - W4: weights alone are [`Verdict::Export`] and never a resume point.
//! - W5: work is bounded: files and bytes looked at, depth, time ([`io::Io`]).

pub mod choose;
pub mod document;
pub mod fuzz;
pub mod io;
pub mod layout;
pub mod quarantine;
pub mod read;
pub mod receipt;
pub mod scan;
pub mod style;
pub mod text;
pub mod verify;
pub mod watch;
pub mod worker;

use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// How a framework lays out its checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `torch.distributed.checkpoint`: a folder with `.metadata`.
    Dcp,
    /// `step-N/`, DCP inside.
    Torchtitan,
    /// `<tag>/mp_rank_*` and the optimizer's shards; `latest`.
    Deepspeed,
    /// Hugging Face Trainer: `checkpoint-N/` with `trainer_state.json`.
    Hf,
    /// `checkpoint_N/` with `random_states_*.pkl`.
    Accelerate,
    /// `*.ckpt`, files or folders.
    Lightning,
    /// Megatron-LM's `torch_dist`: `iter_N/` with DCP inside.
    Megatron,
    /// Megatron-LM's older form: `iter_N/mp_rank_*/`.
    MegatronLegacy,
    /// `*.ckpt` folders with an `-unfinished` marker beside them.
    Nemo,
    /// `iter_N.pth` or `epoch_N.pth`; `last_checkpoint`.
    Mmengine,
    /// `epE-baB-rankR.pt`; `latest-rankR.pt`.
    Composer,
    /// Files that `torch.save` wrote, by a pattern.
    Files,
    /// safetensors: weights, never a resume point.
    Export,
}

impl Layout {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Dcp,
        Self::Torchtitan,
        Self::Deepspeed,
        Self::Hf,
        Self::Accelerate,
        Self::Lightning,
        Self::Megatron,
        Self::MegatronLegacy,
        Self::Nemo,
        Self::Mmengine,
        Self::Composer,
        Self::Files,
        Self::Export,
    ];

    /// As `--checkpoint-layout` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dcp => "dcp",
            Self::Torchtitan => "torchtitan",
            Self::Deepspeed => "deepspeed",
            Self::Hf => "hf",
            Self::Accelerate => "accelerate",
            Self::Lightning => "lightning",
            Self::Megatron => "megatron",
            Self::MegatronLegacy => "megatron-legacy",
            Self::Nemo => "nemo",
            Self::Mmengine => "mmengine",
            Self::Composer => "composer",
            Self::Files => "files",
            Self::Export => "export",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|layout| layout.name() == name)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that may be a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// How it is laid out.
    pub layout: Layout,
    /// The file or folder that is handed to the framework.
    pub path: PathBuf,
    /// What orders candidates of one folder: the step where the name tells it, else the number of
    /// the save or epoch in the name. `None` goes by age alone, behind those that have one.
    pub number: Option<u64>,
    /// The step of training, where the name tells it.
    pub step: Option<u64>,
    /// When it was last written, as far as one look at `path` tells.
    pub modified: Option<SystemTime>,
}

/// What is true of a candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict", content = "because")]
pub enum Verdict {
    /// It is whole (W2).
    Whole,
    /// It is not: what is missing or wrong, the first few, most telling first; never empty.
    Broken(Vec<Flaw>),
    /// It is whole as far as it goes, and no resume point: why.
    Export(String),
    /// It could not be judged: why.
    Unknown(String),
}

/// One thing that is wrong: a file and what is the matter with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flaw {
    /// The file, below the candidate's path or beside it, as people know it: `__3_0.distcp`.
    pub file: String,
    /// The rest of the sentence: `is 1,048,576 bytes, .metadata needs 1,310,720`.
    pub what: String,
    /// Whether it is none where fewer ranks saved than the job has now: reason enough not to resume
    /// from it, and no proof.
    #[serde(skip)]
    pub is_doubt: bool,
}

impl Flaw {
    /// A flaw of this file.
    pub fn new(file: impl Into<String>, what: impl Into<String>) -> Self {
        Self { file: file.into(), what: what.into(), is_doubt: false }
    }

    /// What may be none.
    pub fn doubt(file: impl Into<String>, what: impl Into<String>) -> Self {
        Self { is_doubt: true, ..Self::new(file, what) }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.file, self.what)
    }
}

/// A candidate that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What is true of it.
    pub verdict: Verdict,
    /// The step, where the files tell it and the name does not.
    pub step: Option<u64>,
    /// Bytes of its files.
    pub bytes: u64,
    /// How many files these are.
    pub files: u64,
    /// The newest of its files.
    pub modified: Option<SystemTime>,
}

/// A number with commas between thousands, as verdicts have them.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_parted() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_310_720, "1,310,720")] {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn every_layout_has_a_name_of_its_own() {
        for layout in Layout::ALL {
            assert_eq!(Layout::from_name(layout.name()), Some(layout));
        }
    }
}
