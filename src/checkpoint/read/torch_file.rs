//! Files that `torch.save` wrote: that their ends are there, and every part that they name.
//!
//! - F1: the storages' values are never read: a file is looked at in a bounded number of places,
//!   however many bytes it has. A storage whose inner bytes were replaced is not noticed.
//! - F2: `data.pkl`, which says what is in the file, is read whole and compared with its checksum. After
//!   `torch.serialization.set_crc32_options(False)` all checksums of a file are zero: then it must be a
//!   pickle from its first byte to its last.
//! - F3: of the headers and ends of entries, up to [`SAMPLES`] are looked at, over the whole file.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

use super::pickle::{self, Limits, PickleError, Value};
use super::text::nothing_in;
use super::torch_legacy::{self as legacy, Pickles};
use super::zip::{self, End, Entry};
use crate::checkpoint::io::{Io, IoError, Opened};
use crate::checkpoint::thousands;

/// How many entries are looked at (F3).
const SAMPLES: usize = 32;

/// How much of the end of a file is read at once; most directories lie in it.
const TAIL: u64 = 64 << 10;

/// A file that has all its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TorchFile {
    /// Bytes.
    pub size: u64,
    /// When it was last written.
    pub modified: Option<SystemTime>,
    /// Where its `data.pkl` is. `None` in the old form.
    pub data: Option<Range<u64>>,
    /// Whether it has the form from before `PyTorch` 1.6.
    pub is_legacy: bool,
}

/// Whether a file has all that it says it has. The inner error is what is wrong with it, as the end
/// of a sentence about it.
pub fn check(path: &Path, io: &mut Io) -> Result<Result<TorchFile, String>, IoError> {
    let opened = io.open(path)?;
    check_opened(&opened, io)
}

/// As [`check`], for a file that is open.
pub(crate) fn check_opened(
    opened: &Opened,
    io: &mut Io,
) -> Result<Result<TorchFile, String>, IoError> {
    let start = io.read_at(opened, 0, 512)?;
    if let Some(what) = nothing_in(&start) {
        let only = if start.len() as u64 == opened.size { what } else { "begins with zeros" };
        return Ok(Err(only.to_owned()));
    }
    if start.starts_with(b"PK\x03\x04") {
        check_zip(opened, io)
    } else if legacy::is_legacy(&start) {
        check_legacy(opened, io)
    } else if start.len() < 64 {
        Ok(Err("ends before its first part: it was cut off".to_owned()))
    } else {
        Ok(Err("was not written by torch.save".to_owned()))
    }
}

/// A file, and its end.
struct Window<'a> {
    opened: &'a Opened,
    tail_at: u64,
    tail: Vec<u8>,
}

impl Window<'_> {
    /// Exactly so many bytes; fewer only where the file has become shorter.
    fn get(&self, io: &mut Io, at: u64, len: usize) -> Result<Vec<u8>, IoError> {
        let inside = at.checked_sub(self.tail_at).and_then(|at| usize::try_from(at).ok());
        match inside.and_then(|at| self.tail.get(at..at.checked_add(len)?)) {
            Some(bytes) => Ok(bytes.to_vec()),
            None => io.read_at(self.opened, at, len),
        }
    }
}

fn check_zip(opened: &Opened, io: &mut Io) -> Result<Result<TorchFile, String>, IoError> {
    let size = opened.size;
    let tail_at = size.saturating_sub(TAIL);
    let tail = io.read_at(opened, tail_at, usize::try_from(TAIL).expect("64 KiB"))?;
    if tail_at + tail.len() as u64 != size {
        return Ok(Err("became shorter while it was read".to_owned()));
    }
    let end = match zip::end(&tail, size) {
        Ok(end) => end,
        Err(what) => return Ok(Err(what)),
    };
    if end.len > zip::DIRECTORY_BYTES {
        return Err(IoError::TooLarge);
    }
    let window = Window { opened, tail_at, tail };
    let len = usize::try_from(end.len).expect("it is below 32 MiB");
    let directory = window.get(io, end.start, len)?;
    let entries = match zip::entries(&directory, &end) {
        Ok(entries) if zip::are_in_order(&entries, &end) => entries,
        Ok(_) => return Ok(Err("has parts that overlap, or none".to_owned())),
        Err(what) => return Ok(Err(what)),
    };
    Archive { window, end, directory, entries }.check(io)
}

struct Archive<'a> {
    window: Window<'a>,
    end: End,
    directory: Vec<u8>,
    entries: Vec<Entry>,
}

