//! Megatron-LM's older form: a folder for each tensor-, pipeline- and expert-parallel rank.
//!
//! Whole means: the full grid of ranks is there, as large as the arguments in the files say or as the
//! folders show, and every file passes. Where any rank has `distrib_optim.pt`, or the arguments ask
//! for it, all have it.
//!
//! Source: Megatron-LM's `training/checkpointing.py` (`get_checkpoint_name`,
//! `get_distributed_optimizer_checkpoint_name`, `save_checkpoint`).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::checkpoint::io::{Entry, Io, IoError};
use crate::checkpoint::layout::dcp;
use crate::checkpoint::layout::tally::{Tally, is_torch};
use crate::checkpoint::read::pickle::Value;
use crate::checkpoint::read::torch_file;

const MODEL: &str = "model_optim_rng.pt";
/// The part of a distributed optimizer.
pub const OPTIMIZER: &str = "distrib_optim.pt";

/// As many missing ranks as are told.
const MAX_MISSING: usize = 4;

/// Whether a folder is a rank's.
pub fn is_rank(name: &str) -> bool {
    rank(name).is_some()
}

/// `mp_rank_01_002_003`: the tensor-parallel rank, then those of pipeline and experts where there
/// is more than one of them.
fn rank(name: &str) -> Option<Vec<u32>> {
    let parts: Vec<&str> = name.strip_prefix("mp_rank_")?.split('_').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if parts.len() > 3 || !parts.iter().all(is_number) {
        return None;
    }
    parts.iter().map(|part| part.parse().ok()).collect()
}

fn name_of(rank: &[u32]) -> String {
    let mut name = format!("mp_rank_{:02}", rank[0]);
    for part in &rank[1..] {
        let _ = write!(name, "_{part:03}");
    }
    name
}

/// What the arguments of the job that wrote it say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Claims {
    /// Ranks in each place of the name, where they are known.
    sizes: Option<Vec<u32>>,
    has_optimizer_file: bool,
}

fn claims_of(value: &Value) -> Claims {
    let Some(args) = value.get("args") else { return Claims::default() };
    let size = |key: &str| u32::try_from(args.get(key)?.as_u64()?).ok();
    let is_set = |key: &str| args.get(key).and_then(|value| value.as_bool());
    let tensor = size("tensor_model_parallel_size");
    let others = ["pipeline_model_parallel_size", "expert_model_parallel_size"];
    // what there is one of stands in no name
    let others = others.into_iter().filter_map(size).filter(|size| *size > 1);
    Claims {
        sizes: tensor.map(|tensor| [tensor].into_iter().chain(others).collect()),
        has_optimizer_file: is_set("use_distributed_optimizer") == Some(true)
            && is_set("no_save_optim") != Some(true),
    }
}

/// Judges an iteration; `neighbours` are the other ones.
pub fn judge(
    folder: &Path,
    neighbours: &[PathBuf],
    tally: &mut Tally,
    io: &mut Io,
) -> Result<(), IoError> {
    let ranks = ranks_of(&io.list(folder)?);
    let mut claims = None;
    let mut files = Vec::new();
    let mut written = Vec::new();
    for rank in &ranks {
        let below = name_of(rank);
        let entries = io.list(&folder.join(&below))?;
        let names = entries.iter().filter(|entry| !entry.is_folder).filter_map(Entry::text);
        let names: BTreeSet<String> =
            names.filter(|name| is_torch(name)).map(str::to_owned).collect();
        for name in &names {
            let name = format!("{below}/{name}");
            let file = tally.torch(folder, &name, io)?;
            if let Some((file, modified)) = file.as_ref().and_then(|f| Some((f, f.modified?))) {
                written.push(Written { rank, name: name.clone(), size: file.size, modified });
            }
            let is_model = claims.is_none() && name.ends_with(MODEL);
            if let Some(file) = file.filter(|_| is_model) {
                let value = torch_file::load(&folder.join(&name), &file, io)?;
                claims = value.map(|value| claims_of(&value));
            }
        }
        files.push((below, names));
    }
    let claims = claims.unwrap_or_default();
    let mut sizes = sizes(&ranks);
    if let Some(told) = claims.sizes.filter(|told| told.len() == sizes.len()) {
        sizes.iter_mut().zip(told).for_each(|(size, told)| *size = told.max(*size));
    } else if let Some(neighbour) = neighbours.first() {
        // nothing is known of the arguments: the grid of the save before is the best guess
        let theirs = io.list(neighbour).map(|entries| self::sizes(&ranks_of(&entries)));
        if let Ok(theirs) = theirs.as_deref().map(|theirs| theirs.iter().zip(&mut sizes)) {
            theirs.for_each(|(theirs, size)| *size = (*size).max(*theirs));
        }
    }
    for below in missing(&ranks, &sizes) {
        let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
        tally.flaw(below, format!("is missing: the grid of ranks is {}", sizes.join(" x ")));
    }
    let has_optimizer_file =
        claims.has_optimizer_file || files.iter().any(|(_, names)| names.contains(OPTIMIZER));
    for (below, names) in &files {
        if !names.contains(MODEL) {
            tally.flaw(format!("{below}/{MODEL}"), "is missing");
        }
        if has_optimizer_file && !names.contains(OPTIMIZER) {
            tally.flaw(format!("{below}/{OPTIMIZER}"), "is missing");
        }
    }
    if tally.flaws.is_empty() {
        one_save(folder, &written, tally, io)?;
    }
    Ok(())
}

