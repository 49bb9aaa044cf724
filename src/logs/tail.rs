//! Keeps the last lines of one stream for the report.
//!
//! Works on chunks: a chunk costs one copy of its last bytes, whatever number of lines it holds.
//! Lines are looked for only when somebody asks. Memory grows with what the rank prints, up to a
//! limit that follows from the number of streams.

use memchr::{memchr_iter, memrchr};

/// The most lines that are kept.
pub const MAX_LINES: usize = 200;

/// The most bytes for one stream, and for all together.
const STREAM_LIMIT: usize = 64 * 1024;
const TOTAL_LIMIT: usize = 8 * 1024 * 1024;

/// How many bytes each of `streams` streams may keep: at most 64 KiB, at most 8 MiB together.
pub fn limit_for(streams: usize) -> usize {
    STREAM_LIMIT.min(TOTAL_LIMIT / streams.max(1))
}

/// The last bytes of one stream, as a ring.
#[derive(Debug, Clone)]
pub struct Tail {
    ring: Vec<u8>,
    /// Where the oldest byte is, once the ring is full.
    start: usize,
    limit: usize,
    /// Whether bytes were forgotten: then the first line may lack its beginning.
    cut: bool,
}

impl Tail {
    /// An empty tail of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { ring: Vec::new(), start: 0, limit: limit.max(1), cut: false }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, chunk: &[u8]) {
        if chunk.len() >= self.limit {
            self.cut |= chunk.len() > self.limit || !self.ring.is_empty();
            self.ring.clear();
            self.ring.extend_from_slice(&chunk[chunk.len() - self.limit..]);
            self.start = 0;
            return;
        }
        let (grow, wrap) = chunk.split_at(chunk.len().min(self.limit - self.ring.len()));
        self.ring.extend_from_slice(grow);
        if wrap.is_empty() {
            return;
        }
        self.cut = true;
        let (first, second) = wrap.split_at(wrap.len().min(self.limit - self.start));
        self.ring[self.start..self.start + first.len()].copy_from_slice(first);
        self.ring[..second.len()].copy_from_slice(second);
        self.start = (self.start + wrap.len()) % self.limit;
    }

    /// The last [`MAX_LINES`] lines, oldest first, without their ends.
    ///
    /// Of a line that was overwritten with `\r`, the last state that is not empty. A first line
    /// that lacks its beginning is left out where there is another.
    pub fn lines(mut self) -> Vec<Vec<u8>> {
        self.ring.rotate_left(self.start);
        let bytes = self.ring.strip_suffix(b"\n").unwrap_or(&self.ring);
        if bytes.is_empty() && self.ring.is_empty() {
            return Vec::new();
        }
        let mut from = 0;
        let mut lines: Vec<&[u8]> = Vec::new();
        for at in memchr_iter(b'\n', bytes).chain([bytes.len()]) {
            lines.push(last_state(&bytes[from..at]));
            from = at + 1;
        }
        let skip =
            usize::from(self.cut && lines.len() > 1).max(lines.len().saturating_sub(MAX_LINES));
        lines[skip..].iter().map(|line| line.to_vec()).collect()
    }
}

fn last_state(line: &[u8]) -> &[u8] {
    let mut line = line;
    loop {
        match memrchr(b'\r', line) {
            Some(at) if at + 1 == line.len() => line = &line[..at],
            Some(at) => return &line[at + 1..],
            None => return line,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(limit: usize, chunks: &[&[u8]]) -> Vec<String> {
        let mut tail = Tail::new(limit);
        for chunk in chunks {
            tail.push(chunk);
        }
        tail.lines().into_iter().map(|l| String::from_utf8(l).expect("test text")).collect()
    }

    #[test]
    fn table() {
        let table: &[(usize, &[&str], &[&str])] = &[
            (10, &[], &[]),
            (10, &["a\nb\n"], &["a", "b"]),
            (10, &["a\nb"], &["a", "b"]),
            (10, &["\n"], &[""]),
            (10, &["a\n\n"], &["a", ""]),
            // 6 bytes hold "de\nfg\n" exactly; that "de" is whole cannot be known.
            (6, &["abc\nde\nfg\n"], &["fg"]),
            (6, &["abc\n", "de\n", "fg\n"], &["fg"]),
            (4, &["abcdefgh"], &["efgh"]),
            (40, &["1%\r2%\r100%\r\nend\r\n"], &["100%", "end"]),
            (40, &["\r1%\r2%"], &["2%"]),
        ];
        for (limit, chunks, expected) in table {
            let bytes: Vec<&[u8]> = chunks.iter().map(|c| c.as_bytes()).collect();
            assert_eq!(lines(*limit, &bytes), *expected, "{chunks:?}");
        }
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let text = (0..1000).map(|i| i.to_string()).collect::<Vec<_>>().join("\n");
        let kept = lines(STREAM_LIMIT, &[text.as_bytes()]);
        assert_eq!((kept.len(), kept[0].as_str(), kept[199].as_str()), (200, "800", "999"));
    }

    #[test]
    fn limits_are_shared() {
        assert_eq!(limit_for(16), 64 * 1024);
        assert_eq!(limit_for(512), 16 * 1024);
    }

    proptest! {
        #[test]
        fn the_ring_holds_the_last_bytes(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20),
            limit in 1_usize..40,
        ) {
            let mut tail = Tail::new(limit);
            let mut all = Vec::new();
            for chunk in &chunks {
                tail.push(chunk);
                all.extend_from_slice(chunk);
            }
            prop_assert_eq!(tail.cut, all.len() > limit);
            tail.ring.rotate_left(tail.start);
            prop_assert_eq!(&tail.ring[..], &all[all.len().saturating_sub(limit)..]);
        }
    }
}