impl Archive<'_> {
    fn name(&self, entry: &Entry) -> &[u8] {
        &self.directory[entry.name.clone()]
    }

    fn shown(&self, entry: &Entry) -> String {
        self.name(entry).escape_ascii().to_string()
    }

    fn check(&self, io: &mut Io) -> Result<Result<TorchFile, String>, IoError> {
        // Python's names have the archive's name first: `archive/data.pkl`.
        let data = self.entries.iter().position(|entry| {
            let name = self.name(entry);
            name.ends_with(b"/data.pkl") && memchr::memchr_iter(b'/', name).count() == 1
        });
        let Some(data) = data else {
            return Ok(Err("has no data.pkl: it was not written by torch.save".to_owned()));
        };
        for sample in self.samples(data) {
            if let Err(what) = self.place(&self.entries[sample], io)? {
                return Ok(Err(what));
            }
        }
        let entry = &self.entries[data];
        let place = match self.place(entry, io)? {
            Ok(place) => place,
            Err(what) => return Ok(Err(what)),
        };
        if let Err(what) = self.check_data(entry, &place, io)? {
            return Ok(Err(what));
        }
        let Opened { size, modified, .. } = self.window.opened;
        let is_plain = entry.is_plain;
        Ok(Ok(TorchFile {
            size: *size,
            modified: *modified,
            data: is_plain.then_some(place),
            is_legacy: false,
        }))
    }

    /// Which entries are looked at: all, or some over the whole file, the first and the last among
    /// them; never the one of `data.pkl`, which is looked at anyway.
    fn samples(&self, data: usize) -> impl Iterator<Item = usize> + use<> {
        let count = self.entries.len();
        let taken = count.min(SAMPLES);
        (0..taken)
            .map(move |at| if taken < 2 { 0 } else { at * (count - 1) / (taken - 1) })
            .filter(move |&at| at != data)
    }

    /// Where an entry's bytes are; the inner error where its header or its end is not there.
    fn place(&self, entry: &Entry, io: &mut Io) -> Result<Result<Range<u64>, String>, IoError> {
        let name = self.name(entry);
        let header = self.window.get(io, entry.header, zip::LOCAL_BYTES + name.len())?;
        let Some(local) = zip::local_len(&header, name) else {
            return Ok(Err(format!("is damaged: {} does not begin in it", self.shown(entry))));
        };
        let start = entry.header + local;
        let end = start.saturating_add(entry.stored);
        let behind = end.saturating_add(entry.descriptor_len());
        let len = usize::try_from(entry.descriptor_len()).expect("24 at most");
        if behind > self.end.start
            || (entry.is_described && !entry.is_described_by(&self.window.get(io, end, len)?))
        {
            return Ok(Err(format!("is damaged: {} does not end in it", self.shown(entry))));
        }
        Ok(Ok(start..end))
    }

    /// F2; and every storage that it names must be there with its size.
    fn check_data(
        &self,
        entry: &Entry,
        place: &Range<u64>,
        io: &mut Io,
    ) -> Result<Result<(), String>, IoError> {
        let limits = Limits::default();
        let len = usize::try_from(entry.stored).unwrap_or(usize::MAX);
        if !entry.is_plain || len > limits.bytes {
            return Ok(Ok(()));
        }
        let bytes = self.window.get(io, place.start, len)?;
        let has_checksums = self.entries.iter().any(|entry| entry.crc != 0);
        let mut crc = flate2::Crc::new();
        crc.update(&bytes);
        if has_checksums && crc.sum() != entry.crc {
            return Ok(Err("is damaged: data.pkl has another checksum".to_owned()));
        }
        match pickle::read_prefix(&bytes, &limits) {
            Ok((_, used)) if !has_checksums && used != bytes.len() => {
                let error = PickleError::Trailing(used);
                Ok(Err(format!("is damaged: data.pkl {error}")))
            }
            Ok((value, _)) => Ok(self.check_storages(entry, &value)),
            // It may be right in a way that is not known here.
            Err(PickleError::TooLarge) => Ok(Ok(())),
            // So may this be; its bytes are, where a checksum says so.
            Err(PickleError::Outside(_)) if has_checksums => Ok(Ok(())),
            Err(error) => Ok(Err(format!("is damaged: data.pkl {error}"))),
        }
    }

    fn check_storages(&self, data: &Entry, value: &Value) -> Result<(), String> {
        let name = self.name(data);
        let root = &name[..name.len() - b"data.pkl".len()];
        let is_storage = |entry: &&Entry| self.name(entry).strip_prefix(root).is_some();
        let sizes: HashMap<&[u8], &Entry> = self
            .entries
            .iter()
            .filter(is_storage)
            .map(|entry| (&self.name(entry)[root.len()..], entry))
            .collect();
        for id in value.all_persistent() {
            let Some((key, storage)) = legacy::storage(&id) else { continue };
            let Some(entry) = sizes.get(format!("data/{key}").as_bytes()) else {
                return Err(format!("is damaged: data/{} is missing in it", key.escape_debug()));
            };
            let needed = storage.map(legacy::Storage::bytes).filter(|_| entry.is_plain);
            if let Some(needed) = needed.filter(|&needed| needed != entry.stored) {
                return Err(format!(
                    "is damaged: data/{} is {} bytes in it, its data.pkl needs {}",
                    key.escape_debug(),
                    thousands(entry.stored),
                    thousands(needed)
                ));
            }
        }
        Ok(())
    }
}