/// A file that passed.
struct Written<'a> {
    rank: &'a [u32],
    name: String,
    size: u64,
    modified: SystemTime,
}

/// All files are of one save: a rank writes the model after all else, and all ranks begin together.
fn one_save(
    folder: &Path,
    written: &[Written],
    tally: &mut Tally,
    io: &mut Io,
) -> Result<(), IoError> {
    let newest = written.iter().max_by_key(|file| file.modified);
    let most = written.iter().map(|file| file.size).max().unwrap_or(0);
    let late = dcp::copying(most.saturating_mul(2));
    for model in written.iter().filter(|file| file.name.ends_with(MODEL)) {
        let own = written.iter().filter(|file| file.rank == model.rank);
        let own = own.filter(|file| file.modified > model.modified);
        let others = newest.filter(|file| file.modified > model.modified + late);
        for file in own.chain(others) {
            let stat = io.stat(&folder.join(&model.name))?;
            if dcp::is_rewritten(&io.stat(&folder.join(&file.name))?, &stat) {
                let what = format!("is older than {}: a save did not end", file.name);
                tally.flaw(model.name.as_str(), what);
                return Ok(());
            }
        }
    }
    Ok(())
}

fn ranks_of(entries: &[Entry]) -> BTreeSet<Vec<u32>> {
    let folders = entries.iter().filter(|entry| entry.is_folder);
    folders.filter_map(Entry::text).filter_map(rank).collect()
}

/// The grid that the ranks span.
fn sizes(ranks: &BTreeSet<Vec<u32>>) -> Vec<u32> {
    let places = ranks.iter().map(Vec::len).max().unwrap_or(1);
    let size = |place| {
        let parts = ranks.iter().filter_map(|rank| rank.get(place));
        parts.max().map_or(1, |part: &u32| part.saturating_add(1))
    };
    (0..places).map(size).collect()
}

