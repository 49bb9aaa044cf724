//! One adapter for each layout: where its checkpoints are, and what makes one whole.

pub mod accelerate;
pub mod export;
pub mod files;
pub mod hf;
mod inside;
pub mod lightning;
pub mod mmengine;
mod parts;
#[cfg(test)]
mod samples;
mod value;

use std::path::Path;

use super::io::{Entry, Io, IoError};
use super::{Found, Judged, Layout};

/// What an adapter may know besides the files.
#[derive(Debug, Clone, Default)]
pub struct Cx {
    /// Ranks of the job, where they are known: how many shards there must be.
    pub world_size: Option<u32>,
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
    &accelerate::Accelerate,
    &hf::Hf,
    &mmengine::Mmengine,
    &lightning::Lightning,
    &files::Files,
    &export::Export,
];
