//! Composer and llm-foundry: `ep0-ba100-rank0.pt`, or a folder `ep0-ba100/` of shards.
//!
//! Whole means, for files: those of all ranks that save are there and pass. Usually rank 0 alone
//! saves; where a neighbour has files of more ranks, this one must have them too, and where there are
//! files of more than one, those of the whole job. For a folder: DCP's rule. What is handed to the
//! framework is the file of rank 0, or the folder.
//!
//! `latest-rank0.pt` is only a hint: the link is removed and then made anew, and for a moment there
//! is none.
//!
//! Source: Composer's `callbacks/checkpoint_saver.py` (`_save_checkpoint`), `utils/checkpoint.py`
//! (`get_save_filename`, `_save_checkpoint`, `_write_checkpoint_file`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::tally::Tally;
use super::{Adapter, Cx, Pointer, dcp};
use crate::checkpoint::io::{Entry, Io, IoError};
use crate::checkpoint::{Found, Judged, Layout};

/// The link of rank 0, whatever the name ends in.
const LATEST: &str = "latest-rank0";

/// As many missing ranks as are told.
const MAX_MISSING: usize = 8;

/// The adapter.
pub struct Composer;

impl Adapter for Composer {
    fn layout(&self) -> Layout {
        Layout::Composer
    }

    fn find(
        &self,
        folder: &Path,
        entries: &[Entry],
        _cx: &Cx,
        io: &mut Io,
    ) -> Result<Vec<Found>, IoError> {
        let mut saves: BTreeMap<&str, (&Entry, Save)> = BTreeMap::new();
        for entry in entries {
            let Some(name) = entry.text() else { continue };
            let Some(save) = Save::of(name).filter(|save| save.rank.is_none() == entry.is_folder)
            else {
                continue;
            };
            // the file of the first rank stands for those of all
            let first = saves.entry(save.stem).or_insert((entry, save));
            if save.rank < first.1.rank {
                *first = (entry, save);
            }
        }
        let mut found = Vec::new();
        for (entry, save) in saves.into_values() {
            let path = folder.join(&entry.name);
            let modified = io.stat(&path).ok().and_then(|stat| stat.modified);
            let step = Some(save.batch);
            found.push(Found { layout: Layout::Composer, path, number: step, step, modified });
        }
        Ok(found)
    }

    fn judge(&self, found: &Found, cx: &Cx, io: &mut Io) -> Result<Judged, IoError> {
        let mut tally = Tally::default();
        let name = found.path.file_name().unwrap_or_default().to_string_lossy();
        let own = Save::of(&name).filter(|save| save.rank.is_some());
        let (Some(own), Some(folder)) = (own, found.path.parent()) else {
            tally.folder(None, dcp::judge_folder(&found.path, io)?);
            return Ok(tally.judged(None));
        };
        let entries = io.list(folder)?;
        let names = || entries.iter().filter(|entry| !entry.is_folder).filter_map(Entry::text);
        let mut others: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
        for save in names().filter_map(Save::of) {
            others.entry(save.stem).or_default().extend(save.rank);
        }
        let ranks = others.remove(own.stem).unwrap_or_default();
        for rank in &ranks {
            tally.torch(folder, &own.file(*rank), io)?;
        }
        let (count, because) = wanted(&ranks, &others, cx);
        for rank in (0..count).filter(|rank| !ranks.contains(rank)).take(MAX_MISSING) {
            tally.flaw(own.file(rank), format!("is missing: {because}"));
        }
        Ok(tally.judged(None))
    }

    fn pointer(&self, folder: &Path, entries: &[Entry], io: &mut Io) -> Option<Pointer> {
        let is_link = |name: &&str| name.strip_suffix(".pt").unwrap_or(name) == LATEST;
        let file = entries.iter().filter_map(Entry::text).find(is_link)?.to_owned();
        let names = io.link(&folder.join(&file)).ok().flatten();
        let names = names.map(|names| names.to_string_lossy().into_owned());
        Some(Pointer { file, names })
    }
}

/// How many ranks must have a file, and why.
fn wanted(ranks: &BTreeSet<u32>, others: &BTreeMap<&str, BTreeSet<u32>>, cx: &Cx) -> (u32, String) {
    let count = |ranks: &BTreeSet<u32>| ranks.last().map_or(1, |last| last.saturating_add(1));
    let own = count(ranks);
    let theirs = others.iter().map(|(name, ranks)| (count(ranks), *name)).max();
    match (cx.world_size, theirs) {
        (Some(size), theirs) if size > own => {
            // the first rank alone saves, unless there is a sign of others
            let all = own > 1 || theirs.is_some_and(|(theirs, _)| theirs > 1);
            if all { (size, format!("the job has {size} ranks")) } else { (own, String::new()) }
        }
        (None, Some((theirs, name))) if theirs > own => {
            (theirs, format!("{name} has files of {theirs} ranks"))
        }
        _ => (own, format!("there are files of {own} ranks")),
    }
}

/// What a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Save<'a> {
    /// `ep0-ba100`.
    stem: &'a str,
    batch: u64,
    /// `None` for a folder.
    rank: Option<u32>,
    /// `.pt`, or nothing.
    end: &'a str,
}

