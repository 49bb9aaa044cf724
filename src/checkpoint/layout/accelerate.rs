//! Accelerate: folders that `Accelerator.save_state` writes.
//!
//! With automatic names they are `checkpoints/checkpoint_{i}/` below the project's folder, and i
//! counts the saves; scripts name others: `step_{N}`, `epoch_{N}`, and `checkpoint-{N}` as in the
//! examples of Diffusers. Rank 0 writes models, optimizers, schedulers, samplers, the scaler, its
//! random state and, last, the registered objects (`custom_checkpoint_{i}.pkl`); the other ranks
//! write their random states, the scaler and the states of data loaders, and nobody waits for them.
//! All but safetensors are from `torch.save`, whatever their names end with.
//!
//! - A1: `random_states_{r}.pkl` of every rank that saved ([`Savers`]) is there, and nothing that rank
//!   0 writes before its own is newer.
//! - A2: registered objects that the neighbour has must be there, too: `load_state` raises without
//!   them. The first save of a job that was cut between them cannot be told from a whole one.
//! - A3: without any optimizer it is weights.

use std::collections::BTreeSet;
use std::path::Path;

use crate::checkpoint::io::{Entry, Io, IoError};
use crate::checkpoint::{Found, Judged, Layout};

use super::parts::{self, Parts, between, is_fsdp_file, named, number};
use super::random::Savers;
use super::{Adapter, Cx};

const RANDOM: (&str, &str) = ("random_states_", ".pkl");
const OWN: &str = "random_states_0.pkl";
const CUSTOM: (&str, &str) = ("custom_checkpoint_", ".pkl");
const SCALER: &str = "scaler.pt";
/// What the names of the states of data loaders begin with.
const LOADER: &str = "dl_state_dict";
/// The folder of automatic names.
const PROJECT: &str = "checkpoints";
/// How many folders are looked into to learn whose they are.
const LOOKS: usize = 8;

/// The adapter.
#[derive(Debug)]
pub struct Accelerate;

/// What a folder's name counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// `checkpoint_{i}`: saves.
    Save,
    /// `step_{N}`, `checkpoint-{N}`.
    Step,
    /// `epoch_{N}`.
    Epoch,
}

fn kind_of(name: &str) -> Option<(Kind, u64)> {
    // Ray Train pads its numbers; Accelerate does not.
    let is_plain = |text: &str| text == "0" || !text.starts_with('0');
    let save = name.strip_prefix("checkpoint_").filter(|text| is_plain(text)).and_then(number);
    let step = || between(name, "step_", "").or_else(|| between(name, "checkpoint-", ""));
    save.map(|count| (Kind::Save, count))
        .or_else(|| step().map(|step| (Kind::Step, step)))
        .or_else(|| between(name, "epoch_", "").map(|epoch| (Kind::Epoch, epoch)))
}

impl Adapter for Accelerate {
    fn layout(&self) -> Layout {
        Layout::Accelerate
    }

