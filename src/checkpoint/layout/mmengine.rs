//! `MMEngine`: `iter_{N}.pth` or `epoch_{N}.pth`, as `CheckpointHook` of mmengine names them.
//!
//! Rank 0 writes the file in place and then `last_checkpoint`, a path that is often absolute and
//! stays behind when the folder moves. `best_*` and published files (`epoch_3-1a2b3c4d.pth`) have
//! other names and are no resume points. With `DeepSpeed` and sharded FSDP the name is a folder's.
//!
//! - M1: a file is whole when `torch.save` ended it.
//! - M2: what `MMEngine` or MMCV wrote (its `meta` says the version) without `optimizer` and
//!   `optim_wrapper` is weights. Other scripts that name files so are taken as they are.
//! - M3: the step is the `iter` that the file's own `meta` says; of `iter_{N}` the name says it.
//! - M4: where both kinds of names are there, they count different things: age orders them.

use std::path::Path;

use crate::checkpoint::io::{Entry, Io, IoError};
use crate::checkpoint::read::pickle::Value;
use crate::checkpoint::read::torch_file;
use crate::checkpoint::{Found, Judged, Layout, Verdict};

use super::parts::{self, Parts, between, judged_file, name_of, named};
use super::value;
use super::{Adapter, Cx, Pointer};

const POINTER: &str = "last_checkpoint";
/// What `meta` has in the frameworks' files and in no others.
const WRITERS: [&str; 2] = ["mmengine_version", "mmcv_version"];
/// Where they keep the optimizer.
const OPTIMIZERS: [&str; 2] = ["optimizer", "optim_wrapper"];

/// The adapter.
#[derive(Debug)]
pub struct Mmengine;

fn iter_of(name: &str) -> Option<u64> {
    between(name, "iter_", ".pth")
}

fn epoch_of(name: &str) -> Option<u64> {
    between(name, "epoch_", ".pth")
}

impl Adapter for Mmengine {
    fn layout(&self) -> Layout {
        Layout::Mmengine
    }

    fn find(
        &self,
        folder: &Path,
        entries: &[Entry],
        _: &Cx,
        io: &mut Io,
    ) -> Result<Vec<Found>, IoError> {
        let names = || named(entries, false).chain(named(entries, true));
        let has_iters = names().any(|name| iter_of(name).is_some());
        let has_epochs = names().any(|name| epoch_of(name).is_some());
        let mut found = Vec::new();
        for name in names() {
            let (step, epoch) = (iter_of(name), epoch_of(name));
            let Some(number) = step.or(epoch) else { continue };
            // M4
            let order = (!(has_iters && has_epochs)).then_some(number);
            found.push(parts::found(Layout::Mmengine, folder.join(name), order, step, io)?);
        }
        Ok(found)
    }

    fn judge(&self, found: &Found, cx: &Cx, io: &mut Io) -> Result<Judged, IoError> {
        match torch_file::check(&found.path, io) {
            Ok(Ok(file)) => {
                let top = torch_file::load(&found.path, &file, io)?;
                let meta = top.as_ref().and_then(|top| top.get("meta"));
                let step =
                    meta.as_ref().and_then(|meta| value::number(meta, &["iter"])).or(found.step);
                let has = |value: &Option<Value>, keys: [&str; 2]| {
                    value.as_ref().is_some_and(|value| keys.iter().any(|k| value.get(k).is_some()))
                };
                let verdict = if has(&meta, WRITERS) && !has(&top, OPTIMIZERS) {
                    Verdict::Export("weights only: no optimizer in it".to_owned())
                } else {
                    Verdict::Whole
                };
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

    fn pointer(&self, folder: &Path, entries: &[Entry], io: &mut Io) -> Option<Pointer> {
        named(entries, false).any(|name| name == POINTER).then(|| Pointer {
            file: POINTER.to_owned(),
            names: crate::checkpoint::read::text::tracker(&folder.join(POINTER), io),
        })
    }
}

/// `rank{r}.pth` of sharded FSDP, or a tag of `DeepSpeed`.
fn judge_folder(found: &Found, cx: &Cx, io: &mut Io) -> Result<Judged, IoError> {
    let mut parts = Parts::open(&found.path, io)?;
    let ranks = parts.numbers("rank", ".pth");
    if ranks.is_empty() {
        let (Some(parent), Some(name)) = (found.path.parent(), found.path.file_name()) else {
            return Err(IoError::Missing);
        };
        super::inside::deepspeed_tag(&mut parts, parent, &name.to_string_lossy(), cx, io)?;
        return Ok(parts.finish(None, found.step));
    }
    for rank in &ranks {
        parts.torch(&format!("rank{rank}.pth"), io)?;
    }
    let neighbours = parts::neighbours(&found.path, |name| iter_of(name).or(epoch_of(name)), io)?;
    let names: Vec<_> = neighbours.into_iter().map(|(_, names)| names).collect();
    parts.ranks(("rank", ".pth"), cx.world_size, &names);
    Ok(parts.finish(None, found.step))
}

#[cfg(test)]
mod tests;