impl<'a> Save<'a> {
    /// `ep0-ba100-rank0.pt`, `ba100-rank0.pt`, `ep0-ba100`.
    fn of(name: &'a str) -> Option<Self> {
        let (name, end) = match name.strip_suffix(".pt") {
            Some(stem) => (stem, ".pt"),
            None => (name, ""),
        };
        let (stem, rank) = match name.split_once("-rank") {
            Some((stem, rank)) => (stem, Some(u32::try_from(number(rank)?).ok()?)),
            None => (name, None),
        };
        let batch = match stem.strip_prefix("ep") {
            Some(rest) => {
                let (epoch, batch) = rest.split_once("-ba")?;
                number(epoch)?;
                batch
            }
            None => stem.strip_prefix("ba")?,
        };
        Some(Self { stem, batch: number(batch)?, rank, end })
    }

    fn file(&self, rank: u32) -> String {
        format!("{}-rank{rank}{}", self.stem, self.end)
    }
}

fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::checkpoint::Flaw;

    #[test]
    fn names_are_read_as_they_are_written() {
        let save = |name| Save::of(name).map(|save| (save.stem, save.batch, save.rank, save.end));
        for (name, expected) in [
            ("ep1-ba42-rank0.pt", ("ep1-ba42", 42, Some(0), ".pt")),
            ("ba42-rank13.pt", ("ba42", 42, Some(13), ".pt")),
            ("ep1-ba42-rank0", ("ep1-ba42", 42, Some(0), "")),
            ("ep1-ba42", ("ep1-ba42", 42, None, "")),
        ] {
            assert_eq!(save(name), Some(expected));
            let rank = expected.2;
            assert!(rank.is_none_or(|rank| Save::of(name).unwrap().file(rank) == name), "{name}");
        }
        for name in ["latest-rank0.pt", "ep1-ba-rank0.pt", "epx-ba1", "ep1ba1", "ba1-rankx.pt", ""]
        {
            assert_eq!(save(name), None, "{name}");
        }
    }

    #[test]
    fn the_ranks_that_save_are_known_by_others_and_by_the_job() {
        let other: BTreeSet<u32> = [0, 1].into();
        let alone: BTreeSet<u32> = [0].into();
        let none = BTreeMap::new();
        let one = BTreeMap::from([("ba1", alone.clone())]);
        let two = BTreeMap::from([("ba1", other.clone())]);
        let cx = |world_size| Cx { world_size, ..Cx::default() };
        let table = [
            (&alone, &none, None, 1),
            (&alone, &none, Some(4), 1),
            (&alone, &one, Some(4), 1),
            (&alone, &two, None, 2),
            (&alone, &two, Some(4), 4),
            (&alone, &two, Some(1), 1),
            (&other, &none, None, 2),
            (&other, &none, Some(4), 4),
            (&other, &one, Some(2), 2),
            (&other, &two, Some(1), 2),
        ];
        for (ranks, others, world, count) in table {
            assert_eq!(
                wanted(ranks, others, &cx(world)).0,
                count,
                "{ranks:?} {others:?} {world:?}"
            );
        }
    }

    #[test]
    fn the_first_rank_stands_for_all_of_one_save() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["ep0-ba10-rank1.pt", "ep0-ba10-rank0.pt", "ep0-ba20-rank1.pt", "ep1-ba5"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join("ep0-ba30")).unwrap();
        std::os::unix::fs::symlink("ep0-ba10-rank0.pt", dir.path().join("latest-rank0.pt"))
            .unwrap();
        let mut io = Io::until(None);
        let entries = io.list(dir.path()).unwrap();
        let found = Composer.find(dir.path(), &entries, &Cx::default(), &mut io).unwrap();
        let mut names: Vec<_> =
            found.iter().map(|found| found.path.file_name().unwrap().to_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["ep0-ba10-rank0.pt", "ep0-ba20-rank1.pt", "ep0-ba30"]);
        let pointer = Composer.pointer(dir.path(), &entries, &mut io).unwrap();
        assert_eq!(pointer.names.as_deref(), Some("ep0-ba10-rank0.pt"));
        assert_eq!(pointer.file, "latest-rank0.pt");
    }

    #[test]
    fn the_files_of_all_ranks_that_save_are_judged() {
        use crate::checkpoint::Verdict;
        use crate::checkpoint::layout::fixtures::{Item, torch};

        let dir = tempfile::tempdir().unwrap();
        for name in ["ba1-rank0.pt", "ba1-rank1.pt", "ba2-rank0.pt"] {
            torch(&dir.path().join(name), &Item::Nothing);
        }
        let verdict = |name: &str| {
            let path = dir.path().join(name);
            let layout = Layout::Composer;
            let found = Found { layout, path, number: None, step: None, modified: None };
            let judged = Composer.judge(&found, &Cx::default(), &mut Io::until(None)).unwrap();
            (judged.verdict, judged.files)
        };
        assert_eq!(verdict("ba1-rank0.pt"), (Verdict::Whole, 2));
        let flaw = Flaw::new("ba2-rank1.pt", "is missing: ba1 has files of 2 ranks");
        assert_eq!(verdict("ba2-rank0.pt"), (Verdict::Broken(vec![flaw]), 1));
        fs::write(dir.path().join("ba1-rank1.pt"), "").unwrap();
        assert!(matches!(verdict("ba1-rank0.pt"), (Verdict::Broken(_), 2)));
    }
}
