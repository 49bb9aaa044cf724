//! Splits a rank's bytes into lines, whatever the chunks they come in.
//!
//! Bytes pass through as they are: nothing here knows about character sets. A piece that lies
//! inside one chunk is lent from it without a copy; only the unfinished end of a chunk is kept.
//!
//! - P1: `\n` ends a line; so does `\r\n`, once. A `\r` alone ends a progress update.
//! - P2: a line longer than [`MAX_LINE`] is given out in pieces of that size, so that memory stays
//!   bounded however long the line is. Where the pieces are cut does not depend on the chunks.
//! - P3: the pieces with their ends, put together, are the input (`\r\n` counts as one end).

use memchr::memchr2;

/// The most bytes kept for a line that has not ended.
pub const MAX_LINE: usize = 64 * 1024;

/// A buffer larger than this is given back once its line has ended.
const KEPT_CAPACITY: usize = 8 * 1024;

/// What ended a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `\n` or `\r\n`.
    Newline,
    /// A `\r` that no `\n` follows: what comes next overwrites this piece on a terminal.
    Return,
    /// Nothing: the line goes on in the next piece (P2).
    Cut,
    /// The end of the stream.
    Eof,
}

/// The state between two chunks of one stream.
#[derive(Debug, Default)]
pub struct Splitter {
    partial: Vec<u8>,
    /// The last chunk ended with `\r`: whether that is `\r\n` is not known yet.
    held_return: bool,
    after_return: bool,
}

impl Splitter {
    /// Takes the next bytes and gives out every piece that they complete.
    pub fn feed(&mut self, chunk: &[u8], mut sink: impl FnMut(&[u8], End)) {
        let mut rest = chunk;
        if self.held_return {
            let Some(&first) = rest.first() else { return };
            self.held_return = false;
            if first == b'\n' {
                self.give(&[], End::Newline, &mut sink);
                rest = &rest[1..];
            } else {
                self.give(&[], End::Return, &mut sink);
            }
        }
        while let Some(at) = memchr2(b'\n', b'\r', rest) {
            let (line, ending) = rest.split_at(at);
            let (end, length) = match ending {
                [b'\n', ..] => (End::Newline, 1),
                [b'\r', b'\n', ..] => (End::Newline, 2),
                [_, _, ..] => (End::Return, 1),
                _ => {
                    self.hold(line, &mut sink);
                    self.held_return = true;
                    return;
                }
            };
            self.give(line, end, &mut sink);
            rest = &ending[length..];
        }
        self.hold(rest, &mut sink);
    }

    /// Gives out what is left when the stream has ended.
    pub fn finish(&mut self, mut sink: impl FnMut(&[u8], End)) {
        if std::mem::take(&mut self.held_return) {
            self.give(&[], End::Return, &mut sink);
        } else if !self.partial.is_empty() {
            self.give(&[], End::Eof, &mut sink);
        }
    }

    /// The bytes of the line that has not ended.
    pub fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// Whether the unfinished line overwrites what stands before it (its last end was a `\r`).
    pub fn is_progress(&self) -> bool {
        self.after_return || self.held_return
    }

    fn give(&mut self, line: &[u8], end: End, sink: &mut impl FnMut(&[u8], End)) {
        self.after_return = end == End::Return;
        if self.partial.is_empty() {
            let mut line = line;
            while line.len() > MAX_LINE {
                sink(&line[..MAX_LINE], End::Cut);
                line = &line[MAX_LINE..];
            }
            sink(line, end);
            return;
        }
        self.hold(line, sink);
        sink(&self.partial, end);
        if self.partial.capacity() > KEPT_CAPACITY {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
        }
    }

