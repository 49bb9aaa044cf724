//! A folder that Megatron's core wrote (`torch_dist`): DCP, and `metadata.json` after it.
//!
//! Source: Megatron-LM's `core/dist_checkpointing/serialization.py` (`save`: `metadata.json` is
//! written when everything else is), `core/dist_checkpointing/core.py`
//! (`check_is_distributed_checkpoint`), `training/checkpointing.py` (`_get_checkpoint_format`: a
//! folder without it is taken for another format).

use std::path::{Path, PathBuf};

use crate::checkpoint::io::{Io, IoError};
use crate::checkpoint::layout::dcp;
use crate::checkpoint::layout::tally::Tally;
use crate::checkpoint::read::text;

/// What says that a save of this format ended.
pub const MARKER: &str = "metadata.json";

/// What is not sharded, in a file of its own.
const COMMON: &str = "common.pt";

/// As many neighbours as are asked whether they have [`MARKER`].
const MAX_NEIGHBOURS: usize = 8;

/// Judges a folder. `below` is its place in the checkpoint, where it is not the checkpoint itself;
/// `neighbours` are folders of earlier saves, which tell whether there must be a marker.
///
/// An error text instead of flaws: it cannot be judged.
pub fn judge(
    folder: &Path,
    below: Option<&str>,
    neighbours: &[PathBuf],
    tally: &mut Tally,
    io: &mut Io,
) -> Result<Option<String>, IoError> {
    let name = |file: &str| below.map_or(file.to_owned(), |below| format!("{below}/{file}"));
    let mut has_common = is_there(&folder.join(COMMON), io)?;
    match text::json(&folder.join(MARKER), io) {
        Ok(Ok(config)) => {
            match config.get("sharded_backend").and_then(|value| value.as_str()) {
                Some("zarr") => {
                    return Ok(Some("is in the zarr format, which is not judged".to_owned()));
                }
                Some(_) => tally.plain(folder, MARKER, io)?,
                None => tally.flaw(name(MARKER), "names no sharded_backend"),
            }
            // since the common part is among the shards, no backend is named for it
            has_common |= config.get("common_backend").is_some();
        }
        Ok(Err(what)) => tally.flaw(name(MARKER), what),
        Err(error) if error.is_flaw() => {
            if has_common || any_has_marker(neighbours, io)? {
                tally.flaw(name(MARKER), "is missing: the save did not end");
            }
        }
        Err(error) => return Err(error),
    }
    tally.folder(below, dcp::judge_folder(folder, io)?);
    if has_common {
        common(folder, below, tally, io)?;
    }
    Ok(None)
}

/// What is not sharded, and written before the shards; newer versions keep it in them.
fn common(
    folder: &Path,
    below: Option<&str>,
    tally: &mut Tally,
    io: &mut Io,
) -> Result<(), IoError> {
    let mut own = Tally::default();
    own.torch(folder, COMMON, io)?;
    let index = folder.join(".metadata");
    if own.flaws.is_empty() && is_there(&index, io)? {
        let (common, index) = (io.stat(&folder.join(COMMON))?, io.stat(&index)?);
        if dcp::is_rewritten(&common, &index) {
            own.flaw(COMMON, "is newer than .metadata: a save into this folder did not end");
        }
    }
    tally.folder(below, own.into_folder());
    Ok(())
}

/// Whether this format is the one that is written here: `torch_dcp` and `fsdp_dtensor` have DCP
/// alone.
fn any_has_marker(neighbours: &[PathBuf], io: &mut Io) -> Result<bool, IoError> {
    for neighbour in neighbours.iter().take(MAX_NEIGHBOURS) {
        if is_there(&neighbour.join(MARKER), io)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether there is such a file.
pub fn is_there(path: &Path, io: &mut Io) -> Result<bool, IoError> {
    match io.stat(path) {
        Ok(stat) => Ok(!stat.is_folder),
        Err(error) if error.is_flaw() => Ok(false),
        Err(error) => Err(error),
    }
}
