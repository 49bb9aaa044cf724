//! Megatron-LM: `iter_0001000/` or `release/`, in one of two forms, also below `non_persistent/`.
//!
//! - `torch_dist` ([`mcore`]): whole where DCP's rule says so and `metadata.json` is there. Where no
//!   iteration has one, the format is `torch_dcp` or `fsdp_dtensor`, and DCP's rule alone counts; the
//!   first save of `torch_dist` that did not end is told from these by the tracker, which is made by
//!   the first save that ends.
//! - legacy ([`legacy`]): `mp_rank_*/` of all tensor-, pipeline- and expert-parallel ranks.
//!
//! `latest_checkpointed_iteration.txt` is only a hint: it is written in place. Where it would keep
//! Megatron from resuming from what was chosen, [`contradiction`] says it.
//!
//! Source: Megatron-LM's `training/checkpointing.py` (`get_checkpoint_name`, `read_metadata`,
//! `save_checkpoint`, `_get_checkpoint_format`, `_load_non_persistent_base_checkpoint`).

mod legacy;
pub mod mcore;
mod tracker;

pub use tracker::{Contradiction, contradiction};

use std::path::{Path, PathBuf};

use super::tally::Tally;
use super::{Adapter, Cx, Pointer};
use crate::checkpoint::io::{Entry, Io, IoError};
use crate::checkpoint::read::text;
use crate::checkpoint::{Found, Judged, Layout, Verdict};

/// The framework's own pointer.
const TRACKER: &str = "latest_checkpointed_iteration.txt";

/// Where saves go that are thrown away when the next one ends.
const NON_PERSISTENT: &str = "non_persistent";

/// The adapter for folders with `torch_dist` in them; iterations of both forms are found.
pub struct Megatron;

/// The adapter for folders where every iteration is legacy.
pub struct MegatronLegacy;

impl Adapter for Megatron {
    fn layout(&self) -> Layout {
        Layout::Megatron
    }

    fn find(
        &self,
        folder: &Path,
        entries: &[Entry],
        _cx: &Cx,
        io: &mut Io,
    ) -> Result<Vec<Found>, IoError> {
        iterations(folder, entries, io)
    }

    fn judge(&self, found: &Found, _cx: &Cx, io: &mut Io) -> Result<Judged, IoError> {
        judge(found, io)
    }

    fn pointer(&self, folder: &Path, entries: &[Entry], io: &mut Io) -> Option<Pointer> {
        tracker(folder, entries, io)
    }
}

impl Adapter for MegatronLegacy {
    fn layout(&self) -> Layout {
        Layout::MegatronLegacy
    }

    fn find(
        &self,
        folder: &Path,
        entries: &[Entry],
        _cx: &Cx,
        io: &mut Io,
    ) -> Result<Vec<Found>, IoError> {
        let found = iterations(folder, entries, io)?;
        let is_legacy = found.iter().any(|found| found.layout == Layout::MegatronLegacy);
        Ok(if is_legacy { found } else { Vec::new() })
    }

    fn judge(&self, found: &Found, _cx: &Cx, io: &mut Io) -> Result<Judged, IoError> {
        judge(found, io)
    }

    fn pointer(&self, folder: &Path, entries: &[Entry], io: &mut Io) -> Option<Pointer> {
        tracker(folder, entries, io)
    }
}

/// All iterations, each with its own form.
fn iterations(folder: &Path, entries: &[Entry], io: &mut Io) -> Result<Vec<Found>, IoError> {
    let mut found = Vec::new();
    let is_megatron =
        entries.iter().any(|entry| entry.name == TRACKER || entry.name == NON_PERSISTENT)
            || entries.iter().filter_map(Entry::text).any(|name| iteration(name).is_some());
    if !is_megatron {
        return Ok(found);
    }
    collect(folder, entries, &mut found, io)?;
    if entries.iter().any(|entry| entry.is_folder && entry.name == NON_PERSISTENT) {
        let folder = folder.join(NON_PERSISTENT);
        let entries = io.list(&folder)?;
        collect(&folder, &entries, &mut found, io)?;
    }
    Ok(found)
}

