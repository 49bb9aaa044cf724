//! `torch.distributed.checkpoint`: a folder with `.metadata`, and the shards that it names.
//!
//! Source: `torch/distributed/checkpoint/filesystem.py`. Each rank writes `__{rank}_{n}.distcp`, an
//! item behind the other; then rank 0 writes `.metadata.tmp` and renames it. Without collectives
//! each rank has an index of its own, `__{rank}.metadata`.
//!
//! - D1: `.metadata` is there, no `.metadata.tmp` is, and it is a pickle with a place for each item.
//! - D2: every shard ends exactly where the last of its items does.
//! - D3: of each shard the first item's start, one in the middle and the last one's end are looked
//!   at: items are files of `torch.save`, whose first and last bytes are known. In a checkpoint of
//!   more than [`SAMPLED_FILES`] shards so many of them, spread evenly.
//! - D4: no shard was written over after `.metadata` was: a save into a folder with an older
//!   checkpoint leaves the old `.metadata` until it ends. See [`is_rewritten`].
//!
//! What is inside an item's values is not read. Where ranks have indexes of their own, each rank loads
//! by that of its number (`state_dict_loader.py`): as many as the job has ranks are needed, and only
//! where that is not known a last rank that left no file at all cannot be missed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::dcp_index::{self as index, Index, Piece};
use super::{Adapter, Cx, name_number};
use crate::checkpoint::io::{Entry, Io, IoError, Opened, Stat};
use crate::checkpoint::read::text::{is_inside, nothing_in};
use crate::checkpoint::read::{safetensors, torch_file};
use crate::checkpoint::{Flaw, Found, Judged, Layout, Verdict, thousands};

/// The most shards whose items are looked at (D3); of all the size is.
const SAMPLED_FILES: usize = 1024;

/// How many flaws are told.
const FLAWS: usize = 8;

/// The longest `.metadata` that is read.
const INDEX_BYTES: usize = 64 << 20;

/// The longest item that the step is read from: a number takes some 1,500 bytes.
const STEP_BYTES: u64 = 64 << 10;

/// By how much a shard of a save that ended may be newer, where several machines' clocks set the times
/// of one file system. The index is written some milliseconds after the last shard as it is (4 ms
/// were measured for the smallest save), and the next save begins to write as many after the index.
pub(super) const SKEW: Duration = Duration::from_millis(2);

/// Nobody copies slower than this, in bytes a second, after a pause of [`COPY_PAUSE`].
const COPY_SPEED: u64 = 4 << 20;
pub(super) const COPY_PAUSE: Duration = Duration::from_secs(10);

/// What a folder of DCP is like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dcp {
    /// What is wrong with it, the first few; empty where it is whole.
    pub flaws: Vec<Flaw>,
    /// Bytes of its files.
    pub bytes: u64,
    /// How many files these are.
    pub files: u64,
    /// The newest of its files.
    pub modified: Option<SystemTime>,
}

impl Dcp {
    fn flaw(&mut self, file: &str, what: impl Into<String>) {
        if self.flaws.len() < FLAWS {
            self.flaws.push(Flaw::new(file, what));
        }
    }

    fn count(&mut self, size: u64, modified: Option<SystemTime>) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(size);
        self.modified = self.modified.max(modified);
    }
}

/// What a folder's index says of what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// The step, where an item that is called so holds a number.
    pub step: Option<u64>,
    /// The first parts of the items' names (`model` of `model.layers.0.weight`), each once.
    pub roots: Vec<String>,
}

/// Judges a folder by D1 to D4.
pub fn judge_folder(folder: &Path, io: &mut Io) -> Result<Dcp, IoError> {
    judge_contents(folder, None, io).map(|(dcp, _)| dcp)
}

