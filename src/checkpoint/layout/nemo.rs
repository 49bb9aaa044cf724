//! `NeMo`: folders or files `<name>--val_loss=…-step=…`, and a marker beside them while they are
//! written.
//!
//! Whole means: no `…-unfinished` beside it, and what is inside passes. That is, for `NeMo` 2,
//! `weights/` by the rule of Megatron's core ([`mcore`]) and, where there is a `context/`, its
//! `io.json`; for a distributed checkpoint of `NeMo` 1 the folder itself; and for a `.ckpt` file the
//! file. One folder deeper, `checkpoints/` is looked into as well.
//!
//! The marker is for the save alone: a save that a crash ended leaves it there, and `exp_manager`
//! refuses to start where no other `*last` is left.
//!
//! Source: `NeMo`'s `lightning/pytorch/callbacks/model_checkpoint.py`
//! (`format_checkpoint_unfinished_marker_path`, `_save_checkpoint`), `lightning/ckpt_utils.py`,
//! `utils/exp_manager.py` (`check_resume`).

use std::path::{Path, PathBuf};

use super::megatron::mcore;
use super::tally::Tally;
use super::{Adapter, Cx};
use crate::checkpoint::io::{Entry, Io, IoError};
use crate::checkpoint::read::text;
use crate::checkpoint::{Found, Judged, Layout, Verdict};

const UNFINISHED: &str = "-unfinished";
const WEIGHTS: &str = "weights";
const CONTEXT: &str = "context";

/// The adapter.
pub struct Nemo;

impl Adapter for Nemo {
    fn layout(&self) -> Layout {
        Layout::Nemo
    }

    fn find(
        &self,
        folder: &Path,
        entries: &[Entry],
        _cx: &Cx,
        io: &mut Io,
    ) -> Result<Vec<Found>, IoError> {
        let found = candidates(folder, entries, io);
        let below = entries.iter().any(|entry| entry.is_folder && entry.name == "checkpoints");
        if !found.is_empty() || !below {
            return Ok(found);
        }
        let folder = folder.join("checkpoints");
        let entries = io.list(&folder)?;
        Ok(candidates(&folder, &entries, io))
    }

    fn judge(&self, found: &Found, _cx: &Cx, io: &mut Io) -> Result<Judged, IoError> {
        let mut tally = Tally::default();
        let stat = io.stat(&found.path)?;
        if let Some(marker) = unfinished(&found.path, io)? {
            tally.add(stat.size, stat.modified);
            tally.flaw(marker, "is there: the save did not end");
        } else if stat.is_folder {
            if let Some(why) = folder(&found.path, &mut tally, io)? {
                return Ok(Judged { verdict: Verdict::Unknown(why), ..tally.judged(None) });
            }
        } else if let (Some(parent), Some(name)) = (found.path.parent(), found.path.file_name()) {
            tally.torch(parent, &name.to_string_lossy(), io)?;
        }
        Ok(tally.judged(None))
    }
}

fn candidates(folder: &Path, entries: &[Entry], io: &mut Io) -> Vec<Found> {
    let names = || entries.iter().filter_map(Entry::text);
    let is_nemo = names().any(|name| is_named(name) || name.ends_with(UNFINISHED));
    let mut found = Vec::new();
    for entry in entries.iter().filter(|_| is_nemo) {
        let Some(name) = entry.text().filter(|name| is_candidate(name, entry.is_folder)) else {
            continue;
        };
        let path = folder.join(name);
        let modified = io.stat(&path).ok().and_then(|stat| stat.modified);
        let step = step(name);
        found.push(Found { layout: Layout::Nemo, path, number: step, step, modified });
    }
    found
}

/// `<name>--<metric>=…`, as no other framework names its files.
fn is_named(name: &str) -> bool {
    name.split_once("--").is_some_and(|(name, metrics)| !name.is_empty() && metrics.contains('='))
}

fn is_candidate(name: &str, is_folder: bool) -> bool {
    let stem = name.strip_suffix(".ckpt").unwrap_or(name);
    let is_one = if is_folder { is_named(name) || name.contains("step=") } else { false };
    // the average of weights belongs to the checkpoint that it lies beside
    (is_one || stem != name) && !stem.ends_with("-EMA") && !name.ends_with(UNFINISHED)
}