fn collect(
    folder: &Path,
    entries: &[Entry],
    found: &mut Vec<Found>,
    io: &mut Io,
) -> Result<(), IoError> {
    for entry in entries.iter().filter(|entry| entry.is_folder) {
        let Some(name) = entry.text() else { continue };
        let step = iteration(name);
        // weights that were converted: the first iteration of a job
        if step.is_none() && name != "release" {
            continue;
        }
        let path = folder.join(name);
        let modified = io.stat(&path).ok().and_then(|stat| stat.modified);
        let is_legacy = match io.list(&path) {
            Ok(entries) => entries.iter().filter_map(Entry::text).any(legacy::is_rank),
            Err(error) if error.is_flaw() => continue,
            Err(IoError::Deadline) => return Err(IoError::Deadline),
            Err(_) => false,
        };
        let layout = if is_legacy { Layout::MegatronLegacy } else { Layout::Megatron };
        let number = Some(step.unwrap_or(0));
        found.push(Found { layout, path, number, step, modified });
    }
    Ok(())
}

/// `iter_0001000`: seven digits or more.
fn iteration(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("iter_")?;
    let is_number = digits.len() >= 7 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?
}

fn judge(found: &Found, io: &mut Io) -> Result<Judged, IoError> {
    let mut tally = Tally::default();
    let neighbours = neighbours(&found.path, io)?;
    if found.layout == Layout::MegatronLegacy {
        legacy::judge(&found.path, &neighbours, &mut tally, io)?;
        return Ok(finished(found, tally));
    }
    let unknown = mcore::judge(&found.path, None, &neighbours, &mut tally, io)?;
    if let Some(why) = unknown {
        return Ok(Judged { verdict: Verdict::Unknown(why), ..tally.judged(None) });
    }
    let has_marker = mcore::is_there(&found.path.join(mcore::MARKER), io)?;
    if tally.flaws.is_empty() && !has_marker && !some_save_ended(&found.path, &neighbours, io)? {
        tally.flaw(mcore::MARKER, "is missing, and nothing says that a save ended");
    }
    Ok(finished(found, tally))
}

/// Weights that were converted are where a job begins; no iteration was trained.
fn finished(found: &Found, tally: Tally) -> Judged {
    let mut judged = tally.judged(None);
    if found.step.is_none() && judged.verdict == Verdict::Whole {
        judged.verdict = Verdict::Export("holds converted weights".to_owned());
    }
    judged
}

/// Whether there is a tracker, whatever stands in it: the first save that ended made it. Or another
/// iteration: no save begins before the one before it ended.
fn some_save_ended(iteration: &Path, neighbours: &[PathBuf], io: &mut Io) -> Result<bool, IoError> {
    let Some(folder) = iteration.parent() else { return Ok(false) };
    let is_older = |other: &&PathBuf| other.as_path() < iteration;
    for older in neighbours.iter().filter(is_older).take(1) {
        if mcore::is_there(&older.join(".metadata"), io)? {
            return Ok(true);
        }
    }
    mcore::is_there(&folder.join(TRACKER), io)
}

/// The other iterations of the same folder, newest first.
fn neighbours(path: &Path, io: &mut Io) -> Result<Vec<PathBuf>, IoError> {
    let Some(folder) = path.parent() else { return Ok(Vec::new()) };
    let mut others: Vec<(u64, PathBuf)> = io
        .list(folder)?
        .iter()
        .filter(|entry| entry.is_folder)
        .filter_map(|entry| Some((iteration(entry.text()?)?, folder.join(&entry.name))))
        .filter(|(_, other)| other != path)
        .collect();
    others.sort();
    Ok(others.into_iter().rev().map(|(_, path)| path).collect())
}

