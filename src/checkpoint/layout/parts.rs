//! What judging a folder of many files has in common: files are checked by their kind and counted,
//! and what is wrong is collected, most telling first.
//!
//! - P1: a file that is missing, cut or torn is a flaw; one that cannot be looked at ends the
//!   judging ([`IoError`]).
//! - P2: nothing here knows a framework; names come from the layouts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::de::IgnoredAny;

use crate::checkpoint::io::{Entry, Io, IoError, Stat};
use crate::checkpoint::read::pickle::Value;
use crate::checkpoint::read::{safetensors, text, torch_file};
use crate::checkpoint::{Flaw, Found, Judged, Layout, Verdict};

use super::copied;
use super::dcp::{self, Dcp};

/// The most flaws of one candidate that are told.
const MAX_FLAWS: usize = 8;
/// The largest JSON file that is read here: a Trainer's history of a long job.
const MAX_JSON: usize = 256 << 20;
/// A shard that every folder of DCP has, written over by the next save into it.
const FIRST_SHARD: &str = "__0_0.distcp";
/// How many neighbours of a candidate are looked at.
const NEIGHBOURS: usize = 3;

/// A folder while it is judged.
#[derive(Debug)]
pub struct Parts {
    folder: PathBuf,
    /// Names and whether they are folders.
    names: BTreeMap<String, bool>,
    /// When files were last written that were checked.
    times: BTreeMap<String, SystemTime>,
    flaws: Vec<Flaw>,
    bytes: u64,
    files: u64,
    modified: Option<SystemTime>,
}

impl Parts {
    /// Lists a folder.
    pub fn open(folder: &Path, io: &mut Io) -> Result<Self, IoError> {
        let entries = io.list(folder)?;
        let names = entries.iter().filter_map(|e| Some((e.text()?.to_owned(), e.is_folder)));
        Ok(Self {
            folder: folder.to_owned(),
            names: names.collect(),
            times: BTreeMap::new(),
            flaws: Vec::new(),
            bytes: 0,
            files: 0,
            modified: None,
        })
    }

    /// Whether it has a file of that name.
    pub fn has_file(&self, name: &str) -> bool {
        self.names.get(name) == Some(&false)
    }

    /// Whether it has a folder of that name.
    pub fn has_folder(&self, name: &str) -> bool {
        self.names.get(name) == Some(&true)
    }

    /// Its files for which that is true, by name.
    pub fn files(&self, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
        self.select(false, is_meant)
    }

    /// Its folders for which that is true, by name.
    pub fn folders(&self, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
        self.select(true, is_meant)
    }

    fn select(&self, folders: bool, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
        let chosen = self.names.iter().filter(|(name, kind)| **kind == folders && is_meant(name));
        chosen.map(|(name, _)| name.clone()).collect()
    }

    /// Something is wrong.
    pub fn flaw(&mut self, file: impl Into<String>, what: impl Into<String>) {
        self.flaws.push(Flaw::new(file, what));
    }

    /// Something is wrong unless fewer ranks saved than the job has now.
    pub fn doubt(&mut self, file: impl Into<String>, what: impl Into<String>) {
        self.flaws.push(Flaw::doubt(file, what));
    }

    /// When the newest of the files that were looked at was written.
    pub fn modified(&self) -> Option<SystemTime> {
        self.modified
    }

    fn count(&mut self, name: &str, size: u64, modified: Option<SystemTime>) {
        self.bytes = self.bytes.saturating_add(size);
        self.files += 1;
        self.modified = self.modified.max(modified);
        if let Some(modified) = modified {
            self.times.insert(name.to_owned(), modified);
        }
    }

