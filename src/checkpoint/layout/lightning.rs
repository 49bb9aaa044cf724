//! Lightning: `*.ckpt`, as `ModelCheckpoint` writes them.
//!
//! A file is written under another name and moved, so its name alone says that it is whole; copies
//! and full disks are why it is checked all the same. Sharded strategies write a folder with
//! `torch.distributed.checkpoint`, and rank 0 then `meta.pt`; with `DeepSpeed` it is a folder with
//! the tag `checkpoint` and `latest`, which is written behind it and without which `DeepSpeed` gives
//! nothing and Lightning raises (`strategies/deepspeed.py`). `last.ckpt` may be a link, and dangle.
//!
//! - L1: candidates are in the folder itself, in `checkpoints/`, and in
//!   `lightning_logs/version_{i}/checkpoints/`, which each start makes anew.
//! - L2: the step is that of the name (`step=`). A name without one is looked into, the newest few;
//!   what cannot be read there counts as the newest of what is older than it.
//! - L3: what Lightning wrote without optimizers is weights. Files that are not from its Trainer
//!   (Fabric's) are taken as they are.

use std::path::{Path, PathBuf};

use crate::checkpoint::io::{Entry, Io, IoError};
use crate::checkpoint::read::pickle::Value;
use crate::checkpoint::read::torch_file;
use crate::checkpoint::{Found, Judged, Layout, Verdict};

use super::parts::{self, Parts, judged_file, name_of, named, number};
use super::value;
use super::{Adapter, Cx};

const META: &str = "meta.pt";
const TAG: &str = "checkpoint";
/// How many files without a step in their names are looked into.
const LOOKS: usize = 16;
/// How many versions' folders are looked into, newest first.
const VERSIONS: usize = 64;
/// What the Trainer's files have and no others.
const TRAINERS: &str = "pytorch-lightning_version";

/// The adapter.
#[derive(Debug)]
pub struct Lightning;

/// The number behind `step=`.
fn step_of(name: &str) -> Option<u64> {
    let (_, rest) = name.rsplit_once("step=")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
    number(digits)
}

impl Adapter for Lightning {
    fn layout(&self) -> Layout {
        Layout::Lightning
    }

    fn find(
        &self,
        folder: &Path,
        entries: &[Entry],
        _: &Cx,
        io: &mut Io,
    ) -> Result<Vec<Found>, IoError> {
        let mut found = Vec::new();
        find_in(folder, entries, io, &mut found)?;
        for below in folders_below(folder, entries, io)? {
            match io.list(&below) {
                Ok(entries) => find_in(&below, &entries, io, &mut found)?,
                Err(error) if error.is_flaw() => {}
                Err(error) => return Err(error),
            }
        }
        number_others(&mut found, io)?;
        Ok(found)
    }

    fn judge(&self, found: &Found, cx: &Cx, io: &mut Io) -> Result<Judged, IoError> {
        match torch_file::check(&found.path, io) {
            Ok(Ok(file)) => {
                let top = torch_file::load(&found.path, &file, io)?;
                let verdict = match &top {
                    Some(top) if is_weights(top, "optimizer_states") => {
                        Verdict::Export("weights only: no optimizer_states in it".to_owned())
                    }
                    _ => Verdict::Whole,
                };
                let step = top.as_ref().and_then(step_in);
                Ok(judged_file(verdict, step, file.size, file.modified))
            }
            Ok(Err(what)) => {
                let stat = io.stat(&found.path)?;
                Ok(parts::broken_file(&name_of(&found.path), what, &stat))
            }
            Err(IoError::NoFile) => judge_folder(found, cx, io),
            Err(error) => parts::gone(&found.path, error, io),
        }
    }
}

fn find_in(
    folder: &Path,
    entries: &[Entry],
    io: &mut Io,
    found: &mut Vec<Found>,
) -> Result<(), IoError> {
    for name in entries.iter().filter_map(Entry::text).filter(|name| parts::has_end(name, "ckpt")) {
        let step = step_of(name);
        found.push(parts::found(Layout::Lightning, folder.join(name), step, step, io)?);
    }
    Ok(())
}

/// L1
fn folders_below(folder: &Path, entries: &[Entry], io: &mut Io) -> Result<Vec<PathBuf>, IoError> {
    let mut folders = Vec::new();
    if named(entries, true).any(|name| name == "checkpoints") {
        folders.push(folder.join("checkpoints"));
    }
    if named(entries, true).any(|name| name == "lightning_logs") {
        let logs = folder.join("lightning_logs");
        let entries = io.list(&logs)?;
        let mut versions: Vec<u64> = named(&entries, true)
            .filter_map(|name| number(name.strip_prefix("version_")?))
            .collect();
        versions.sort_unstable_by(|a, b| b.cmp(a));
        let newest = versions.into_iter().take(VERSIONS);
        folders.extend(newest.map(|at| logs.join(format!("version_{at}/checkpoints"))));
    }
    Ok(folders)
}

/// L2
fn number_others(found: &mut [Found], io: &mut Io) -> Result<(), IoError> {
    found.sort_by_key(|found| std::cmp::Reverse(found.modified));
    for found in found.iter_mut().filter(|found| found.number.is_none()).take(LOOKS) {
        let step = match peek(&found.path, io) {
            Err(IoError::Deadline) => return Err(IoError::Deadline),
            step => step.unwrap_or(None),
        };
        found.step = step;
        found.number = step;
    }
    for at in 0..found.len() {
        if found[at].number.is_none() && found[at].modified.is_some() {
            found[at].number = found[at + 1..].iter().filter_map(|older| older.number).max();
        }
    }
    Ok(())
}

/// The step inside a file or folder, where it can be read.
fn peek(path: &Path, io: &mut Io) -> Result<Option<u64>, IoError> {
    let top = match load(path, io) {
        Err(IoError::NoFile) => load(&path.join(META), io),
        loaded => loaded,
    };
    Ok(top?.as_ref().and_then(step_in))
}

fn load(path: &Path, io: &mut Io) -> Result<Option<Value>, IoError> {
    match torch_file::check(path, io)? {
        Ok(file) => torch_file::load(path, &file, io),
        Err(_) => Ok(None),
    }
}

fn step_in(top: &Value) -> Option<u64> {
    value::number(top, &["global_step", "step"])
}

/// L3
fn is_weights(top: &Value, proof: &str) -> bool {
    top.get(TRAINERS).is_some() && top.get(proof).is_none()
}

/// A sharded checkpoint.
fn judge_folder(found: &Found, cx: &Cx, io: &mut Io) -> Result<Judged, IoError> {
    let mut parts = Parts::open(&found.path, io)?;
    if parts.has_folder(TAG) {
        super::inside::deepspeed_latest(&mut parts, &found.path, cx, io)?;
        return Ok(parts.finish(None, found.step));
    }
    let file = parts.torch(META, io)?;
    parts.dcp_before(META, io)?;
    let top = match &file {
        Some(file) => torch_file::load(&found.path.join(META), file, io)?,
        None => None,
    };
    // The optimizers are among the shards; the callbacks stay, and only a whole state has them.
    let is_weights = top.as_ref().is_some_and(|top| is_weights(top, "callbacks"));
    let export = is_weights.then(|| format!("weights only: no callbacks in {META}"));
    Ok(parts.finish(export, top.as_ref().and_then(step_in)))
}

#[cfg(test)]
mod tests;