    fn hold(&mut self, line: &[u8], sink: &mut impl FnMut(&[u8], End)) {
        let mut line = line;
        loop {
            let room = MAX_LINE - self.partial.len();
            if line.len() <= room {
                self.partial.extend_from_slice(line);
                return;
            }
            let (head, tail) = line.split_at(room);
            if self.partial.is_empty() {
                sink(head, End::Cut);
            } else {
                self.partial.extend_from_slice(head);
                sink(&self.partial, End::Cut);
                self.partial.clear();
            }
            line = tail;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<(Vec<u8>, End)> {
        let mut splitter = Splitter::default();
        let mut pieces = Vec::new();
        for chunk in chunks {
            splitter.feed(chunk, |bytes, end| pieces.push((bytes.to_vec(), end)));
        }
        splitter.finish(|bytes, end| pieces.push((bytes.to_vec(), end)));
        pieces
    }

    fn piece(text: &str, end: End) -> (Vec<u8>, End) {
        (text.as_bytes().to_vec(), end)
    }

    #[test]
    fn table() {
        use End::{Eof, Newline, Return};
        type Row = (&'static [&'static str], &'static [(&'static str, End)]);
        let table: &[Row] = &[
            (&[""], &[]),
            (&["a\nb\n"], &[("a", Newline), ("b", Newline)]),
            (&["a", "b", "c\nd"], &[("abc", Newline), ("d", Eof)]),
            (&["\n\n"], &[("", Newline), ("", Newline)]),
            (&["a\r\nb"], &[("a", Newline), ("b", Eof)]),
            (&["a\r", "\nb"], &[("a", Newline), ("b", Eof)]),
            (&["a\r", "", "b"], &[("a", Return), ("b", Eof)]),
            (&["1%\r2%\r"], &[("1%", Return), ("2%", Return)]),
            (&["\r1%", "\r2%\n"], &[("", Return), ("1%", Return), ("2%", Newline)]),
            (&["a\r\r\n"], &[("a", Return), ("", Newline)]),
        ];
        for (chunks, expected) in table {
            let chunks: Vec<&[u8]> = chunks.iter().map(|c| c.as_bytes()).collect();
            let expected: Vec<_> = expected.iter().map(|(t, e)| piece(t, *e)).collect();
            assert_eq!(split(&chunks), expected, "{chunks:?}");
        }
    }

    #[test]
    fn a_long_line_comes_in_pieces_and_memory_is_bounded() {
        let mut splitter = Splitter::default();
        let chunk = vec![b'x'; 1_000_003];
        let (mut total, mut longest) = (0, 0);
        for _ in 0..100 {
            splitter.feed(&chunk, |bytes, end| {
                assert_eq!(end, End::Cut);
                total += bytes.len();
                longest = longest.max(bytes.len());
            });
            assert!(splitter.partial.capacity() <= 2 * MAX_LINE);
        }
        splitter.finish(|bytes, end| {
            assert_eq!(end, End::Eof);
            total += bytes.len();
        });
        assert_eq!((total, longest), (100 * chunk.len(), MAX_LINE));
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_one_piece() {
        let line = "x".repeat(MAX_LINE);
        let whole = format!("{line}\n");
        assert_eq!(split(&[whole.as_bytes()]), [piece(&line, End::Newline)]);
        assert_eq!(split(&[line.as_bytes(), b"\r", b"\n"]), [piece(&line, End::Newline)]);
    }

    #[test]
    fn the_end_of_a_chunk_shows_whether_it_is_progress() {
        let mut splitter = Splitter::default();
        splitter.feed(b"\r 5%", |_, _| ());
        assert_eq!((splitter.partial(), splitter.is_progress()), (&b" 5%"[..], true));
        splitter.feed(b"\nplain", |_, _| ());
        assert_eq!((splitter.partial(), splitter.is_progress()), (&b"plain"[..], false));
        splitter.feed(b"\r", |_, _| ());
        assert!(splitter.is_progress());
    }

    /// Bytes with many line ends, long runs, and invalid UTF-8.
    fn input() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            4 => Just(b"\n".to_vec()),
            3 => Just(b"\r".to_vec()),
            2 => Just(b"\r\n".to_vec()),
            4 => prop::collection::vec(any::<u8>(), 0..9),
            1 => (MAX_LINE - 2..MAX_LINE + 3).prop_map(|n| vec![b'x'; n]),
        ];
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn chunks_do_not_matter_and_no_byte_is_lost(
            input in input(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let whole = split(&[&input]);
            let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(input.len() + 1)).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts {
                chunks.push(&input[from..cut]);
                from = cut;
            }
            chunks.push(&input[from..]);
            prop_assert_eq!(&split(&chunks), &whole);

            let mut again = Vec::new();
            for (bytes, end) in &whole {
                prop_assert!(bytes.len() <= MAX_LINE);
                again.extend_from_slice(bytes);
                match end {
                    End::Newline => again.push(b'\n'),
                    End::Return => again.push(b'\r'),
                    End::Cut | End::Eof => {}
                }
            }
            let mut expected = Vec::new();
            for (i, &byte) in input.iter().enumerate() {
                if !(byte == b'\r' && input.get(i + 1) == Some(&b'\n')) {
                    expected.push(byte);
                }
            }
            prop_assert_eq!(again, expected);
        }
    }
}
