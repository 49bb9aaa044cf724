//! Hugging Face Trainer: `checkpoint-{N}/`, as `Trainer._save_checkpoint` of transformers writes it.
//!
//! Rank 0 writes the model, the optimizer, the scheduler, the scaler, its random state and, last,
//! `trainer_state.json`; the other ranks write their random states, and nobody waits for them.
//! `get_last_checkpoint` takes the highest number blindly.
//!
//! - H1: `trainer_state.json` says the step of the folder's name, and no file that rank 0 writes
//!   before it is newer.
//! - H2: `checkpoint-is-incomplete.txt` is left by a save after SIGTERM that did not end; nothing in
//!   transformers reads it.
//! - H3: without a scheduler the Trainer silently leaves the optimizer aside, too: both are needed.
//! - H4: without any optimizer it is what `save_only_model` leaves: weights.
//! - H6: `training_args.bin` says how many ranks saved, and so many random states there must be; where
//!   it does not, see [`Savers`].
//! - H5: FSDP's folders are judged as `torch.distributed.checkpoint`'s, and `DeepSpeed`'s as that.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use crate::checkpoint::io::{Entry, Io, IoError};
use crate::checkpoint::read::pickle::Value;
use crate::checkpoint::{Found, Judged, Layout};

use super::parts::{self, Parts, between, is_fsdp_file, named};
use super::random::Savers;
use super::{Adapter, Cx};

/// Names of weights that `save_pretrained` and PEFT give.
pub const WEIGHTS: &[&str] = &["model", "pytorch_model", "adapter_model"];
const STATE: &str = "trainer_state.json";
const ARGUMENTS: &str = "training_args.bin";
const INCOMPLETE: &str = "checkpoint-is-incomplete.txt";
const RANDOM: (&str, &str) = ("rng_state_", ".pth");

/// The adapter.
#[derive(Debug)]
pub struct Hf;

/// What is read of `trainer_state.json`.
#[derive(Debug, Deserialize)]
struct State {
    global_step: u64,
}

/// The step in a folder's name.
pub fn step_of(name: &str) -> Option<u64> {
    between(name, "checkpoint-", "")
}

impl Adapter for Hf {
    fn layout(&self) -> Layout {
        Layout::Hf
    }

    fn find(
        &self,
        folder: &Path,
        entries: &[Entry],
        _: &Cx,
        io: &mut Io,
    ) -> Result<Vec<Found>, IoError> {
        let mut found = Vec::new();
        for name in named(entries, true) {
            if let Some(step) = step_of(name) {
                let path = folder.join(name);
                found.push(parts::found(Layout::Hf, path, Some(step), Some(step), io)?);
            }
        }
        // One checkpoint that is named itself.
        if found.is_empty() && named(entries, false).any(|name| name == STATE) {
            let step = folder.file_name().and_then(|name| step_of(name.to_str()?));
            found.push(parts::found(Layout::Hf, folder.to_owned(), step, step, io)?);
        }
        Ok(found)
    }

    fn judge(&self, found: &Found, cx: &Cx, io: &mut Io) -> Result<Judged, IoError> {
        let mut parts = Parts::open(&found.path, io)?;
        if parts.has_file(INCOMPLETE) {
            parts.flaw(INCOMPLETE, "is there: the save did not end");
        }
        let step = judge_state(&mut parts, found.step, io)?;
        let has_deepspeed = super::inside::deepspeed(&mut parts, &found.path, cx, io)?;
        let has_weights = judge_weights(&mut parts, &found.path, io)?;
        if !has_weights && !has_deepspeed {
            parts.flaw("model.safetensors", "is missing, and so is any other form of weights");
        }
        let has_optimizer = judge_optimizer(&mut parts, io)? || has_deepspeed;
        let saved_by = judge_rest(&mut parts, has_optimizer && !has_deepspeed, io)?;
        if has_optimizer {
            judge_random(&mut parts, &found.path, saved_by, cx, io)?;
        }
        parts.not_newer_than(STATE, |name| between(name, RANDOM.0, RANDOM.1).is_none(), io)?;
        let export = (!has_optimizer).then(|| "weights only: no optimizer.pt".to_owned());
        Ok(parts.finish(export, step))
    }
}

/// H1
fn judge_state(parts: &mut Parts, named: Option<u64>, io: &mut Io) -> Result<Option<u64>, IoError> {
    let Some(State { global_step }) = parts.json(STATE, io)? else { return Ok(named) };
    if let Some(named) = named.filter(|named| *named != global_step) {
        parts.flaw(STATE, format!("is of step {global_step}, and the folder's name says {named}"));
    }
    Ok(Some(global_step))
}