fn step(name: &str) -> Option<u64> {
    let (_, rest) = name.rsplit_once("step=")?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The name of the marker that is beside a checkpoint, or beside what it is a link to.
fn unfinished(path: &Path, io: &mut Io) -> Result<Option<String>, IoError> {
    let mut places = vec![marker(path)];
    if let Some(target) = io.link(path)? {
        places.push(marker(&path.with_file_name(target)));
    }
    for place in places {
        if mcore::is_there(&place, io)? {
            let name = place.file_name().unwrap_or_default();
            return Ok(Some(name.to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

fn marker(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".ckpt").unwrap_or(&name);
    path.with_file_name(format!("{stem}{UNFINISHED}"))
}

/// Judges what is inside of a folder; a text instead where it cannot be judged.
fn folder(path: &Path, tally: &mut Tally, io: &mut Io) -> Result<Option<String>, IoError> {
    let entries = io.list(path)?;
    let has = |name: &str| entries.iter().any(|entry| entry.is_folder && entry.name == name);
    let is_second = has(WEIGHTS) || has(CONTEXT);
    let inner = |path: &Path| if is_second { path.join(WEIGHTS) } else { path.to_owned() };
    if is_second && !has(WEIGHTS) {
        tally.flaw(WEIGHTS, "is missing");
        return Ok(None);
    }
    let neighbours: Vec<PathBuf> = neighbours(path, io)?.iter().map(|path| inner(path)).collect();
    let below = is_second.then_some(WEIGHTS);
    let unknown = mcore::judge(&inner(path), below, &neighbours, tally, io)?;
    if has(CONTEXT) {
        context(path, tally, io)?;
    }
    Ok(unknown)
}

/// What the job was made of.
fn context(path: &Path, tally: &mut Tally, io: &mut Io) -> Result<(), IoError> {
    let name = "context/io.json";
    match text::json(&path.join(name), io) {
        Ok(Ok(_)) => tally.plain(path, name, io)?,
        Ok(Err(what)) => tally.flaw(name, what),
        Err(error) if error.is_flaw() => tally.flaw(name, error.to_string()),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The other checkpoints beside this one.
fn neighbours(path: &Path, io: &mut Io) -> Result<Vec<PathBuf>, IoError> {
    let Some(folder) = path.parent() else { return Ok(Vec::new()) };
    let entries = io.list(folder)?;
    let names = entries.iter().filter(|entry| entry.is_folder).filter_map(Entry::text);
    let others = names.filter(|name| is_candidate(name, true)).map(|name| folder.join(name));
    Ok(others.filter(|other| other != path).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const FIRST: &str = "test--val_loss=0.50-step=10-consumed_samples=80.0";
    const LAST: &str = "test--val_loss=0.40-step=20-consumed_samples=160.0-last";

    /// Folders, and files where the name ends so.
    fn made(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if name.strip_suffix(".ckpt").is_some() || name.ends_with(UNFINISHED) {
                fs::write(path, "").unwrap();
            } else {
                fs::create_dir_all(path).unwrap();
            }
        }
        dir
    }

    fn found_in(names: &[&str]) -> Vec<(String, Option<u64>)> {
        let dir = made(names);
        let mut io = Io::until(None);
        let entries = io.list(dir.path()).unwrap();
        let found = Nemo.find(dir.path(), &entries, &Cx::default(), &mut io).unwrap();
        let mut found: Vec<_> = found
            .into_iter()
            .map(|found| {
                let path = found.path.strip_prefix(dir.path()).unwrap().display().to_string();
                (path, found.step)
            })
            .collect();
        found.sort();
        found
    }

    #[test]
    fn checkpoints_are_known_by_their_names() {
        let expected = [(LAST.to_owned(), Some(20)), (FIRST.to_owned(), Some(10))];
        let marker = format!("{LAST}{UNFINISHED}");
        assert_eq!(found_in(&[FIRST, LAST, &marker, "context", "hf_weights"]), expected);
        let file = format!("{FIRST}.ckpt");
        let average = format!("{FIRST}-EMA.ckpt");
        assert_eq!(found_in(&[&file, &average]), [(file.clone(), Some(10))]);
        let below = format!("checkpoints/{FIRST}");
        assert_eq!(found_in(&[&below, "run_0"]), [(below.clone(), Some(10))]);
        assert_eq!(found_in(&[&below, LAST]), [(LAST.to_owned(), Some(20))], "those above count");
    }

    #[test]
    fn what_lightning_writes_is_not_claimed_without_a_marker() {
        let name = "epoch=0-step=10.ckpt";
        assert_eq!(found_in(&[name]), []);
        let marker = format!("epoch=0-step=10{UNFINISHED}");
        assert_eq!(found_in(&[name, &marker]), [(name.to_owned(), Some(10))]);
        let folder = "epoch=0-step=10";
        assert_eq!(found_in(&[folder, &marker]), [(folder.to_owned(), Some(10))]);
    }

    #[test]
    fn a_marker_is_seen_beside_all_forms_of_a_checkpoint() {
        let dir = made(&[FIRST, LAST, &format!("{FIRST}{UNFINISHED}")]);
        let link = dir.path().join("test--last");
        std::os::unix::fs::symlink(FIRST, &link).unwrap();
        let mut io = Io::until(None);
        let mut seen = |name: &str| unfinished(&dir.path().join(name), &mut io).unwrap().is_some();
        assert!(seen(FIRST));
        assert!(!seen(LAST));
        assert!(seen("test--last"), "a link to it");
        fs::write(dir.path().join(format!("{FIRST}.ckpt")), "").unwrap();
        assert!(seen(&format!("{FIRST}.ckpt")));
    }
}