/// As [`judge_folder`], and tells what is in it. `world` is how many ranks will load it, where that
/// is known.
pub(super) fn judge_contents(
    folder: &Path,
    world: Option<u32>,
    io: &mut Io,
) -> Result<(Dcp, Contents), IoError> {
    let entries = io.list(folder)?;
    let mut dcp = Dcp::default();
    let mut contents = Contents::default();
    let names: Vec<&str> = entries.iter().filter_map(Entry::text).collect();
    let ranks = ranks_with_index(&names);
    if names.contains(&".metadata") || ranks.is_empty() {
        judge_index(folder, ".metadata", &names, &mut dcp, &mut contents, io)?;
    } else {
        for (at, &rank) in ranks.iter().enumerate() {
            if rank != at as u64 {
                dcp.flaw(&format!("__{at}.metadata"), "is missing: the save did not end");
                break;
            }
            let name = format!("__{rank}.metadata");
            judge_index(folder, &name, &names, &mut dcp, &mut contents, io)?;
        }
        let without = names.iter().filter_map(|name| shard_rank(name)).find(|r| !ranks.contains(r));
        if let Some(rank) = without {
            dcp.flaw(&format!("__{rank}.metadata"), "is missing: the save did not end");
        } else if let Some(world) = world
            && (ranks.len() as u64) < u64::from(world)
            && dcp.flaws.is_empty()
        {
            let at = ranks.len();
            dcp.flaw(&format!("__{at}.metadata"), format!("is missing: the job has {world} ranks"));
        }
    }
    if !dcp.flaws.is_empty() {
        look_at_shards(folder, &names, &mut dcp, io)?;
    }
    Ok((dcp, contents))
}