fn judge_weights(parts: &mut Parts, folder: &Path, io: &mut Io) -> Result<bool, IoError> {
    let mut is_there = parts.weights(WEIGHTS, io)?;
    for name in parts.folders(|name| name.starts_with("pytorch_model_fsdp_")) {
        parts.dcp(&name, io)?;
        is_there = true;
    }
    for name in parts.files(is_fsdp_file) {
        parts.torch(&name, io)?;
        is_there = true;
    }
    if is_there {
        return Ok(true);
    }
    // PEFT with more than one adapter has a folder for each.
    let is_own = |name: &str| name.starts_with("optimizer_") || name.starts_with("global_step");
    for name in parts.folders(|name| !is_own(name)) {
        for entry in io.list(&folder.join(&name))? {
            let adapter = entry.text().filter(|file| {
                !entry.is_folder
                    && ["adapter_model.safetensors", "adapter_model.bin"].contains(file)
            });
            if let Some(file) = adapter {
                parts.tensors(&format!("{name}/{file}"), io)?;
                is_there = true;
            }
        }
    }
    Ok(is_there)
}

/// Whether there is an optimizer, in whichever form.
fn judge_optimizer(parts: &mut Parts, io: &mut Io) -> Result<bool, IoError> {
    let mut is_there = false;
    for name in ["optimizer.pt", "optimizer.bin"] {
        if parts.has_file(name) {
            parts.torch(name, io)?;
            is_there = true;
        }
    }
    for name in parts.folders(|name| between(name, "optimizer_", "").is_some()) {
        parts.dcp(&name, io)?;
        is_there = true;
    }
    Ok(is_there)
}

/// The scheduler (H3), and what is there of the small files; how many ranks saved (H6).
fn judge_rest(
    parts: &mut Parts,
    needs_scheduler: bool,
    io: &mut Io,
) -> Result<Option<u64>, IoError> {
    if needs_scheduler || parts.has_file("scheduler.pt") {
        parts.torch("scheduler.pt", io)?;
    }
    if parts.has_file("scaler.pt") {
        parts.torch("scaler.pt", io)?;
    }
    let mut saved_by = None;
    if parts.has_file(ARGUMENTS)
        && let Some(file) = parts.torch(ARGUMENTS, io)?
        && let Some(arguments) = parts.load(ARGUMENTS, &file, io)?
    {
        saved_by = processes(&arguments);
    }
    // The Trainer reads the first on resuming, and PEFT the second.
    parts.json_if_there("config.json", io)?;
    parts.json_if_there("adapter_config.json", io)?;
    Ok(saved_by)
}

/// H6: the Trainer's arguments keep Accelerate's `PartialState`.
fn processes(arguments: &Value) -> Option<u64> {
    let state = arguments.state()?.get("distributed_state")?.state()?;
    state.get("num_processes")?.as_u64().filter(|count| *count > 0)
}

fn judge_random(
    parts: &mut Parts,
    folder: &Path,
    claimed: Option<u64>,
    cx: &Cx,
    io: &mut Io,
) -> Result<(), IoError> {
    let numbers = parts.numbers(RANDOM.0, RANDOM.1);
    for rank in &numbers {
        parts.torch(&format!("{}{rank}{}", RANDOM.0, RANDOM.1), io)?;
    }
    let has_single = parts.has_file("rng_state.pth");
    if has_single {
        parts.torch("rng_state.pth", io)?;
    }
    let is_single = has_single || cx.world_size.is_none_or(|world| world == 1);
    if claimed.map_or(numbers.is_empty() && is_single, |claimed| claimed == 1) {
        if !has_single {
            parts.flaw("rng_state.pth", "is missing");
        }
        // One rank saved it, whoever resumes.
        return Ok(());
    }
    // A job of one rank has no number in the name: the first of several cannot be alone.
    let world = cx.world_size;
    let is_short = world.is_some_and(|world| (numbers.len() as u64) < u64::from(world));
    let neighbours: Vec<BTreeSet<String>> = if is_short && numbers.len() > 1 {
        parts::neighbours(folder, step_of, io)?.into_iter().map(|(_, names)| names).collect()
    } else {
        Vec::new()
    };
    Savers { cx, claimed, least: 2, neighbours: &neighbours }.judge(parts, RANDOM);
    Ok(())
}

#[cfg(test)]
mod tests;
