//! Unpacks `.xz` files within bounds that the decoder itself does not have: it keeps all of its
//! output in memory until the end, however much that is.
//!
//! - X1: the container is read here, and the decoder is fed chunk by chunk: before each, size and
//!   time are looked at, and where there is too much the decoder is told that the data ended.
//! - X2: checksums are not verified; who reads the output finds out whether it makes sense.

use std::io::{self, BufRead, Read};
use std::time::Instant;

const MAGIC: &[u8] = b"\xfd7zXZ\0";
const STREAM_HEADER: usize = 12;
/// The number of the only filter that module files have.
const LZMA2: u8 = 0x21;
/// Reads between two looks at the clock; a chunk has 64 kilobytes at most.
const READS_PER_LOOK: u32 = 4_096;

/// What came out.
#[derive(Debug, PartialEq, Eq)]
pub struct Output {
    /// The bytes, those that there was time for.
    pub bytes: Vec<u8>,
    /// Whether these are all.
    pub is_whole: bool,
}

/// Unpacks `packed` until about `max` bytes (and one chunk, two megabytes) came out, or `until`.
pub fn unpack(packed: &[u8], max: usize, until: Instant) -> io::Result<Output> {
    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let flags = packed.get(7).filter(|_| packed.starts_with(MAGIC)).ok_or_else(cut)?;
    let check = match flags & 0xf {
        0 => 0,
        1..=3 => 4,
        4..=6 => 8,
        7..=9 => 16,
        10..=12 => 32,
        _ => 64,
    };
    let mut output = Output { bytes: Vec::new(), is_whole: true };
    let mut at = STREAM_HEADER;
    // A size of zero is the index, which ends the blocks.
    loop {
        let size = *packed.get(at).ok_or_else(cut)?;
        if size == 0 {
            return Ok(output);
        }
        let header = (usize::from(size) + 1) * 4;
        if filter(packed.get(at..at + header).ok_or_else(cut)?) != Some(LZMA2) {
            return Err(io::Error::other("it has a filter that no module has"));
        }
        let start = at + header;
        let data = packed.get(start..).ok_or_else(cut)?;
        let left = max.saturating_sub(output.bytes.len());
        let mut chunks = Chunks::new(data, left, until);
        lzma_rs::lzma2_decompress(&mut chunks, &mut output.bytes).map_err(|error| match error {
            lzma_rs::error::Error::IoError(error) => error,
            error => io::Error::other(format!("{error:?}")),
        })?;
        if chunks.is_ended {
            output.is_whole = false;
            return Ok(output);
        }
        at = (start + chunks.at).next_multiple_of(4) + check;
    }
}

/// The only filter of a block, by its header.
fn filter(header: &[u8]) -> Option<u8> {
    let flags = *header.get(1)?;
    if flags & 3 != 0 {
        return None;
    }
    let mut at = 2;
    // The sizes before and after unpacking are there if their flags are: seven bits a byte.
    for _ in 0..(flags & 0xc0).count_ones() {
        at += header.get(at..)?.iter().position(|byte| byte & 0x80 == 0)? + 1;
    }
    header.get(at).copied()
}

/// The chunks of a block, as the decoder reads them (X1).
struct Chunks<'a> {
    data: &'a [u8],
    at: usize,
    /// Where the next chunk starts.
    next: usize,
    /// Bytes that may still come out.
    left: usize,
    until: Instant,
    reads: u32,
    is_ended: bool,
}

impl<'a> Chunks<'a> {
    fn new(data: &'a [u8], left: usize, until: Instant) -> Self {
        Self { data, at: 0, next: 0, left, until, reads: 0, is_ended: false }
    }

