//! safetensors: weights for others to load, never a resume point.
//!
//! One candidate for each set of weights: an index, or a file that is no shard. It is here so that
//! `nvlaunch checkpoint inspect` can say what lies there.

use std::path::Path;

use crate::checkpoint::io::{Entry, Io, IoError};
use crate::checkpoint::{Found, Judged, Layout};

use super::parts::{self, Parts, index_of, is_shard_name, name_of, named};
use super::{Adapter, Cx};

const INDEX: &str = ".safetensors.index.json";
const SINGLE: &str = ".safetensors";

/// The adapter.
#[derive(Debug)]
pub struct Export;

impl Adapter for Export {
    fn layout(&self) -> Layout {
        Layout::Export
    }

    fn find(
        &self,
        folder: &Path,
        entries: &[Entry],
        _: &Cx,
        io: &mut Io,
    ) -> Result<Vec<Found>, IoError> {
        let mut names: Vec<String> = named(entries, false)
            .filter(|name| name.ends_with(INDEX) || name.ends_with(SINGLE))
            // Shards whose index is missing stand for it.
            .map(|name| if is_shard_name(name) { index_of(name) } else { name.to_owned() })
            .collect();
        names.sort();
        names.dedup();
        let path = |name: String| folder.join(name);
        names
            .into_iter()
            .map(|name| parts::found(Layout::Export, path(name), None, None, io))
            .collect()
    }

    fn judge(&self, found: &Found, _: &Cx, io: &mut Io) -> Result<Judged, IoError> {
        let Some(folder) = found.path.parent() else { return Err(IoError::Missing) };
        let name = name_of(&found.path);
        let mut parts = Parts::open(folder, io)?;
        let stem = name.strip_suffix(INDEX);
        if let Some(stem) = stem {
            parts.weights(&[stem], io)?;
        } else {
            parts.safetensors(&name, io)?;
        }
        Ok(parts.finish(Some("weights only: safetensors".to_owned()), None))
    }
}

#[cfg(test)]
mod tests;