/// What is not whole may be being written, and the ages of its files tell: also of those that no index
/// names. Where there is no index they are counted, too.
fn look_at_shards(
    folder: &Path,
    names: &[&str],
    dcp: &mut Dcp,
    io: &mut Io,
) -> Result<(), IoError> {
    let has_index = dcp.files > 0;
    for name in names.iter().filter(|name| is_shard(name) || name.ends_with(".metadata.tmp")) {
        match io.stat(&folder.join(name)) {
            Ok(stat) if has_index => dcp.modified = dcp.modified.max(stat.modified),
            Ok(stat) => dcp.count(stat.size, stat.modified),
            Err(error) if error.is_flaw() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The ranks that have an index of their own, in order.
fn ranks_with_index(names: &[&str]) -> Vec<u64> {
    let rank = |name: &&str| name.strip_prefix("__")?.strip_suffix(".metadata")?.parse().ok();
    let mut ranks: Vec<u64> = names.iter().filter_map(rank).collect();
    ranks.sort_unstable();
    ranks
}

/// The rank that wrote a shard: 3 of `__3_0.distcp`.
fn shard_rank(name: &str) -> Option<u64> {
    let (rank, number) = name.strip_prefix("__")?.strip_suffix(".distcp")?.split_once('_')?;
    number.parse::<u64>().ok()?;
    rank.parse().ok()
}

/// Whether a folder's entry is a shard.
pub(super) fn is_shard(name: &str) -> bool {
    shard_rank(name).is_some()
}

fn judge_index(
    folder: &Path,
    name: &str,
    names: &[&str],
    dcp: &mut Dcp,
    contents: &mut Contents,
    io: &mut Io,
) -> Result<(), IoError> {
    let half = format!("{name}.tmp");
    if names.contains(&half.as_str()) {
        dcp.flaw(&half, "is there: a save into this folder did not end");
    }
    let path = folder.join(name);
    let stat = match io.stat(&path) {
        Err(IoError::Missing) => {
            dcp.flaw(name, "is missing: the save did not end");
            return Ok(());
        }
        stat => stat?,
    };
    dcp.count(stat.size, stat.modified);
    let bytes = match io.read(&path, INDEX_BYTES) {
        Err(error) if error.is_flaw() => {
            dcp.flaw(name, error.to_string());
            return Ok(());
        }
        bytes => bytes?,
    };
    if let Some(what) = nothing_in(&bytes) {
        dcp.flaw(name, what);
        return Ok(());
    }
    let index = match index::of(&bytes) {
        Ok(index) => index,
        Err(index::IndexError::TooLarge) => return Err(IoError::TooLarge),
        Err(error) => {
            dcp.flaw(name, error.to_string());
            return Ok(());
        }
    };
    let before = dcp.flaws.len();
    Shards { folder, name, stat, index: &index }.judge(dcp, io)?;
    contents.roots.extend(index.roots);
    contents.roots.sort_unstable();
    contents.roots.dedup();
    if contents.step.is_none()
        && dcp.flaws.len() == before
        && let Some((file, piece)) = &index.step
    {
        contents.step = step(&folder.join(file), *piece, io);
    }
    Ok(())
}

/// The number that an item holds.
fn step(path: &Path, piece: Piece, io: &mut Io) -> Option<u64> {
    let len = usize::try_from(piece.len).ok().filter(|_| piece.len <= STEP_BYTES)?;
    let opened = io.open(path).ok()?;
    let bytes = io.read_at(&opened, piece.offset, len).ok()?;
    torch_file::number_in(&bytes)
}

/// The shards of one index.
struct Shards<'a> {
    folder: &'a Path,
    /// The index's name, and what one look at it told.
    name: &'a str,
    stat: Stat,
    index: &'a Index,
}

/// What the items that were looked at begin with.
#[derive(Default)]
struct Seen {
    torch: u32,
    other: Vec<String>,
    all_zeros: bool,
}

impl Shards<'_> {
    fn judge(&self, dcp: &mut Dcp, io: &mut Io) -> Result<(), IoError> {
        let step = self.index.shards.len().div_ceil(SAMPLED_FILES).max(1);
        let mut seen = Seen { all_zeros: true, ..Seen::default() };
        for (at, (file, pieces)) in self.index.shards.iter().enumerate() {
            let is_sampled = at % step == 0 && !self.index.is_transformed;
            let judged = self.judge_shard(file, pieces, is_sampled, &mut seen, dcp, io);
            match judged {
                Err(error) if error.is_flaw() => dcp.flaw(file, error.to_string()),
                judged => judged?,
            }
        }
        // Items may be written by something else than torch.save, which is known by none being its.
        // In a checkpoint that has some, the others are damaged; and zeros everywhere are no items.
        if seen.torch > 0 || seen.all_zeros {
            for file in seen.other {
                dcp.flaw(&file, "is damaged: no item begins or ends where one should");
            }
        }
        Ok(())
    }

    fn judge_shard(
        &self,
        file: &str,
        pieces: &[Piece],
        is_sampled: bool,
        seen: &mut Seen,
        dcp: &mut Dcp,
        io: &mut Io,
    ) -> Result<(), IoError> {
        if !is_inside(file) {
            dcp.flaw(self.name, format!("names a file outside: {}", file.escape_debug()));
            return Ok(());
        }
        let path = self.folder.join(file);
        let (opened, stat) = if is_sampled {
            let opened = io.open(&path)?;
            let stat = opened.stat();
            (Some(opened), stat)
        } else {
            let stat = io.stat(&path)?;
            if stat.is_folder {
                return Err(IoError::NoFile);
            }
            (None, stat)
        };
        dcp.count(stat.size, stat.modified);
        if file.ends_with(".safetensors") {
            // Here the places in the index are not those in the file.
            if let Err(what) = safetensors::check(&path, io)? {
                dcp.flaw(file, what);
            }
        } else if stat.size != end_of(pieces) {
            let (is, needs) = (thousands(stat.size), thousands(end_of(pieces)));
            dcp.flaw(file, format!("is {is} bytes, {} needs {needs}", self.name));
            return Ok(());
        } else if let Some(opened) = opened {
            sample(&opened, file, pieces, seen, io)?;
        }
        if is_rewritten(&stat, &self.stat) {
            dcp.flaw(
                file,
                format!(
                    "is newer than {0}: a save into this folder did not end (if it was copied \
                     and is right, `touch` {0})",
                    self.name
                ),
            );
        }
        Ok(())
    }
}

/// Where the last item ends.
fn end_of(pieces: &[Piece]) -> u64 {
    pieces.iter().map(|piece| piece.end()).max().unwrap_or(0)
}

/// D3.
fn sample(
    opened: &Opened,
    file: &str,
    pieces: &[Piece],
    seen: &mut Seen,
    io: &mut Io,
) -> Result<(), IoError> {
    let first = pieces.iter().min_by_key(|piece| piece.offset);
    let last = pieces.iter().max_by_key(|piece| piece.end());
    let starts = [first.copied(), pieces.get(pieces.len() / 2).copied()];
    let mut is_right = true;
    for piece in starts.into_iter().flatten().filter(|piece| piece.len > 0) {
        let start = io.read_at(opened, piece.offset, 12)?;
        let is_torch = start.starts_with(b"PK\x03\x04") || start.starts_with(b"\x80\x02\x8a\x0a");
        seen.torch += u32::from(is_torch);
        seen.all_zeros &= start.iter().all(|&byte| byte == 0);
        is_right &= is_torch;
        // A zip file has its end record at its end.
        if let Some(last) = last.filter(|last| last.len >= 22 && start.starts_with(b"PK")) {
            let end = io.read_at(opened, last.end() - 22, 22)?;
            is_right &= end.starts_with(b"PK\x05\x06");
        }
    }
    if !is_right {
        seen.other.push(file.to_owned());
    }
    Ok(())
}

/// D4: whether a shard was written over after its index was written.
///
/// A shard that is newer than the index may also have been copied after it (`cp -r` copies in no
/// order), and the copy of a right checkpoint is right. A save into the folder writes over the file
/// that is there; a copy makes a new one, and writes it at once. So with a shard that is newer:
///
/// - made here before the index was written: written over;
/// - made here after the index, and done in the time that a copy takes: copied;
/// - made here after its own time: its times were set by what copied it, and tell nothing (`aws s3
///   sync` sets them to the time of the upload, which began with `.metadata`);
/// - where the file system does not know when it was made: written over, as far as can be told.
///
/// It errs with files that were copied at the same time, and refuses them; and a half-written
/// checkpoint that somebody copied with its times is not noticed.
pub(super) fn is_rewritten(shard: &Stat, index: &Stat) -> bool {
    let (Some(written), Some(index)) = (shard.modified, index.modified) else { return false };
    if written <= index + SKEW {
        return false;
    }
    let Some(made) = shard.created else { return true };
    let Ok(took) = written.duration_since(made) else { return false };
    made < index || took > copying(shard.size)
}

/// As long as it takes at most to write so many bytes.
pub(super) fn copying(size: u64) -> Duration {
    COPY_PAUSE + Duration::from_secs(size / COPY_SPEED)
}

/// The adapter.
pub struct DcpAdapter;

impl Adapter for DcpAdapter {
    fn layout(&self) -> Layout {
        Layout::Dcp
    }

    /// The folder itself, or those in it that have a number in their name. A folder that has
    /// neither an index nor a first shard yet is none.
    fn find(
        &self,
        folder: &Path,
        entries: &[Entry],
        _cx: &Cx,
        io: &mut Io,
    ) -> Result<Vec<Found>, IoError> {
        let is_ours = |entry: &Entry| {
            !entry.is_folder && entry.text().is_some_and(|name| is_shard(name) || is_index(name))
        };
        if entries.iter().any(is_ours) {
            let modified = index_time(folder, io)?;
            let path = folder.to_owned();
            let layout = Layout::Dcp;
            return Ok(vec![Found { layout, path, number: None, step: None, modified }]);
        }
        let mut found = Vec::new();
        for entry in entries.iter().filter(|entry| entry.is_folder) {
            let Some(name) = entry.text() else { continue };
            let Some((number, is_step)) = name_number(name) else { continue };
            let path = folder.join(name);
            if let Some(modified) = probe(&path, io)? {
                let step = is_step.then_some(number);
                found.push(Found {
                    layout: Layout::Dcp,
                    path,
                    number: Some(number),
                    step,
                    modified: Some(modified),
                });
            }
        }
        Ok(found)
    }

    fn judge(&self, found: &Found, cx: &Cx, io: &mut Io) -> Result<Judged, IoError> {
        let (dcp, contents) = judge_contents(&found.path, cx.world_size, io)?;
        Ok(judged(dcp, contents.step))
    }
}

/// What is true of a folder.
pub(super) fn judged(dcp: Dcp, step: Option<u64>) -> Judged {
    let Dcp { flaws, bytes, files, modified } = dcp;
    let verdict = if flaws.is_empty() { Verdict::Whole } else { Verdict::Broken(flaws) };
    Judged { verdict, step, bytes, files, modified }
}

fn is_index(name: &str) -> bool {
    name == ".metadata" || (name.starts_with("__") && name.ends_with(".metadata"))
}

fn index_time(folder: &Path, io: &mut Io) -> Result<Option<SystemTime>, IoError> {
    match io.stat(&folder.join(".metadata")) {
        Ok(stat) => Ok(stat.modified),
        Err(error) if error.is_flaw() => Ok(None),
        Err(error) => Err(error),
    }
}

/// When a folder's index, or else its first shard, was written; `None` where it has neither.
pub(super) fn probe(folder: &Path, io: &mut Io) -> Result<Option<SystemTime>, IoError> {
    for name in [".metadata", "__0_0.distcp", "__0.metadata"] {
        match io.stat(&folder.join(name)) {
            Ok(stat) => return Ok(Some(stat.modified.unwrap_or(SystemTime::UNIX_EPOCH))),
            Err(error) if error.is_flaw() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Shards by name, as an index has them.
pub(super) type ByFile = BTreeMap<String, Vec<Piece>>;

#[cfg(test)]
#[path = "dcp_tests.rs"]
mod tests;