    /// Looks at the chunk that starts here, or ends the data before it.
    fn start_chunk(&mut self) {
        let number = |at: usize| {
            let two = self.data.get(self.at + at..self.at + at + 2)?;
            Some(usize::from(u16::from_be_bytes([two[0], two[1]])) + 1)
        };
        let control = self.data.get(self.at).copied().unwrap_or(0);
        // What makes no sense is for the decoder to refuse.
        let (header, packed, unpacked) = match control {
            0 => (1, 0, 0),
            1 | 2 => (3, number(1).unwrap_or(0), number(1).unwrap_or(0)),
            _ => {
                let high = usize::from(control & 0x1f) << 16;
                let properties = usize::from(control >= 0xc0);
                (5 + properties, number(3).unwrap_or(0), high + number(1).unwrap_or(0))
            }
        };
        self.is_ended = control != 0 && (unpacked > self.left || Instant::now() >= self.until);
        self.left = self.left.saturating_sub(unpacked);
        self.next = self.at.saturating_add(header + packed).min(self.data.len());
    }
}

impl BufRead for Chunks<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        // A hostile file may hide chunks within chunks.
        self.reads = self.reads.wrapping_add(1);
        if self.reads.is_multiple_of(READS_PER_LOOK) && Instant::now() >= self.until {
            return Err(io::Error::other("it takes too long"));
        }
        if self.at >= self.next && !self.is_ended {
            self.start_chunk();
        }
        if self.is_ended {
            return Ok(&[0]);
        }
        Ok(&self.data[self.at.min(self.next)..self.next])
    }

    fn consume(&mut self, count: usize) {
        if !self.is_ended {
            self.at += count;
        }
    }
}

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pack(mut bytes: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        lzma_rs::xz_compress(&mut bytes, &mut packed).expect("in memory");
        packed
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// Five million zeros, as `xz --check=crc32 --lzma2=dict=1MiB` packs them: three chunks.
    const ZEROS: &[u8] = include_bytes!("tests/zeros.xz");

    /// One block of one byte and `count` chunks of 65536 that are not compressed.
    fn plain(count: usize) -> Vec<u8> {
        let mut data = vec![1, 0, 0, 0];
        for _ in 0..count {
            data.extend_from_slice(&[2, 0xff, 0xff]);
            data.resize(data.len() + 65_536, 0);
        }
        data.push(0);
        let header = [2, 0, LZMA2, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let stream = [MAGIC, &[0, 0, 0, 0, 0, 0], &header[..], &data[..]].concat();
        [stream, vec![0; 32]].concat()
    }

    #[test]
    fn what_was_packed_comes_out() {
        let text: Vec<u8> = (0..300_000_u32).flat_map(|at| (at / 7).to_le_bytes()).collect();
        let whole = Output { bytes: text.clone(), is_whole: true };
        assert_eq!(unpack(&pack(&text), 9_999_999, later()).expect("packed"), whole);
    }

    #[test]
    fn size_and_time_have_an_end() {
        let whole = unpack(&plain(20), 20 * 65_536 + 1, later()).expect("packed");
        assert_eq!((whole.bytes.len(), whole.is_whole), (20 * 65_536 + 1, true));
        let cut = unpack(&plain(20), 3 * 65_536 + 1, later()).expect("packed");
        assert_eq!((cut.bytes.len(), cut.is_whole), (3 * 65_536 + 1, false));
        let zeros = unpack(ZEROS, 5_000_000, later()).expect("packed");
        assert!(zeros.is_whole && zeros.bytes == vec![0; 5_000_000]);
        let cut = unpack(ZEROS, 4_999_999, later()).expect("packed");
        // All but the last chunk.
        assert!(!cut.is_whole && (4_000_000..4_999_999).contains(&cut.bytes.len()));
        let late = unpack(&plain(20), usize::MAX, Instant::now()).expect("packed");
        assert_eq!(late, Output { bytes: Vec::new(), is_whole: false });
    }

    #[test]
    fn damage_is_no_panic() {
        let good = [pack(b"some text, some more text, some text"), plain(1), ZEROS.to_vec()];
        for packed in good {
            for at in 0..packed.len().min(300) {
                for value in [0, 0x80, 0xff] {
                    let mut changed = packed.clone();
                    changed[at] = value;
                    let _ = unpack(&changed, 1 << 20, later());
                }
                let _ = unpack(&packed[..at], 1 << 20, later());
            }
        }
    }
}