    fn find(
        &self,
        folder: &Path,
        entries: &[Entry],
        _: &Cx,
        io: &mut Io,
    ) -> Result<Vec<Found>, IoError> {
        let own = find_in(folder, entries, io)?;
        if !own.is_empty() {
            return Ok(own);
        }
        if named(entries, true).any(|name| name == PROJECT) {
            let folder = folder.join(PROJECT);
            let entries = io.list(&folder)?;
            let found = find_in(&folder, &entries, io)?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        // One checkpoint that is named itself.
        if named(entries, false).any(|name| between(name, RANDOM.0, RANDOM.1).is_some()) {
            let kind = folder.file_name().and_then(|name| kind_of(name.to_str()?));
            let number = kind.map(|(_, number)| number);
            let step = kind.filter(|(kind, _)| *kind == Kind::Step).map(|(_, step)| step);
            return Ok(vec![parts::found(
                Layout::Accelerate,
                folder.to_owned(),
                number,
                step,
                io,
            )?]);
        }
        Ok(Vec::new())
    }

    fn judge(&self, found: &Found, cx: &Cx, io: &mut Io) -> Result<Judged, IoError> {
        let mut parts = Parts::open(&found.path, io)?;
        let has_deepspeed = judge_deepspeed(&mut parts, &found.path, cx, io)?;
        let has_weights = judge_weights(&mut parts, io)?;
        if !has_weights && !has_deepspeed {
            parts.flaw("model.safetensors", "is missing, and so is any other form of weights");
        }
        let has_optimizer = judge_optimizers(&mut parts, io)? || has_deepspeed;
        judge_neighbours(&mut parts, &found.path, cx, io)?;
        parts.not_newer_than(OWN, is_own, io)?;
        let export = (!has_optimizer).then(|| "weights only: no optimizer.bin".to_owned());
        Ok(parts.finish(export, None))
    }
}

/// Whether rank 0 alone writes a file, and before its random state: every rank writes the scaler and
/// the states of data loaders (`save_accelerator_state`, accelerate 1.15), the last one after that.
fn is_own(name: &str) -> bool {
    between(name, CUSTOM.0, CUSTOM.1).is_none()
        && between(name, RANDOM.0, RANDOM.1).is_none()
        && name != SCALER
        && !name.starts_with(LOADER)
}

/// The folders of the newest kind that a script of Accelerate left.
fn find_in(folder: &Path, entries: &[Entry], io: &mut Io) -> Result<Vec<Found>, IoError> {
    let kinds = named(entries, true).filter_map(|name| Some((kind_of(name)?, name)));
    let mut named: Vec<((Kind, u64), &str)> = kinds.collect();
    named.sort_by_key(|((_, number), _)| std::cmp::Reverse(*number));
    let newest = |is_meant: fn(Kind) -> bool| {
        named.iter().filter(move |((kind, _), _)| is_meant(*kind)).take(LOOKS)
    };
    let mut kinds = Vec::new();
    // Others, too, call what they save with `torch.distributed.checkpoint` so.
    for (_, name) in newest(|kind| kind == Kind::Save) {
        match io.list(&folder.join(name)) {
            Ok(entries) if is_ours(&entries) => {
                kinds.push(Kind::Save);
                break;
            }
            Ok(_) => {}
            Err(error) if error.is_flaw() => {}
            Err(error) => return Err(error),
        }
    }
    // These are many frameworks' names: here the first rank must have come to its end.
    for (_, name) in newest(|kind| kind != Kind::Save) {
        match io.stat(&folder.join(name).join(OWN)) {
            Ok(_) => {
                kinds.extend([Kind::Step, Kind::Epoch]);
                break;
            }
            Err(error) if error.is_flaw() => {}
            Err(error) => return Err(error),
        }
    }
    named.retain(|((kind, _), _)| kinds.contains(kind));
    let used: BTreeSet<Kind> = named.iter().map(|((kind, _), _)| *kind).collect();
    let mut found = Vec::new();
    for ((kind, number), name) in named {
        // Numbers that count different things order nothing: then age does.
        let order = (used.len() == 1).then_some(number);
        let step = (kind == Kind::Step).then_some(number);
        found.push(parts::found(Layout::Accelerate, folder.join(name), order, step, io)?);
    }
    Ok(found)
}

/// Whether a folder holds what `save_state` writes, and is none of `torch.distributed.checkpoint`.
fn is_ours(entries: &[Entry]) -> bool {
    let is_dcp = |name: &str| name == ".metadata" || name.starts_with("__");
    let has_end = |name: &str, start: &str, end: &str| {
        name.strip_prefix(start).is_some_and(|rest| rest.ends_with(end))
    };
    let is_known = |name: &str| {
        [RANDOM.0, CUSTOM.0, "pytorch_model"].iter().any(|start| name.starts_with(start))
            || has_end(name, "model", ".safetensors")
            || ["optimizer", "scheduler", "sampler"]
                .iter()
                .any(|start| has_end(name, start, ".bin"))
    };
    !named(entries, false).any(is_dcp) && entries.iter().filter_map(Entry::text).any(is_known)
}

/// `pytorch_model/` and `pytorch_model_1/` are the engine's tags.
fn judge_deepspeed(
    parts: &mut Parts,
    folder: &Path,
    cx: &Cx,
    io: &mut Io,
) -> Result<bool, IoError> {
    let is_tag =
        |name: &str| name == "pytorch_model" || between(name, "pytorch_model_", "").is_some();
    let tags = parts.folders(is_tag);
    for tag in &tags {
        super::inside::deepspeed_tag(parts, folder, tag, cx, io)?;
    }
    Ok(!tags.is_empty())
}

fn judge_weights(parts: &mut Parts, io: &mut Io) -> Result<bool, IoError> {
    let mut is_there = parts.weights(&["model", "pytorch_model"], io)?;
    for name in parts.folders(|name| between(name, "pytorch_model_fsdp_", "").is_some()) {
        parts.dcp(&name, io)?;
        is_there = true;
    }
    for name in parts.files(is_fsdp_file) {
        parts.torch(&name, io)?;
        is_there = true;
    }
    Ok(is_there)
}

/// Optimizers, schedulers, samplers and the scaler; whether there is an optimizer.
fn judge_optimizers(parts: &mut Parts, io: &mut Io) -> Result<bool, IoError> {
    let is_one = |name: &str, start: &str| {
        let rest = name.strip_prefix(start).and_then(|rest| rest.strip_suffix(".bin"));
        rest.is_some_and(|rest| rest.is_empty() || between(rest, "_", "").is_some())
    };
    let optimizers = parts.files(|name| is_one(name, "optimizer"));
    let shards = parts.folders(|name| between(name, "optimizer_", "").is_some());
    for name in &shards {
        parts.dcp(name, io)?;
    }
    let others = ["scheduler", "sampler", LOADER];
    let files = parts.files(|name| {
        others.iter().any(|start| is_one(name, start))
            || name == SCALER
            || between(name, CUSTOM.0, CUSTOM.1).is_some()
            || between(name, RANDOM.0, RANDOM.1).is_some()
    });
    for name in optimizers.iter().chain(&files) {
        parts.torch(name, io)?;
    }
    Ok(!optimizers.is_empty() || !shards.is_empty())
}

/// A1 and A2
fn judge_neighbours(parts: &mut Parts, folder: &Path, cx: &Cx, io: &mut Io) -> Result<(), IoError> {
    let own = folder.file_name().and_then(|name| kind_of(name.to_str()?));
    let number_in = |name: &str| {
        let (kind, number) = kind_of(name)?;
        (own.is_some_and(|(own, _)| own == kind)).then_some(number)
    };
    let neighbours = parts::neighbours(folder, number_in, io)?;
    let names: Vec<BTreeSet<String>> = neighbours.iter().map(|(_, names)| names.clone()).collect();
    let savers = Savers { cx, claimed: None, least: 1, neighbours: &names };
    savers.judge(parts, RANDOM);
    if let Some((neighbour, names)) = neighbours.first() {
        let needed = names
            .iter()
            .filter(|name| between(name, CUSTOM.0, CUSTOM.1).is_some() || name.as_str() == SCALER);
        let missing: Vec<&String> = needed.filter(|name| !parts.has_file(name)).collect();
        for name in missing {
            parts.flaw(name.as_str(), format!("is missing, and {neighbour} has it"));
        }
    }
    let custom = parts.numbers(CUSTOM.0, CUSTOM.1);
    if let Some(last) = custom.last()
        && let Some(gap) = (0..*last).find(|at| !custom.contains(at))
    {
        parts.flaw(format!("{}{gap}{}", CUSTOM.0, CUSTOM.1), "is missing");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
