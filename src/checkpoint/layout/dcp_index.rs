//! What DCP's `.metadata` says: which items lie where. Pure.
//!
//! It is the pickle of `torch.distributed.checkpoint.metadata.Metadata`; `storage_data` maps
//! `MetadataIndex(fqn, offset, index)` to `_StorageInfo(relative_path, offset, length)`.

use std::collections::{HashMap, HashSet};

use super::dcp::ByFile;
use crate::checkpoint::read::pickle::{self, Limits, PickleError, Value};

/// Names of items that hold the step and nothing else, the most telling first.
const STEPS: &[&str] =
    &["train_state.step", "global_step", "step", "iteration", "trainer.global_step", "state.step"];

/// The most fields of a place or of an item's name: they have three or four. All places may share one
/// state, which must not be searched anew for each of them at any length.
const FIELDS: usize = 32;

/// The longest name of an item or a shard.
const NAME_BYTES: usize = 4096;

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
    let mut roots: HashSet<String> = HashSet::new();
    for (key, place) in places.items() {
        let name = if is_small(&key) { key.get("fqn") } else { None };
        let name = name.as_ref().and_then(|name| name.as_short_str(NAME_BYTES));
        let name = name.unwrap_or("an item");
        let Some((file, piece)) = piece(&place) else {
            return Err(IndexError::Place(name.escape_debug().to_string()));
        };
        index.is_transformed |=
            place.get("transform_descriptors").is_some_and(|value| !value.is_none());
        let root = name.split('.').next().unwrap_or(name);
        if !roots.contains(root) {
            roots.insert(root.to_owned());
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
    index.roots.extend(roots);
    index.roots.sort_unstable();
    Ok(index)
}

/// Whether no more than [`FIELDS`] places are searched for a field, and as many below each.
fn is_small(value: &Value) -> bool {
    let has_few = |value: &Value| value.len() <= FIELDS;
    let parts = [value.state(), value.args()];
    has_few(value)
        && parts.iter().flatten().all(|part| has_few(part) && part.iter().all(|one| has_few(&one)))
}

fn piece(place: &Value) -> Option<(String, Piece)> {
    if !is_small(place) {
        return None;
    }
    let file = place.get("relative_path")?.as_short_str(NAME_BYTES)?.to_owned();
    let (offset, len) = (place.get("offset")?.as_u64()?, place.get("length")?.as_u64()?);
    offset.checked_add(len)?;
    Some((file, Piece { offset, len }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An index whose places all have one state, of the right fields and `others` more.
    fn sharing(places: u32, others: u32) -> Vec<u8> {
        let mut pickle = b"\x80\x04cm\nMetadata\n)\x81}\x8c\x0cstorage_data}(".to_vec();
        for place in 0..places {
            pickle.push(b'J');
            pickle.extend(place.to_le_bytes());
            pickle.extend(b"cm\n_StorageInfo\n)\x81");
            if place == 0 {
                pickle.extend(b"}(\x8c\x0drelative_path\x8c\x0c__0_0.distcp");
                pickle.extend(b"\x8c\x06offsetK\0\x8c\x06lengthK\x07");
                for other in 0..others {
                    pickle.push(b'J');
                    pickle.extend(other.to_le_bytes());
                    pickle.push(b'N');
                }
                pickle.extend(b"uq\x01b");
            } else {
                pickle.extend(b"h\x01b");
            }
        }
        pickle.extend(b"usb.");
        pickle
    }

    #[test]
    fn places_may_share_a_state_but_no_large_one() {
        let index = of(&sharing(100, 2)).unwrap();
        assert_eq!(index.shards["__0_0.distcp"].len(), 100);
        // Searched anew for each place it would be a million fields; 10,000 of each, and it hangs.
        let error = of(&sharing(1000, 1000)).unwrap_err();
        assert_eq!(error, IndexError::Place("an item".to_owned()));
    }
}
