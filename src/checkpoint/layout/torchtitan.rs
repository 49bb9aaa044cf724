//! torchtitan: `step-N/` with DCP in it, in its checkpoint folder, or in `checkpoint/` below the
//! dump folder.
//!
//! Source: torchtitan's `components/checkpoint.py`. Its last save keeps the model alone as a rule
//! (`last_save_model_only`), as DCP or in Hugging Face's form: weights, from which training cannot
//! go on (W4).

use std::path::Path;

use super::dcp::{self, is_shard, judge_contents, judged};
use super::{Adapter, Cx};
use crate::checkpoint::io::{Entry, Io, IoError};
use crate::checkpoint::{Found, Judged, Layout, Verdict};

/// How many of the newest folders are opened to see whose they are.
const LOOKS: usize = 8;

/// The adapter.
pub struct Torchtitan;

impl Adapter for Torchtitan {
    fn layout(&self) -> Layout {
        Layout::Torchtitan
    }

    fn find(
        &self,
        folder: &Path,
        entries: &[Entry],
        _cx: &Cx,
        io: &mut Io,
    ) -> Result<Vec<Found>, IoError> {
        let found = steps(folder, entries, io)?;
        let is_below = |entry: &Entry| entry.is_folder && entry.text() == Some("checkpoint");
        if !found.is_empty() || !entries.iter().any(is_below) {
            return Ok(found);
        }
        let below = folder.join("checkpoint");
        let entries = io.list(&below)?;
        steps(&below, &entries, io)
    }

    fn judge(&self, found: &Found, cx: &Cx, io: &mut Io) -> Result<Judged, IoError> {
        let (dcp, contents) = judge_contents(&found.path, cx.world_size, io)?;
        if dcp.flaws.is_empty() && is_model_alone(&contents.roots) {
            let why = "holds the model alone, without the state of the training";
            let judged = judged(dcp, contents.step);
            return Ok(Judged { verdict: Verdict::Export(why.to_owned()), ..judged });
        }
        let is_missing = dcp.flaws.iter().any(|flaw| flaw.file == ".metadata");
        let mut judged = judged(dcp, contents.step);
        if is_missing && is_export(&found.path, io)? {
            let why = "holds the model alone, in Hugging Face's form";
            judged.verdict = Verdict::Export(why.to_owned());
        }
        Ok(judged)
    }
}

/// `step-N` folders, where they look like torchtitan's.
fn steps(folder: &Path, entries: &[Entry], io: &mut Io) -> Result<Vec<Found>, IoError> {
    let mut steps: Vec<(u64, &str)> = entries
        .iter()
        .filter(|entry| entry.is_folder)
        .filter_map(|entry| {
            let name = entry.text()?;
            let digits = name.strip_prefix("step-")?;
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.parse().ok()).flatten().map(|step| (step, name))
        })
        .collect();
    steps.sort_unstable_by(|a, b| b.cmp(a));
    // A save that has only begun may have nothing in it yet; what is whole then lies before it.
    let mut is_ours = false;
    for (_, name) in steps.iter().take(LOOKS) {
        is_ours = is_ours
            || match io.list(&folder.join(name)) {
                Ok(entries) => is_dcp_or_export(&entries),
                // It was purged since.
                Err(error) if error.is_flaw() => false,
                Err(error) => return Err(error),
            };
    }
    if !is_ours {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for (step, name) in steps {
        let path = folder.join(name);
        let modified = match dcp::probe(&path, io)? {
            Some(modified) => Some(modified),
            None => match io.stat(&path) {
                Ok(stat) => stat.modified,
                Err(error) if error.is_flaw() => continue,
                Err(error) => return Err(error),
            },
        };
        let (number, step) = (Some(step), Some(step));
        found.push(Found { layout: Layout::Torchtitan, path, number, step, modified });
    }
    Ok(found)
}

/// What names of a training's state begin with: those that torchtitan keeps beside the model's own
/// (`optimizer`, `train_state`, `lr_scheduler`, `dataloader`), and those of others who name folders
/// like it (`opt`, `optim_state`, `scheduler`, `epoch`, `step`, `global_step`).
const STATE: [&str; 8] =
    ["opt", "train", "sched", "lr_", "epoch", "step", "global_step", "dataloader"];

/// What models of Transformers have beside `model`: their heads.
const HEADS: [&str; 4] = ["lm_head", "score", "classifier", "qa_outputs"];

/// Whether names of what is saved are those of a model. All in one object (`app`) is anything, and so
/// is a script's own name beside `model`.
fn is_model_alone(roots: &[String]) -> bool {
    let is_state = |root: &String| STATE.iter().any(|start| root.starts_with(start));
    let is_models = |root: &String| root == "model" || HEADS.contains(&root.as_str());
    match roots {
        [one] => one == "model",
        roots if roots.iter().any(|root| root == "model") => roots.iter().all(is_models),
        roots => !roots.iter().any(is_state),
    }
}

const EXPORTS: [&str; 2] = ["model.safetensors.index.json", "model.safetensors"];

fn is_dcp_or_export(entries: &[Entry]) -> bool {
    let mut names = entries.iter().filter_map(Entry::text);
    names.any(|name| name == ".metadata" || is_shard(name) || EXPORTS.contains(&name))
}

fn is_export(folder: &Path, io: &mut Io) -> Result<bool, IoError> {
    for name in EXPORTS {
        match io.stat(&folder.join(name)) {
            Ok(_) => return Ok(true),
            Err(error) if error.is_flaw() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_told_from_the_state_of_a_training() {
        for (roots, is_alone) in [
            (&["dataloader", "layers", "optimizer", "output", "train_state"][..], false),
            (&["layers", "norm", "output", "tok_embeddings"], true),
            (&["model"], true),
            // another script with folders of that name
            (&["model", "optimizer", "random_0", "step"], false),
            (&["model", "step"], false),
            (&["epoch", "model", "opt"], false),
            (&["model", "optimizer_state_dict"], false),
            (&["model", "optim_state"], false),
            (&["ema", "model"], false),
            (&["net", "optim_state"], false),
            (&["epoch", "net"], false),
            // a model of Transformers
            (&["lm_head", "model"], true),
            (&["app"], false),
        ] {
            let roots: Vec<String> = roots.iter().map(|root| (*root).to_owned()).collect();
            assert_eq!(is_model_alone(&roots), is_alone, "{roots:?}");
        }
    }
}
