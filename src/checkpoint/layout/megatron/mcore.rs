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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::checkpoint::layout::fixtures::{Item, torch};

    /// What is wrong with a folder of these files, beside that it has no index; and whether it can
    /// be judged.
    fn seen(files: &[(&str, &str)]) -> (Vec<String>, bool) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            if name.strip_suffix(".pt").is_some() {
                torch(&path, &Item::Nothing);
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
        }
        fs::create_dir_all(dir.path().join("now")).unwrap();
        let neighbours = [dir.path().join("before")];
        let mut tally = Tally::default();
        let mut io = Io::until(None);
        let unknown =
            judge(&dir.path().join("now"), Some("in"), &neighbours, &mut tally, &mut io).unwrap();
        let flaws = tally.flaws.iter().map(ToString::to_string);
        (flaws.filter(|flaw| !flaw.starts_with("in/.metadata ")).collect(), unknown.is_none())
    }

    #[test]
    fn the_marker_is_missed_where_this_format_is_written() {
        let config = r#"{"sharded_backend": "torch_dist"}"#;
        let missing = vec!["in/metadata.json is missing: the save did not end".to_owned()];
        assert_eq!(seen(&[]), (Vec::new(), true), "torch_dcp has none");
        assert_eq!(seen(&[("before/metadata.json", config)]), (missing.clone(), true));
        assert_eq!(seen(&[("now/common.pt", "")]), (missing, true));
        assert_eq!(seen(&[("now/metadata.json", config)]), (Vec::new(), true));
    }

    #[test]
    fn the_marker_says_what_else_there_must_be() {
        let old = r#"{"sharded_backend": "torch_dist", "common_backend": "torch"}"#;
        let missing = vec!["in/common.pt is missing".to_owned()];
        assert_eq!(seen(&[("now/metadata.json", old)]), (missing, true));
        let whole = [("now/metadata.json", old), ("now/common.pt", "")];
        assert_eq!(seen(&whole), (Vec::new(), true));
        let nothing = vec!["in/metadata.json names no sharded_backend".to_owned()];
        assert_eq!(seen(&[("now/metadata.json", "{}")]), (nothing, true));
        let torn = seen(&[("now/metadata.json", r#"{"sharded_back"#)]);
        assert_eq!(torn.0.len(), 1, "{torn:?}");
        let (_, is_judged) = seen(&[("now/metadata.json", r#"{"sharded_backend": "zarr"}"#)]);
        assert!(!is_judged);
    }
}
