//! What DCP's `.metadata` says: which items lie where. Pure.
//!
//! It is the pickle of `torch.distributed.checkpoint.metadata.Metadata`; `storage_data` maps
//! `MetadataIndex(fqn, offset, index)` to `_StorageInfo(relative_path, offset, length)`.

use std::collections::HashMap;

use super::dcp::ByFile;
use crate::checkpoint::read::pickle::{self, Limits, PickleError, Value};

/// Names of items that hold the step and nothing else, the most telling first.
const STEPS: &[&str] =
    &["train_state.step", "global_step", "step", "iteration", "trainer.global_step", "state.step"];

/// Where an item is in its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub offset: u64,
    pub len: u64,
}

impl Piece {
    /// An item's end does not overflow: it was checked when it was read.
    pub(super) fn end(self) -> u64 {
        self.offset + self.len
    }
}

/// An index.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The items of each shard.
    pub shards: ByFile,
    /// Whether items went through something (compression) before they were written.
    pub is_transformed: bool,
    /// The shard and the place of an item that holds the step.
    pub step: Option<(String, Piece)>,
    /// The first parts of the items' names.
    pub roots: Vec<String>,
}

/// Why bytes are no index, as the end of a sentence about the file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum IndexError {
    #[error("is larger than is read here")]
    TooLarge,
    #[error("{0}")]
    Pickle(PickleError),
    #[error("is no index of torch.distributed.checkpoint")]
    NoIndex,
    #[error("has a damaged place for {0}")]
    Place(String),
}

/// Reads an index.
pub(super) fn of(bytes: &[u8]) -> Result<Index, IndexError> {
    let value = pickle::read(bytes, &Limits::default()).map_err(|error| match error {
        PickleError::TooLarge => IndexError::TooLarge,
        error => IndexError::Pickle(error),
    })?;
    let places = value.get("storage_data").ok_or(IndexError::NoIndex)?;
    if places.is_none() {
        return Err(IndexError::NoIndex);
    }
    let mut index = Index::default();
    let mut best = STEPS.len();
    // A shard's name is one value that all its places share.
    let mut files: HashMap<String, usize> = HashMap::new();
    let mut shards: Vec<Vec<Piece>> = Vec::new();
    for (key, place) in places.items() {
        let name = key.get("fqn");
        let name = name.as_ref().and_then(Value::as_str).unwrap_or("an item");
        let Some((file, piece)) = piece(&place) else {
            return Err(IndexError::Place(name.escape_debug().to_string()));
        };
        index.is_transformed |=
            place.get("transform_descriptors").is_some_and(|value| !value.is_none());
        let root = name.split('.').next().unwrap_or(name);
        if index.roots.last().is_none_or(|last| last != root) {
            index.roots.push(root.to_owned());
        }
        if let Some(rank) = STEPS[..best].iter().position(|step| *step == name) {
            best = rank;
            index.step = Some((file.clone(), piece));
        }
        let at = *files.entry(file).or_insert_with(|| {
            shards.push(Vec::new());
            shards.len() - 1
        });
        shards[at].push(piece);
    }
    index.shards =
        files.into_iter().map(|(file, at)| (file, std::mem::take(&mut shards[at]))).collect();
    index.roots.sort_unstable();
    index.roots.dedup();
    Ok(index)
}

fn piece(place: &Value) -> Option<(String, Piece)> {
    let file = place.get("relative_path")?.as_str()?.to_owned();
    let (offset, len) = (place.get("offset")?.as_u64()?, place.get("length")?.as_u64()?);
    offset.checked_add(len)?;
    Some((file, Piece { offset, len }))
}
