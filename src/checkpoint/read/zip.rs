//! The directory of a zip file, as `torch.save` writes it: entries stored as they are, one behind
//! the other, and at the very end the directory and its end record, without a comment.
//!
//! Source: PKWARE's APPNOTE 6.3, sections 4.3 and 4.5; `caffe2/serialize/inline_container.cc` for
//! what `torch.save` makes of it. Pure: bytes in, places out.

use std::ops::Range;

/// The longest directory that is read: some 400,000 tensors.
pub(super) const DIRECTORY_BYTES: u64 = 32 << 20;

/// Bytes of a local header before the entry's name.
pub(super) const LOCAL_BYTES: usize = 30;

const END: &[u8] = b"PK\x05\x06";
const END_BYTES: u64 = 22;
const LOCATOR: &[u8] = b"PK\x06\x07";
const LOCATOR_BYTES: u64 = 20;
const END64: &[u8] = b"PK\x06\x06";
const END64_BYTES: u64 = 56;
const CENTRAL: &[u8] = b"PK\x01\x02";
const CENTRAL_BYTES: usize = 46;
const LOCAL: &[u8] = b"PK\x03\x04";
const DESCRIPTOR: &[u8] = b"PK\x07\x08";

/// The most bytes at the end of a file that [`end`] looks at.
pub(super) const TAIL_BYTES: u64 = END_BYTES + LOCATOR_BYTES + END64_BYTES;

/// Where the directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub start: u64,
    pub len: u64,
    pub entries: u64,
}

/// One entry of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The place of its name in the directory's bytes.
    pub name: Range<usize>,
    /// Where its local header begins.
    pub header: u64,
    /// Bytes as they lie in the file.
    pub stored: u64,
    pub crc: u32,
    pub is_plain: bool,
    /// Whether its sizes are written once more behind it.
    pub is_described: bool,
    /// Whether these sizes have eight bytes each.
    pub is_large: bool,
}

impl Entry {
    /// Bytes of what is written behind it.
    pub(super) fn descriptor_len(&self) -> u64 {
        match (self.is_described, self.is_large) {
            (false, _) => 0,
            (true, false) => 16,
            (true, true) => 24,
        }
    }

    /// Whether these bytes stand behind it.
    pub(super) fn is_described_by(&self, bytes: &[u8]) -> bool {
        let Some(rest) = bytes.strip_prefix(DESCRIPTOR) else { return false };
        let stored = if self.is_large { number::<8>(rest, 4) } else { number::<4>(rest, 4) };
        number::<4>(rest, 0) == Some(u64::from(self.crc)) && stored == Some(self.stored)
    }
}

/// How long the local header is, where these bytes are one for an entry of this name.
pub(super) fn local_len(bytes: &[u8], name: &[u8]) -> Option<u64> {
    let (name_len, extra_len) = (number::<2>(bytes, 26)?, number::<2>(bytes, 28)?);
    let is_ours = bytes.starts_with(LOCAL)
        && name_len == name.len() as u64
        && bytes.get(LOCAL_BYTES..LOCAL_BYTES + name.len())? == name;
    is_ours.then_some(LOCAL_BYTES as u64 + name_len + extra_len)
}

/// A little-endian number of `N` bytes.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + N)?;
    Some(bytes.iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte)))
}

/// Where the directory is, from the last bytes of a file of `size` bytes.
pub(super) fn end(tail: &[u8], size: u64) -> Result<End, String> {
    let missing = || "has no end record: it was cut off".to_owned();
    let damaged = || "has a damaged end record".to_owned();
    // Where a part that is so far from the end begins in `tail`.
    let from_end = |distance: u64| {
        let distance = usize::try_from(distance).ok()?;
        tail.len().checked_sub(distance)
    };
    let at = from_end(END_BYTES).ok_or_else(missing)?;
    let record = &tail[at..];
    if !record.starts_with(END) || number::<2>(record, 20) != Some(0) {
        return Err(missing());
    }
    let field = |record: &[u8], at, wide| {
        let value = if wide { number::<8>(record, at) } else { number::<4>(record, at) };
        value.ok_or_else(damaged)
    };
    let mut found = End {
        entries: number::<2>(record, 10).ok_or_else(damaged)?,
        len: field(record, 12, false)?,
        start: field(record, 16, false)?,
    };
    let mut behind = size - END_BYTES;
    let locator = from_end(END_BYTES + LOCATOR_BYTES).map(|at| &tail[at..]);
    if let Some(locator) = locator.filter(|locator| locator.starts_with(LOCATOR)) {
        let at = from_end(TAIL_BYTES).ok_or_else(damaged)?;
        let record = &tail[at..];
        behind = size - TAIL_BYTES;
        if field(locator, 8, true)? != behind || !record.starts_with(END64) {
            return Err(damaged());
        }
        let wide = End {
            entries: field(record, 32, true)?,
            len: field(record, 40, true)?,
            start: field(record, 48, true)?,
        };
        // The short record has the same numbers, as far as they fit.
        let agrees = |short: u64, wide: u64, all: u64| short == all || short == wide;
        if !agrees(found.entries, wide.entries, 0xffff)
            || !agrees(found.len, wide.len, 0xffff_ffff)
            || !agrees(found.start, wide.start, 0xffff_ffff)
        {
            return Err(damaged());
        }
        found = wide;
    }
    // The directory lies right before its end, and an entry takes 46 bytes at least.
    let is_right = found.start.checked_add(found.len) == Some(behind)
        && found.entries <= found.len / CENTRAL_BYTES as u64;
    if is_right { Ok(found) } else { Err(damaged()) }
}