    /// Turns what could be told of a file into a flaw or its value (P1).
    fn noted<T>(
        &mut self,
        name: &str,
        checked: Result<Result<T, String>, IoError>,
    ) -> Result<Option<T>, IoError> {
        match checked {
            Ok(Ok(value)) => return Ok(Some(value)),
            Ok(Err(what)) => self.flaw(name, what),
            Err(error) if error.is_flaw() => self.flaw(name, error.to_string()),
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    /// Checks a file that `torch.save` wrote, below the folder.
    pub fn torch(
        &mut self,
        name: &str,
        io: &mut Io,
    ) -> Result<Option<torch_file::TorchFile>, IoError> {
        let checked = torch_file::check(&self.folder.join(name), io);
        let file = self.noted(name, checked)?;
        match &file {
            Some(file) => self.count(name, file.size, file.modified),
            None => self.count_flawed(name, io)?,
        }
        Ok(file)
    }

    /// What is pickled in a file that was found whole.
    pub fn load(
        &self,
        name: &str,
        file: &torch_file::TorchFile,
        io: &mut Io,
    ) -> Result<Option<Value>, IoError> {
        match torch_file::load(&self.folder.join(name), file, io) {
            Err(error) if error.is_flaw() => Ok(None),
            value => value,
        }
    }

    /// Checks a file of safetensors, below the folder.
    pub fn safetensors(&mut self, name: &str, io: &mut Io) -> Result<(), IoError> {
        let checked = safetensors::check(&self.folder.join(name), io);
        match self.noted(name, checked)? {
            Some(file) => self.count(name, file.size, file.modified),
            None => self.count_flawed(name, io)?,
        }
        Ok(())
    }

    /// Counts a file with a flaw, where it is there: it may be being written, and its age tells.
    fn count_flawed(&mut self, name: &str, io: &mut Io) -> Result<(), IoError> {
        if let Some(stat) = self.stat(name, io)? {
            self.count(name, stat.size, stat.modified);
        }
        Ok(())
    }

    /// Checks a file by how its name ends: safetensors, or what `torch.save` wrote.
    pub fn tensors(&mut self, name: &str, io: &mut Io) -> Result<(), IoError> {
        if has_end(name, "safetensors") {
            self.safetensors(name, io)
        } else {
            self.torch(name, io).map(|_| ())
        }
    }

    /// Reads a JSON file into what is wanted of it; the rest is only checked for form.
    pub fn json<T: serde::de::DeserializeOwned>(
        &mut self,
        name: &str,
        io: &mut Io,
    ) -> Result<Option<T>, IoError> {
        let path = self.folder.join(name);
        let read = io.stat(&path).and_then(|stat| Ok((io.read(&path, MAX_JSON)?, stat)));
        let Some((bytes, stat)) = self.noted(name, read.map(Ok))? else { return Ok(None) };
        self.count(name, stat.size, stat.modified);
        let parsed = match text::nothing_in(&bytes) {
            Some(what) => Err(what.to_owned()),
            None => parsed(&bytes).map_err(|error| {
                if error.is_eof() {
                    "was cut off".to_owned()
                } else {
                    format!("is damaged: {error}")
                }
            }),
        };
        self.noted(name, Ok(parsed))
    }

    /// Checks that a file is JSON, where it is there.
    pub fn json_if_there(&mut self, name: &str, io: &mut Io) -> Result<(), IoError> {
        if self.has_file(name) {
            self.json::<IgnoredAny>(name, io)?;
        }
        Ok(())
    }

    /// Checks all weights whose names begin so, in one file or by an index; whether there are any.
    ///
    /// `pytorch_model` and `model` are the names of Transformers and Accelerate; what stands behind
    /// them is a number (`model_1.safetensors`), a shard (`model-00001-of-00002.safetensors`) or
    /// nothing.
    pub fn weights(&mut self, starts: &[&str], io: &mut Io) -> Result<bool, IoError> {
        let is_meant = |name: &str| {
            let stem = name.strip_suffix(".safetensors").or_else(|| name.strip_suffix(".bin"));
            let is_rest = |rest: &str| {
                rest.is_empty() || number(rest.strip_prefix('_').unwrap_or("")).is_some()
            };
            stem.is_some_and(|stem| {
                starts.iter().any(|start| {
                    stem.strip_prefix(start).is_some_and(|rest| is_rest(rest) || is_shard(rest))
                })
            })
        };
        let files = self.files(is_meant);
        let is_index = |name: &str| {
            let stem = name.strip_suffix(".index.json");
            stem.is_some_and(&is_meant)
        };
        let indices = self.files(is_index);
        let mut shards = BTreeSet::new();
        for index in &indices {
            let path = self.folder.join(index);
            let stat = io.stat(&path);
            if let Some(stat) = self.noted(index, stat.map(Ok))? {
                self.count(index, stat.size, stat.modified);
            }
            let named = safetensors::check_index(&path, io);
            shards.extend(self.noted(index, named)?.unwrap_or_default());
        }
        for name in files.iter().chain(shards.iter().filter(|shard| !files.contains(shard))) {
            if is_shard_name(name) && !shards.contains(name) {
                if indices.is_empty() {
                    let index = index_of(name);
                    if !self.flaws.iter().any(|flaw| flaw.file == index) {
                        self.flaw(index, "is missing, and the weights are in shards");
                    }
                }
                continue;
            }
            self.tensors(name, io)?;
        }
        Ok(!files.is_empty() || !indices.is_empty())
    }

    /// Judges a folder below this one that `torch.distributed.checkpoint` wrote.
    pub fn dcp(&mut self, name: &str, io: &mut Io) -> Result<(), IoError> {
        let judged = dcp::judge_folder(&self.folder.join(name), io);
        if let Some(judged) = self.noted(name, judged.map(Ok))? {
            // its index is a new file in each save; its shards are written over
            let shard = format!("{name}/{FIRST_SHARD}");
            if let Ok(Stat { modified: Some(modified), .. }) = io.stat(&self.folder.join(&shard)) {
                self.times.insert(shard, modified);
            }
            self.add(Some(name), judged);
        }
        Ok(())
    }

    /// Judges what `torch.distributed.checkpoint` wrote into this very folder; `marker` is written
    /// after it.
    pub fn dcp_before(&mut self, marker: &str, io: &mut Io) -> Result<(), IoError> {
        let judged = dcp::judge_folder(&self.folder, io)?;
        if self.has_file(FIRST_SHARD) && self.is_newer(FIRST_SHARD, marker, io)? {
            self.flaw(marker, "is older than the shards: a save over an older one did not end");
        }
        self.add(None, judged);
        Ok(())
    }

    /// Takes over what was found in a folder below this one, or in this one.
    pub fn add(&mut self, name: Option<&str>, judged: Dcp) {
        let below = |flaw: Flaw| match name {
            Some(name) => Flaw::new(format!("{name}/{}", flaw.file), flaw.what),
            None => flaw,
        };
        self.flaws.extend(judged.flaws.into_iter().map(below));
        self.bytes = self.bytes.saturating_add(judged.bytes);
        self.files += judged.files;
        self.modified = self.modified.max(judged.modified);
    }

    /// `marker` is the last file that one process writes: what of `names` was written over after it
    /// was begun anew. Names that were not checked are left out.
    pub fn not_newer_than(
        &mut self,
        marker: &str,
        names: impl Fn(&str) -> bool,
        io: &mut Io,
    ) -> Result<(), IoError> {
        let Some(end) = self.times.get(marker).copied() else { return Ok(()) };
        let newer = self.times.iter().filter(|(name, time)| **time > end && names(name));
        let newer: Vec<String> = newer.map(|(name, _)| name.clone()).collect();
        if newer.is_empty() {
            return Ok(());
        }
        let Some(end) = self.stat(marker, io)? else { return Ok(()) };
        let all = self.all_stats(io)?;
        for name in newer {
            let Some(file) = self.stat(&name, io)? else { continue };
            if dcp::is_rewritten(&file, &end) || !copied::came_together(&file, &end, &all) {
                let what = format!(
                    "is newer than {marker}, which is written last: a save over an older one did \
                     not end (if it was copied and is right, `touch` {marker})"
                );
                self.flaw(name, what);
                break;
            }
        }
        Ok(())
    }

    /// Whether a file was written over after `marker` was written; copies are left alone.
    fn is_newer(&self, name: &str, marker: &str, io: &mut Io) -> Result<bool, IoError> {
        let both = self.stat(name, io)?.zip(self.stat(marker, io)?);
        Ok(both.is_some_and(|(file, marker)| dcp::is_rewritten(&file, &marker)))
    }

    /// One look at a file; `None` where it is gone.
    fn stat(&self, name: &str, io: &mut Io) -> Result<Option<Stat>, IoError> {
        match io.stat(&self.folder.join(name)) {
            Err(error) if error.is_flaw() => Ok(None),
            stat => stat.map(Some),
        }
    }

    /// One look at every file, of the folders in it too.
    fn all_stats(&self, io: &mut Io) -> Result<Vec<Stat>, IoError> {
        let mut all = Vec::new();
        for (name, is_folder) in &self.names {
            if !is_folder {
                all.extend(self.stat(name, io)?);
                continue;
            }
            let entries = match io.list(&self.folder.join(name)) {
                Err(error) if error.is_flaw() => continue,
                entries => entries?,
            };
            for file in named(&entries, false) {
                all.extend(self.stat(&format!("{name}/{file}"), io)?);
            }
        }
        Ok(all)
    }

    /// The numbers between `before` and `after` in names of files.
    pub fn numbers(&self, before: &str, after: &str) -> BTreeSet<u64> {
        self.names.keys().filter_map(|name| between(name, before, after)).collect()
    }

    /// The files of all ranks must be there: those of 0 to the highest, and those of `world` ranks
    /// unless the neighbours were saved by as few as this one.
    pub fn ranks(
        &mut self,
        (before, after): (&str, &str),
        world: Option<u32>,
        neighbours: &[BTreeSet<String>],
    ) {
        let there = self.numbers(before, after);
        let count = there.len() as u64;
        let highest = there.last().map_or(0, |last| last.saturating_add(1));
        let world = world.map_or(0, u64::from);
        let needed = if highest >= world || saved_by_fewer(count, neighbours, before, after) {
            highest
        } else {
            world
        };
        let missing: Vec<u64> = (0..needed).filter(|rank| !there.contains(rank)).take(2).collect();
        if let Some(first) = missing.first() {
            let others = if missing.len() > 1 { ", and others are" } else { "" };
            let ranks = if needed == 1 { "rank" } else { "ranks" };
            let whose = if needed > highest { "the job has" } else { "it was saved by" };
            self.flaw(
                format!("{before}{first}{after}"),
                format!("is missing{others}: {whose} {needed} {ranks}"),
            );
        }
    }

    /// What is true of it all. `export` says why it is no resume point, where it is whole.
    pub fn finish(mut self, export: Option<String>, step: Option<u64>) -> Judged {
        self.flaws.truncate(MAX_FLAWS);
        let verdict = match export {
            _ if !self.flaws.is_empty() => Verdict::Broken(self.flaws),
            Some(why) => Verdict::Export(why),
            None => Verdict::Whole,
        };
        let Self { bytes, files, modified, .. } = self;
        Judged { verdict, step, bytes, files, modified }
    }
}

/// JSON as Python writes it: a loss that overflowed stands in a Trainer's history as `NaN`.
fn parsed<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(bytes).or_else(|error| match text::without_nan(bytes) {
        Some(bytes) => serde_json::from_slice(&bytes),
        None => Err(error),
    })
}

/// Whether neighbours were saved by just as many ranks, and none by more.
fn saved_by_fewer(count: u64, neighbours: &[BTreeSet<String>], before: &str, after: &str) -> bool {
    let ranks = |names: &BTreeSet<String>| {
        names
            .iter()
            .filter_map(|name| between(name, before, after))
            .max()
            .map_or(0, |last| last.saturating_add(1))
    };
    let counts = neighbours.iter().map(ranks);
    count > 0 && counts.max() == Some(count)
}

/// The names in folders beside this one that are nearest to it in number, older ones first.
pub fn neighbours(
    folder: &Path,
    number_in: impl Fn(&str) -> Option<u64>,
    io: &mut Io,
) -> Result<Vec<(String, BTreeSet<String>)>, IoError> {
    let (Some(parent), Some(own)) = (folder.parent(), folder.file_name()) else {
        return Ok(Vec::new());
    };
    let number = own.to_str().and_then(&number_in);
    let mut others: Vec<(bool, u64, String)> = Vec::new();
    for entry in io.list(parent)? {
        if let Some(name) = entry.text().filter(|_| entry.is_folder && entry.name != own)
            && let (Some(other), Some(number)) = (number_in(name), number)
        {
            others.push((other > number, other.abs_diff(number), name.to_owned()));
        }
    }
    others.sort();
    let mut neighbours = Vec::new();
    for (_, _, name) in others.into_iter().take(NEIGHBOURS) {
        // It may be deleted just now.
        if let Ok(entries) = io.list(&parent.join(&name)) {
            let names = entries.iter().filter_map(|entry| entry.text().map(str::to_owned));
            neighbours.push((name, names.collect()));
        }
    }
    Ok(neighbours)
}

/// A candidate, with one look at its age.
pub fn found(
    layout: Layout,
    path: PathBuf,
    number: Option<u64>,
    step: Option<u64>,
    io: &mut Io,
) -> Result<Found, IoError> {
    let modified = match io.stat(&path) {
        Ok(stat) => stat.modified,
        Err(IoError::Deadline) => return Err(IoError::Deadline),
        Err(_) => None,
    };
    Ok(Found { layout, path, number, step, modified })
}

/// A file alone that was judged.
pub fn judged_file(
    verdict: Verdict,
    step: Option<u64>,
    size: u64,
    modified: Option<SystemTime>,
) -> Judged {
    Judged { verdict, step, bytes: size, files: 1, modified }
}

/// A file alone in which something is wrong.
pub fn broken_file(name: &str, what: String, stat: &Stat) -> Judged {
    judged_file(Verdict::Broken(vec![Flaw::new(name, what)]), None, stat.size, stat.modified)
}

/// What is known of a file that is listed and cannot be opened.
pub fn gone(path: &Path, error: IoError, io: &mut Io) -> Result<Judged, IoError> {
    if !error.is_flaw() {
        return Err(error);
    }
    let what = match (&error, io.link(path)) {
        (IoError::Missing, Ok(Some(to))) => format!("leads to {}, which is missing", to.display()),
        _ => error.to_string(),
    };
    let broken = Verdict::Broken(vec![Flaw::new(name_of(path), what)]);
    Ok(Judged { verdict: broken, step: None, bytes: 0, files: 0, modified: None })
}

/// A file's name, for people.
pub fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The names of entries that are folders or files.
pub fn named(entries: &[Entry], folders: bool) -> impl Iterator<Item = &str> {
    entries.iter().filter(move |entry| entry.is_folder == folders).filter_map(Entry::text)
}

/// A number in decimal digits and nothing else.
pub fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// The number between what a name begins and ends with.
pub fn between(name: &str, before: &str, after: &str) -> Option<u64> {
    number(name.strip_prefix(before)?.strip_suffix(after)?)
}

/// Whether a name has this extension.
pub fn has_end(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == extension)
}

/// What FSDP leaves where it does not shard by folders: `pytorch_model_fsdp.bin`, or one for a rank.
pub fn is_fsdp_file(name: &str) -> bool {
    name.starts_with("pytorch_model_fsdp") && has_end(name, "bin")
}

/// `-00001-of-00002`
fn is_shard(rest: &str) -> bool {
    let numbers = rest.strip_prefix('-').and_then(|rest| rest.split_once("-of-"));
    numbers.is_some_and(|(one, all)| number(one).is_some() && number(all).is_some())
}

/// `model-00001-of-00002.safetensors`
pub fn is_shard_name(name: &str) -> bool {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    shard_start(stem).is_some()
}

fn shard_start(stem: &str) -> Option<&str> {
    let at = stem.rfind("-of-")?;
    let at = stem[..at].rfind('-')?;
    is_shard(&stem[at..]).then(|| &stem[..at])
}

/// The index of a shard: `model.safetensors.index.json`.
pub fn index_of(shard: &str) -> String {
    let (stem, end) = shard.rsplit_once('.').unwrap_or((shard, ""));
    format!("{}.{end}.index.json", shard_start(stem).unwrap_or(stem))
}

#[cfg(test)]
mod tests;