fn tracker(folder: &Path, entries: &[Entry], io: &mut Io) -> Option<Pointer> {
    entries.iter().any(|entry| entry.name == TRACKER).then(|| {
        let names = text::tracker(&folder.join(TRACKER), io);
        let names = names.map(|names| names.trim().to_owned());
        let names = names.filter(|names| names == "release" || names.parse::<u64>().is_ok());
        Pointer { file: TRACKER.to_owned(), names }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn found_in(adapter: &dyn Adapter, folders: &[&str]) -> Vec<(String, Layout, Option<u64>)> {
        let dir = tempfile::tempdir().unwrap();
        for folder in folders {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let mut io = Io::until(None);
        let entries = io.list(dir.path()).unwrap();
        let found = adapter.find(dir.path(), &entries, &Cx::default(), &mut io).unwrap();
        let mut found: Vec<_> = found
            .into_iter()
            .map(|found| {
                let path = found.path.strip_prefix(dir.path()).unwrap().display().to_string();
                (path, found.layout, found.step)
            })
            .collect();
        found.sort();
        found
    }

    #[test]
    fn iterations_are_found_in_both_forms() {
        let folders = ["iter_0000010/mp_rank_00", "iter_0000020", "iter_0000003x", "iter_30"];
        let expected = [
            ("iter_0000010".to_owned(), Layout::MegatronLegacy, Some(10)),
            ("iter_0000020".to_owned(), Layout::Megatron, Some(20)),
        ];
        assert_eq!(found_in(&Megatron, &folders), expected);
        assert_eq!(found_in(&MegatronLegacy, &folders), expected);
        assert_eq!(found_in(&MegatronLegacy, &folders[1..]), []);
        assert_eq!(found_in(&Megatron, &["release", "other"]), [], "nothing says Megatron");
    }

    #[test]
    fn what_is_kept_for_a_while_is_found_too() {
        let folders = ["iter_0000010", "non_persistent/iter_12345678", "release"];
        let expected = [
            ("iter_0000010".to_owned(), Layout::Megatron, Some(10)),
            ("non_persistent/iter_12345678".to_owned(), Layout::Megatron, Some(12_345_678)),
            ("release".to_owned(), Layout::Megatron, None),
        ];
        assert_eq!(found_in(&Megatron, &folders), expected);
        assert_eq!(found_in(&Megatron, &folders[1..2]), expected[1..2]);
    }

    #[test]
    fn a_torn_tracker_names_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let named = |text: &str| {
            fs::write(dir.path().join(TRACKER), text).unwrap();
            let mut io = Io::until(None);
            let entries = io.list(dir.path()).unwrap();
            Megatron.pointer(dir.path(), &entries, &mut io).unwrap().names
        };
        assert_eq!(named("120\n").as_deref(), Some("120"));
        assert_eq!(named("release").as_deref(), Some("release"));
        for text in ["", "\0\0\0", "12x", "-1"] {
            assert_eq!(named(text), None, "{text:?}");
        }
    }

    #[test]
    fn some_save_ended_where_there_is_a_tracker_or_an_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("iter_0000020");
        let ended = |other: &str| {
            let others = [dir.path().join(other)];
            some_save_ended(&path, &others, &mut Io::until(None)).unwrap()
        };
        for name in ["iter_0000010", "iter_0000030"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join(".metadata"), "").unwrap();
        }
        assert!(ended("iter_0000010"));
        assert!(!ended("iter_0000030"), "a later one proves nothing of this one");
        assert!(!ended("iter_0000011"), "it has nothing in it");
        fs::write(dir.path().join(TRACKER), "").unwrap();
        assert!(ended("iter_0000011"));
    }

    #[test]
    fn converted_weights_are_no_resume_point() {
        let found = |step| Found {
            layout: Layout::Megatron,
            path: PathBuf::from("x"),
            number: Some(0),
            step,
            modified: None,
        };
        assert!(matches!(finished(&found(None), Tally::default()).verdict, Verdict::Export(_)));
        assert_eq!(finished(&found(Some(1)), Tally::default()).verdict, Verdict::Whole);
    }
}