/// The first ranks of the grid that are not there.
fn missing(ranks: &BTreeSet<Vec<u32>>, sizes: &[u32]) -> Vec<String> {
    let mut missing = Vec::new();
    let mut rank = vec![0; sizes.len()];
    while missing.len() < MAX_MISSING {
        if !ranks.contains(&rank) {
            missing.push(name_of(&rank));
        }
        // the next one, the last place first
        let Some(place) = (0..sizes.len()).rev().find(|&place| rank[place] + 1 < sizes[place])
        else {
            break;
        };
        rank[place] += 1;
        rank[place + 1..].fill(0);
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranks(names: &[&str]) -> BTreeSet<Vec<u32>> {
        names.iter().map(|name| rank(name).expect(name)).collect()
    }

    #[test]
    fn names_of_ranks_are_read_as_they_are_written() {
        for name in ["mp_rank_00", "mp_rank_01_002", "mp_rank_01_002_003", "mp_rank_128_000"] {
            assert_eq!(name_of(&rank(name).expect(name)), name);
        }
        for name in ["mp_rank_", "mp_rank_0x", "mp_rank_00_000_000_000", "mp_rank_+1", "rank_00"] {
            assert!(!is_rank(name), "{name}");
        }
    }

    #[test]
    fn the_grid_of_ranks_is_full() {
        let lacking = |names: &[&str], told: &[u32]| {
            let ranks = ranks(names);
            let mut sizes = sizes(&ranks);
            sizes.iter_mut().zip(told).for_each(|(size, told)| *size = (*size).max(*told));
            missing(&ranks, &sizes)
        };
        let none = Vec::<String>::new();
        assert_eq!(lacking(&["mp_rank_00"], &[]), none);
        assert_eq!(lacking(&["mp_rank_00"], &[2]), ["mp_rank_01"]);
        assert_eq!(lacking(&["mp_rank_01"], &[]), ["mp_rank_00"]);
        assert_eq!(
            lacking(&["mp_rank_00_000", "mp_rank_01_001"], &[]),
            ["mp_rank_00_001", "mp_rank_01_000"]
        );
        assert_eq!(
            lacking(&["mp_rank_00_000_000"], &[1, 2, 2]),
            ["mp_rank_00_000_001", "mp_rank_00_001_000", "mp_rank_00_001_001"]
        );
        assert_eq!(lacking(&["mp_rank_00"], &[u32::MAX]).len(), MAX_MISSING);
    }

    use crate::checkpoint::layout::fixtures::{Item, torch};

    /// What is wrong with an iteration that has these files.
    fn flaws(files: &[(&str, &Item)]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, item) in files {
            torch(&dir.path().join(name), item);
        }
        let mut tally = Tally::default();
        let neighbours = [dir.path().join("before")];
        judge(&dir.path().join("now"), &neighbours, &mut tally, &mut Io::until(None)).unwrap();
        tally.flaws.iter().map(ToString::to_string).collect()
    }

    fn args(tensor: u32, pipeline: u32, distributed: bool, no_save: bool) -> Item {
        let args = Item::Dict(vec![
            ("tensor_model_parallel_size", Item::Number(tensor)),
            ("pipeline_model_parallel_size", Item::Number(pipeline)),
            ("expert_model_parallel_size", Item::Number(1)),
            ("use_distributed_optimizer", Item::Truth(distributed)),
            ("no_save_optim", if no_save { Item::Truth(true) } else { Item::Nothing }),
        ]);
        Item::Dict(vec![("args", args)])
    }

    #[test]
    fn the_arguments_say_how_large_the_grid_is() {
        let silent = Item::Dict(Vec::new());
        let none = Vec::<String>::new();
        let one = "now/mp_rank_00/model_optim_rng.pt";
        assert_eq!(flaws(&[(one, &args(1, 1, false, false))]), none);
        let expected = ["mp_rank_01 is missing: the grid of ranks is 2"];
        assert_eq!(flaws(&[(one, &args(2, 1, false, false))]), expected);
        let before = ("before/mp_rank_01/model_optim_rng.pt", &silent);
        assert_eq!(flaws(&[(one, &silent), before]), expected, "as before");
        assert_eq!(flaws(&[(one, &args(1, 1, false, false)), before]), none, "another grid now");
        let two = "now/mp_rank_00_000/model_optim_rng.pt";
        let expected = ["mp_rank_00_001 is missing: the grid of ranks is 1 x 2"];
        assert_eq!(flaws(&[(two, &args(1, 2, false, false))]), expected);
    }

    #[test]
    fn every_rank_has_the_same_files() {
        let silent = Item::Dict(Vec::new());
        let one = "now/mp_rank_00/model_optim_rng.pt";
        let missing = ["mp_rank_00/distrib_optim.pt is missing"];
        assert_eq!(flaws(&[(one, &args(1, 1, true, false))]), missing);
        assert_eq!(flaws(&[(one, &args(1, 1, true, true))]), Vec::<String>::new());
        let other = ("now/mp_rank_01/distrib_optim.pt", &silent);
        assert_eq!(
            flaws(&[(one, &silent), other]),
            ["mp_rank_00/distrib_optim.pt is missing", "mp_rank_01/model_optim_rng.pt is missing"]
        );
    }

    #[test]
    fn a_rank_that_is_left_from_an_earlier_save_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["mp_rank_00", "mp_rank_01"].map(|rank| format!("{rank}/{MODEL}"));
        let parts = ["mp_rank_00", "mp_rank_01"].map(|rank| format!("{rank}/{OPTIMIZER}"));
        for name in parts.iter().chain(&names) {
            torch(&dir.path().join(name), &args(2, 1, true, false));
        }
        let made = std::fs::metadata(dir.path().join(&names[1])).unwrap().modified().unwrap();
        let change = |name: &str, seconds| {
            let file = std::fs::File::open(dir.path().join(name)).unwrap();
            file.set_modified(made + std::time::Duration::from_secs(seconds)).unwrap();
            let mut tally = Tally::default();
            judge(dir.path(), &[], &mut tally, &mut Io::until(None)).unwrap();
            tally.flaws.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let none = Vec::<String>::new();
        let expected = "mp_rank_00/model_optim_rng.pt is older than mp_rank_00/distrib_optim.pt: a \
                        save did not end";
        assert_eq!(change(&parts[0], 5), [expected]);
        assert_eq!(change(&parts[0], 3600), [expected]);
        assert_eq!(change(&names[0], 3600).len(), 1, "the other rank");
        assert_eq!(change(&parts[1], 3600).len(), 1);
        assert_eq!(change(&names[1], 3600), none);
        // ranks do not wait for each other
        change(&names[1], 3605);
        assert_eq!(change(&parts[1], 3602), none);
    }
}
