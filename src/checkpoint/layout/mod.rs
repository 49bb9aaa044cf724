//! One adapter for each layout: where its checkpoints are, and what makes one whole.

pub mod accelerate;
pub mod composer;
mod copied;
pub mod dcp;
mod dcp_index;
pub mod deepspeed;
pub mod export;
pub mod files;
#[cfg(test)]
mod fixtures;
pub mod hf;
mod inside;
pub mod lightning;
pub mod megatron;
pub mod mmengine;
pub mod nemo;
mod parts;
mod random;
#[cfg(test)]
mod samples;
mod tally;
pub mod torchtitan;
mod value;

use std::path::Path;
use std::time::SystemTime;

use super::io::{Entry, Io, IoError};
use super::{Found, Judged, Layout};

/// What an adapter may know besides the files.
#[derive(Debug, Clone, Default)]
pub struct Cx {
    /// Ranks of the job, where they are known: how many shards there must be.
    pub world_size: Option<u32>,
    /// When the job began, where a job asks: what is older, others saved, perhaps of another size.
    pub since: Option<SystemTime>,
    /// The name of files, with `{step}` in it, for [`Layout::Files`].
    pub pattern: Option<String>,
}

/// A layout.
pub trait Adapter: Sync {
    /// Which.
    fn layout(&self) -> Layout;

    /// The candidates of a folder, in any order, without judging them: by names, and by one look
    /// at each at most. `entries` are those of `folder`. Nothing is a candidate that another
    /// adapter before this one in [`ADAPTERS`] would rightly claim.
    fn find(
        &self,
        folder: &Path,
        entries: &[Entry],
        cx: &Cx,
        io: &mut Io,
    ) -> Result<Vec<Found>, IoError>;

    /// Judges one candidate (W2 to W4). An [`IoError`] that is no flaw becomes
    /// [`super::Verdict::Unknown`] in [`super::scan`].
    fn judge(&self, found: &Found, cx: &Cx, io: &mut Io) -> Result<Judged, IoError>;

    /// What the layout's own pointer file names, where there is one: only a hint (W1).
    fn pointer(&self, _folder: &Path, _entries: &[Entry], _io: &mut Io) -> Option<Pointer> {
        None
    }
}

/// A file by which a framework remembers its newest checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Pointer {
    /// Its name.
    pub file: String,
    /// What it names, as it stands there; `None` where it is torn or empty.
    pub names: Option<String>,
}

/// All of them, most particular first: with `auto` the first that finds something is the layout.
pub static ADAPTERS: &[&dyn Adapter] = &[
    // where all is legacy it says so; mixed folders are found by either
    &megatron::MegatronLegacy,
    &megatron::Megatron,
    &nemo::Nemo,
    &deepspeed::Deepspeed,
    &torchtitan::Torchtitan,
    // some of its scripts name folders as the Trainer does: these are looked into
    &accelerate::Accelerate,
    &hf::Hf,
    &mmengine::Mmengine,
    &lightning::Lightning,
    &composer::Composer,
    &dcp::DcpAdapter,
    &files::Files,
    &export::Export,
];

/// What the fuzzer asks of any bytes that stand for `.metadata`.
pub(super) fn dcp_bytes(bytes: &[u8]) {
    if let Ok(index) = dcp_index::of(bytes) {
        let pieces = index.shards.values().flatten();
        assert!(pieces.clone().all(|piece| piece.end() >= piece.offset));
        assert!(pieces.count() <= bytes.len());
        assert!(index.shards.values().all(|pieces| !pieces.is_empty()));
        assert!(index.step.is_none_or(|(file, _)| index.shards.contains_key(&file)));
    }
}

/// The number in a folder's name, and whether it is the step: `step_200` and `iter_0000200` tell it,
/// and so does a name that is only a number; of other names it is the last number, a count of
/// something (`checkpoint_3`, `epoch-1`).
pub(crate) fn name_number(name: &str) -> Option<(u64, bool)> {
    let mut last = None;
    let mut rest = name;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let word = rest[..start].trim_end_matches(['-', '_', '=', '.', ':']);
        let word = word.rsplit(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or(word);
        let digits = rest[start..].find(|c: char| !c.is_ascii_digit());
        let end = digits.map_or(rest.len(), |len| start + len);
        let number = rest[start..end].parse().ok()?;
        let word = word.to_ascii_lowercase();
        if matches!(word.as_str(), "step" | "steps" | "iter" | "iters" | "iteration" | "it") {
            return Some((number, true));
        }
        last = Some((number, start == 0 && end == name.len()));
        rest = &rest[end..];
    }
    last
}