/// What the old form's pickles say, from as many bytes as they need.
fn read_legacy(opened: &Opened, io: &mut Io) -> Result<Result<Pickles, PickleError>, IoError> {
    let limits = Limits::default();
    let mut len = 256 << 10;
    loop {
        let bytes = io.read_at(opened, 0, len)?;
        let is_all = bytes.len() as u64 == opened.size;
        match legacy::pickles(&bytes, &limits) {
            Err(PickleError::Short) if !is_all && bytes.len() < len => {
                return Ok(Err(PickleError::Short));
            }
            Err(PickleError::Short) if !is_all && len >= limits.bytes => {
                return Ok(Err(PickleError::TooLarge));
            }
            Err(PickleError::Short) if !is_all => len = (4 * len).min(limits.bytes),
            pickles => return Ok(pickles),
        }
    }
}

fn check_legacy(opened: &Opened, io: &mut Io) -> Result<Result<TorchFile, String>, IoError> {
    let unproven = "is in the old form of torch.save, and where it must end cannot be told";
    let pickles = match read_legacy(opened, io)? {
        Ok(pickles) => pickles,
        Err(PickleError::Short) => {
            return Ok(Err("ends before its tensors: it was cut off".to_owned()));
        }
        Err(PickleError::TooLarge | PickleError::Outside(_)) => {
            return Ok(Err(unproven.to_owned()));
        }
        Err(error) => return Ok(Err(format!("is damaged: its pickle {error}"))),
    };
    let Some((counts, end)) = legacy::storages(&pickles) else {
        return Ok(Err(unproven.to_owned()));
    };
    if end != opened.size {
        let (size, end) = (thousands(opened.size), thousands(end));
        return Ok(Err(format!("is {size} bytes, its tensors need {end}")));
    }
    let step = counts.len().div_ceil(SAMPLES).max(1);
    for (at, count) in counts.iter().step_by(step).chain(counts.last()) {
        if io.read_at(opened, *at, 8)? != count.to_le_bytes() {
            return Ok(Err(format!("is damaged: no tensor begins at its byte {at}")));
        }
    }
    Ok(Ok(TorchFile { size: opened.size, modified: opened.modified, data: None, is_legacy: true }))
}

/// What is pickled in a file that [`check`] found whole: its `data.pkl`, or the old form's object.
/// `None` where it is larger than is read here.
pub fn load(path: &Path, file: &TorchFile, io: &mut Io) -> Result<Option<Value>, IoError> {
    let opened = io.open(path)?;
    load_opened(&opened, file, io)
}

/// As [`load`], for a file that is open.
pub(crate) fn load_opened(
    opened: &Opened,
    file: &TorchFile,
    io: &mut Io,
) -> Result<Option<Value>, IoError> {
    if file.is_legacy {
        return Ok(read_legacy(opened, io)?.ok().map(|pickles| pickles.object));
    }
    let Some(place) = &file.data else { return Ok(None) };
    let limits = Limits::default();
    let len = usize::try_from(place.end - place.start).unwrap_or(usize::MAX);
    if len > limits.bytes {
        return Ok(None);
    }
    let bytes = io.read_at(opened, place.start, len)?;
    Ok(pickle::read_prefix(&bytes, &limits).ok().map(|(value, _)| value))
}

/// The number that a whole small file of `torch.save` holds, itself or as a tensor of one element.
pub(crate) fn number_in(bytes: &[u8]) -> Option<u64> {
    let size = bytes.len() as u64;
    let end = zip::end(bytes, size).ok()?;
    let place = |start: u64, len: u64| {
        let end = usize::try_from(start.checked_add(len)?).ok()?;
        bytes.get(usize::try_from(start).ok()?..end)
    };
    let directory = place(end.start, end.len)?;
    let entries = zip::entries(directory, &end).ok()?;
    let part = |suffix: &str| {
        let name = |entry: &&Entry| directory[entry.name.clone()].ends_with(suffix.as_bytes());
        let entry = entries.iter().find(name).filter(|entry| entry.is_plain)?;
        let header = bytes.get(usize::try_from(entry.header).ok()?..)?;
        let local = zip::local_len(header, &directory[entry.name.clone()])?;
        place(entry.header.checked_add(local)?, entry.stored)
    };
    let (value, _) = pickle::read_prefix(part("/data.pkl")?, &Limits::default()).ok()?;
    if let Some(number) = value.as_u64() {
        return Some(number);
    }
    // `_rebuild_tensor_v2(storage, 0, (), …)`
    let storage = value.args()?.at(0)?.persistent()?;
    let class = storage.at(1)?;
    let (key, _) = legacy::storage(&storage)?;
    let bytes = part(&format!("/data/{key}"))?;
    let number = match (&*class.as_global()?.1, bytes.len()) {
        ("LongStorage", 8) => i64::from_le_bytes(bytes.try_into().ok()?),
        ("IntStorage", 4) => i64::from(i32::from_le_bytes(bytes.try_into().ok()?)),
        _ => return None,
    };
    u64::try_from(number).ok()
}

#[cfg(test)]
#[path = "torch_file_tests.rs"]
mod tests;