/// The entries of a directory, in its order.
pub(super) fn entries(directory: &[u8], end: &End) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let mut at = 0;
    for _ in 0..end.entries {
        let entry = entry(directory, &mut at).ok_or("has a damaged directory at its end")?;
        entries.push(entry);
    }
    if at != directory.len() {
        return Err("has a damaged directory at its end".to_owned());
    }
    Ok(entries)
}

fn entry(directory: &[u8], at: &mut usize) -> Option<Entry> {
    const ALL: u64 = 0xffff_ffff;
    let record = directory.get(*at..).filter(|record| record.starts_with(CENTRAL))?;
    let len = |at| number::<2>(record, at).and_then(|len| usize::try_from(len).ok());
    let (name_len, extra_len, comment_len) = (len(28)?, len(30)?, len(32)?);
    let name = *at + CENTRAL_BYTES..*at + CENTRAL_BYTES + name_len;
    let extra = CENTRAL_BYTES + name_len..CENTRAL_BYTES + name_len + extra_len;
    let extra = record.get(extra)?;
    let next = *at + CENTRAL_BYTES + name_len + extra_len + comment_len;
    if next > directory.len() {
        return None;
    }
    let mut wide = wide_fields(extra);
    let mut field = |at| match number::<4>(record, at)? {
        ALL => {
            let value = number::<8>(wide, 0)?;
            wide = &wide[8..];
            Some((value, true))
        }
        value => Some((value, false)),
    };
    // In this order they stand in the extra field too.
    let ((_, plain_large), (stored, large), (header, _)) = (field(24)?, field(20)?, field(42)?);
    let entry = Entry {
        name,
        header,
        stored,
        crc: u32::try_from(number::<4>(record, 16)?).ok()?,
        is_plain: number::<2>(record, 10)? == 0,
        is_described: number::<2>(record, 8)? & 8 != 0,
        is_large: plain_large || large,
    };
    *at = next;
    Some(entry)
}

/// The extra field of numbers that four bytes do not hold; empty where there is none.
fn wide_fields(mut extra: &[u8]) -> &[u8] {
    while let (Some(id), Some(len)) = (number::<2>(extra, 0), number::<2>(extra, 2)) {
        let len = usize::try_from(len).expect("two bytes");
        let Some(field) = extra.get(4..4 + len) else { break };
        if id == 1 {
            return field;
        }
        extra = &extra[4 + len..];
    }
    &[]
}

/// Whether the entries follow each other before the directory, the first at the start of the file.
pub(super) fn are_in_order(entries: &[Entry], end: &End) -> bool {
    let mut places: Vec<(u64, u64)> = entries
        .iter()
        .map(|entry| {
            let bytes = LOCAL_BYTES as u64 + entry.name.len() as u64 + entry.descriptor_len();
            (entry.header, bytes.saturating_add(entry.stored))
        })
        .collect();
    places.sort_unstable();
    let mut free = 0;
    for &(start, len) in &places {
        if start < free {
            return false;
        }
        free = start.saturating_add(len);
    }
    places.first().is_none_or(|&(start, _)| start == 0) && free <= end.start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other() {
        let entry = |header, stored| Entry {
            name: 0..10,
            header,
            stored,
            crc: 0,
            is_plain: true,
            is_described: true,
            is_large: false,
        };
        // A local header takes 30 bytes and the name, what stands behind an entry 16.
        for (places, start, expected) in [
            (&[(0, 4), (60, 100)][..], 216, true),
            (&[(60, 100), (0, 4)], 216, true),
            (&[(0, 5), (60, 100)], 216, false),
            (&[(0, 4), (60, 100)], 215, false),
            (&[(1, 4)], 100, false),
            (&[(0, u64::MAX), (60, 1)], 1000, false),
            (&[], 0, true),
        ] {
            let entries: Vec<Entry> = places.iter().map(|&(at, len)| entry(at, len)).collect();
            let end = End { start, len: 0, entries: entries.len() as u64 };
            assert_eq!(are_in_order(&entries, &end), expected, "{places:?} {start}");
        }
    }
}
