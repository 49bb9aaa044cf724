//! Replies, and the bytes that a client has not read yet.
//!
//! A small reply is copied; a large value is shared with the store, so that a thousand ranks may
//! fetch it at once.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use crate::store::limits::Refused;

/// Says that a wait is over, or (for `CHECK`) that all keys exist.
pub const READY: u8 = 0;
/// Answers `CANCEL_WAIT`, or says (for `CHECK`) that a key is missing.
pub const NOT_READY: u8 = 1;

/// Pieces of one write.
const SLICES: usize = 16;
/// A piece is not copied into beyond this size, so that growing it stays cheap.
const PIECE: usize = 64 * 1024;
/// What is kept of an emptied buffer for the next reply.
const SPARE: usize = 1024;

#[derive(Debug)]
enum Piece {
    Own(Vec<u8>),
    Shared(Arc<Vec<u8>>),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// Bytes on their way to one client.
#[derive(Debug, Default)]
pub struct Output {
    pieces: VecDeque<Piece>,
    /// How much of the first piece is sent.
    sent: usize,
    len: usize,
    own: usize,
    limit: usize,
}

impl Output {
    /// Holds up to `limit` bytes; see [`Output::check`].
    pub fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Bytes that are not sent yet.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether all is sent.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Those of [`Output::len`] that no stored value holds anyway.
    pub fn own_len(&self) -> usize {
        self.own
    }

    /// An error when there is more than the limit.
    pub fn check(&self) -> Result<(), Refused> {
        if self.len > self.limit { Err(Refused::ReadsTooLittle(self.limit)) } else { Ok(()) }
    }

    /// One byte.
    pub fn byte(&mut self, byte: u8) {
        self.bytes(&[byte]);
    }

    /// A number.
    pub fn number(&mut self, number: i64) {
        self.bytes(&number.to_le_bytes());
    }

    /// A length and bytes.
    pub fn string(&mut self, bytes: &[u8]) {
        self.bytes(&(bytes.len() as u64).to_le_bytes());
        self.bytes(bytes);
    }

    /// The same without a copy.
    pub fn shared_string(&mut self, bytes: &Arc<Vec<u8>>) {
        self.bytes(&(bytes.len() as u64).to_le_bytes());
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.pieces.push_back(Piece::Shared(Arc::clone(bytes)));
        }
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.len += bytes.len();
        self.own += bytes.len();
        match self.pieces.back_mut() {
            Some(Piece::Own(last)) if last.len() < PIECE => last.extend_from_slice(bytes),
            _ => self.pieces.push_back(Piece::Own(bytes.to_vec())),
        }
    }

    /// What to send next, in pieces; none when all is sent.
    pub fn slices(&self) -> ([IoSlice<'_>; SLICES], usize) {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        let mut skip = self.sent;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(&piece.bytes()[skip..]);
            skip = 0;
            count += 1;
        }
        (slices, count)
    }

    /// So many bytes were sent.
    pub fn advance(&mut self, mut sent: usize) {
        self.len -= sent;
        while sent > 0 {
            let first = self.pieces.front_mut().expect("no more is sent than there is");
            let left = first.bytes().len() - self.sent;
            let now = left.min(sent);
            if matches!(first, Piece::Own(_)) {
                self.own -= now;
            }
            sent -= now;
            if now < left {
                self.sent += now;
                return;
            }
            self.sent = 0;
            match first {
                Piece::Own(bytes) if self.len == 0 && sent == 0 && bytes.capacity() <= SPARE => {
                    bytes.clear();
                }
                _ => drop(self.pieces.pop_front()),
            }
        }
    }
}

#[cfg(any(test, fuzzing))]
impl Output {
    /// All of it in one piece.
    pub fn copy(&self) -> Vec<u8> {
        let mut all: Vec<u8> =
            self.pieces.iter().flat_map(|piece| piece.bytes().iter().copied()).collect();
        all.drain(..self.sent);
        all
    }

    /// The same, and it is sent.
    pub fn drain(&mut self) -> Vec<u8> {
        let all = self.copy();
        self.advance(self.len);
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn replies_are_little_endian() {
        let mut output = Output::new(100);
        output.byte(READY);
        output.number(-2);
        output.string(b"ab");
        output.shared_string(&Arc::new(b"cd".to_vec()));
        output.string(b"");
        assert_eq!(output.len(), 1 + 8 + 10 + 10 + 8);
        assert_eq!(output.own_len(), output.len() - 2);
        assert_eq!(
            output.drain(),
            b"\0\xfe\xff\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\0\0\0ab\x02\0\0\0\0\0\0\0cd\0\0\0\0\0\0\0\0"
        );
        assert!(output.is_empty() && output.own_len() == 0);
    }

    #[test]
    fn a_limit_is_told() {
        let mut output = Output::new(8);
        output.number(1);
        assert_eq!(output.check(), Ok(()));
        output.byte(1);
        assert_eq!(output.check(), Err(Refused::ReadsTooLittle(8)));
    }

    proptest! {
        /// However a client reads, it gets the same bytes.
        #[test]
        fn bytes_leave_in_order(
            pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..300)), 0..60),
            steps in prop::collection::vec(1usize..400, 1..50),
        ) {
            let mut output = Output::new(usize::MAX);
            let mut expected = Vec::new();
            let mut read = Vec::new();
            let mut steps = steps.into_iter().cycle();
            let mut take = |output: &mut Output| {
                let (slices, count) = output.slices();
                let next: Vec<u8> = slices[..count].iter().flat_map(|s| s.iter().copied()).collect();
                let n = steps.next().unwrap().min(next.len());
                output.advance(n);
                next[..n].to_vec()
            };
            for (shared, bytes) in pieces {
                expected.extend((bytes.len() as u64).to_le_bytes());
                expected.extend(&bytes);
                if shared {
                    output.shared_string(&Arc::new(bytes));
                } else {
                    output.string(&bytes);
                }
                read.extend(take(&mut output));
                prop_assert_eq!(output.len(), expected.len() - read.len());
            }
            while !output.is_empty() {
                read.extend(take(&mut output));
            }
            prop_assert_eq!(read, expected);
            prop_assert_eq!(output.own_len(), 0);
        }
    }
}
