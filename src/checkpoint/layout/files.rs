//! Files that `torch.save` wrote, by a pattern or by usual names.
//!
//! - T1: with a pattern (`step_{step}.pt`) exactly the files that it fits; `{step}` is a number. A
//!   pattern without `{step}` is one name.
//! - T2: without one: a name whose last word is a number behind nothing or behind one of [`STEPS`],
//!   [`EPOCHS`] or [`OTHERS`], then `.pt`, `.pth`, `.bin`, `.ckpt`, `.tar`, `.pt.tar` or `.pth.tar`:
//!   `step_100.pt`, `model_0004999.pth`, `ckpt-epoch3.pth`, `200.pt`. And the names of [`SINGLES`],
//!   which scripts write again and again.
//! - T3: words that count different things order nothing: then age does.
//! - T4: without a pattern, a file that holds nothing but tensors is weights.
//! - T5: the older form of `torch.save` has no end: of it only the beginning is checked.

use std::path::Path;

use crate::checkpoint::io::{Entry, Io, IoError};
use crate::checkpoint::read::torch_file;
use crate::checkpoint::{Found, Judged, Layout, Verdict};

use super::parts::{self, judged_file, name_of, named, number};
use super::value;
use super::{Adapter, Cx};

/// Words before a number that counts steps.
pub const STEPS: &[&str] = &["step", "steps", "iter", "iters", "iteration", "it"];
/// Words before a number that counts epochs.
pub const EPOCHS: &[&str] = &["epoch", "epochs", "ep"];
/// Words before a number that counts one or the other.
pub const OTHERS: &[&str] = &["", "ckpt", "checkpoint", "chkpt", "snapshot", "model"];
/// Names without a number.
pub const SINGLES: &[&str] = &["ckpt", "checkpoint", "snapshot", "latest", "last"];
const ENDS: &[&str] = &[".pth.tar", ".pt.tar", ".pt", ".pth", ".bin", ".ckpt", ".tar"];
/// Where scripts keep the step.
const KEYS: &[&str] = &["global_step", "step", "iter", "iteration", "iter_num"];

/// The adapter.
#[derive(Debug)]
pub struct Files;

/// What the number in a name counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    Steps,
    Epochs,
    Something,
    Nothing,
}

/// What a name says, by a pattern.
fn by_pattern(name: &str, pattern: &str) -> Option<(Counts, Option<u64>)> {
    let Some((before, after)) = pattern.split_once("{step}") else {
        return (name == pattern).then_some((Counts::Nothing, None));
    };
    Some((Counts::Steps, Some(parts::between(name, before, after)?)))
}

/// What a usual name says.
fn by_habit(name: &str) -> Option<(Counts, Option<u64>)> {
    let stem = ENDS.iter().find_map(|end| name.strip_suffix(end))?;
    if SINGLES.contains(&stem) {
        return Some((Counts::Nothing, None));
    }
    let digits = stem.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    // The last character before may be of more than one byte.
    let (start, digits) = stem.split_at_checked(digits)?;
    let number = number(digits)?;
    let start = start.trim_end_matches(['_', '-', '=', '.']);
    let word = start.rsplit(|c: char| !c.is_ascii_alphabetic()).next()?.to_ascii_lowercase();
    // `1e-3` and `v2-17` have no word: a number behind other things is none.
    if word.is_empty() && !start.is_empty() {
        return None;
    }
    let is = |words: &[&str]| words.contains(&word.as_str());
    let counts = match () {
        () if is(STEPS) => Counts::Steps,
        () if is(EPOCHS) => Counts::Epochs,
        () if is(OTHERS) => Counts::Something,
        () => return None,
    };
    Some((counts, Some(number)))
}

impl Adapter for Files {
    fn layout(&self) -> Layout {
        Layout::Files
    }

    fn find(
        &self,
        folder: &Path,
        entries: &[Entry],
        cx: &Cx,
        io: &mut Io,
    ) -> Result<Vec<Found>, IoError> {
        let read = |name: &str| match &cx.pattern {
            Some(pattern) => by_pattern(name, pattern),
            None => by_habit(name),
        };
        let names: Vec<_> = named(entries, false)
            .filter_map(|name| read(name).map(|(counts, number)| (name, counts, number)))
            .collect();
        let is_one_kind = names.windows(2).all(|pair| pair[0].1 == pair[1].1);
        let mut found = Vec::new();
        for (name, counts, number) in names {
            let step = number.filter(|_| counts == Counts::Steps);
            let order = number.filter(|_| is_one_kind);
            found.push(parts::found(Layout::Files, folder.join(name), order, step, io)?);
        }
        Ok(found)
    }

    fn judge(&self, found: &Found, cx: &Cx, io: &mut Io) -> Result<Judged, IoError> {
        let file = match torch_file::check(&found.path, io) {
            Ok(Ok(file)) => file,
            Ok(Err(what)) => {
                let stat = io.stat(&found.path)?;
                return Ok(parts::broken_file(&name_of(&found.path), what, &stat));
            }
            Err(error) => return parts::gone(&found.path, error, io),
        };
        let top = torch_file::load(&found.path, &file, io)?;
        let verdict = match &top {
            Some(top) if cx.pattern.is_none() && value::is_all_tensors(top) => {
                Verdict::Export("weights only: nothing but tensors in it".to_owned())
            }
            _ => Verdict::Whole,
        };
        let step = found.step.or_else(|| value::number(top.as_ref()?, KEYS));
        Ok(judged_file(verdict, step, file.size, file.modified))
    }
}

#[cfg(test)]
mod tests;
