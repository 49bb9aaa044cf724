//! Joins identical lines that several ranks print at the same moment.
//!
//! - F1: the order of one rank's lines is never changed, across both of its streams.
//! - F2: a line waits at most [`MOMENT`] for others to say the same; a line that all ranks have
//!   said does not wait, unless older lines do.
//! - F3: what waits is bounded in number and bytes; the oldest goes first.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use super::routes::Std;

/// How long a line waits for others to say the same.
pub const MOMENT: Duration = Duration::from_millis(60);
const MAX_PENDING: usize = 256;
const MAX_BYTES: usize = 256 * 1024;

/// A line and who said it.
#[derive(Debug, PartialEq, Eq)]
pub struct Folded {
    /// The stream it was written to.
    pub std: Std,
    /// Its bytes, without an end.
    pub line: Vec<u8>,
    /// Indices of the ranks that said it, in that order.
    pub ranks: Vec<u32>,
    hash: u64,
    since: Instant,
}

/// Lines that wait.
#[derive(Debug)]
pub struct Fold {
    pending: VecDeque<Folded>,
    bytes: usize,
    ranks: usize,
}

impl Fold {
    /// For that many ranks.
    pub fn new(ranks: usize) -> Self {
        Self { pending: VecDeque::new(), bytes: 0, ranks }
    }

    /// Takes one line of one rank; gives out what needs no longer wait.
    pub fn push(
        &mut self,
        now: Instant,
        rank: u32,
        std: Std,
        line: &[u8],
        out: &mut impl FnMut(Folded),
    ) {
        let mut hasher = DefaultHasher::new();
        (std, line).hash(&mut hasher);
        let hash = hasher.finish();
        // Joining an entry at or before the rank's own last one would move this line up (F1).
        let after = self.pending.iter().rposition(|e| e.ranks.contains(&rank)).map_or(0, |i| i + 1);
        let same = |e: &&mut Folded| e.hash == hash && e.std == std && e.line == line;
        if let Some(entry) = self.pending.iter_mut().skip(after).find(same) {
            entry.ranks.push(rank);
        } else {
            self.bytes += line.len();
            let line = line.to_vec();
            self.pending.push_back(Folded { std, line, ranks: vec![rank], hash, since: now });
        }
        self.release(now, out);
    }

    /// Gives out what has waited long enough.
    pub fn release(&mut self, now: Instant, out: &mut impl FnMut(Folded)) {
        while let Some(first) = self.pending.front() {
            let waits = now.duration_since(first.since) < MOMENT && first.ranks.len() < self.ranks;
            if waits && self.pending.len() <= MAX_PENDING && self.bytes <= MAX_BYTES {
                break;
            }
            self.pop(out);
        }
    }

    /// Gives out everything.
    pub fn flush(&mut self, out: &mut impl FnMut(Folded)) {
        while !self.pending.is_empty() {
            self.pop(out);
        }
        self.pending.shrink_to_fit();
    }

    /// When the oldest line has waited long enough.
    pub fn deadline(&self) -> Option<Instant> {
        self.pending.front().map(|entry| entry.since + MOMENT)
    }

    fn pop(&mut self, out: &mut impl FnMut(Folded)) {
        if let Some(entry) = self.pending.pop_front() {
            self.bytes -= entry.line.len();
            out(entry);
        }
    }
}

/// `0-2,5` for 5, 0, 2, 1.
pub fn ranges(ranks: &[u32]) -> String {
    use std::fmt::Write as _;
    let mut ranks = ranks.to_vec();
    ranks.sort_unstable();
    ranks.dedup();
    let mut text = String::new();
    let mut rest = ranks.as_slice();
    while let Some(&first) = rest.first() {
        let run = rest.iter().zip(first..).take_while(|(rank, n)| *rank == n).count();
        let last = rest[run - 1];
        let comma = if text.is_empty() { "" } else { "," };
        let _ = match run {
            1 => write!(text, "{comma}{first}"),
            2 => write!(text, "{comma}{first},{last}"),
            _ => write!(text, "{comma}{first}-{last}"),
        };
        rest = &rest[run..];
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn show(entry: &Folded) -> String {
        format!("{}:{}", ranges(&entry.ranks), String::from_utf8_lossy(&entry.line))
    }

    fn run(ranks: usize, script: &[(u64, u32, &str)]) -> Vec<String> {
        let start = Instant::now();
        let mut fold = Fold::new(ranks);
        let mut shown = Vec::new();
        for (at, rank, line) in script {
            let now = start + Duration::from_millis(*at);
            let mut out = |entry: Folded| shown.push(show(&entry));
            fold.release(now, &mut out);
            fold.push(now, *rank, Std::Out, line.as_bytes(), &mut out);
        }
        shown.push("|".to_owned());
        fold.flush(&mut |entry| shown.push(show(&entry)));
        shown
    }

    #[test]
    fn identical_lines_are_joined() {
        assert_eq!(run(3, &[(0, 0, "a"), (1, 2, "a"), (2, 1, "a")]), ["0-2:a", "|"]);
        assert_eq!(run(4, &[(0, 0, "a"), (1, 3, "a")]), ["|", "0,3:a"]);
        assert_eq!(run(2, &[(0, 0, "a"), (60, 1, "a")]), ["0:a", "|", "1:a"]);
    }

    #[test]
    fn one_ranks_lines_keep_their_order() {
        let script = [(0, 0, "a"), (0, 0, "b"), (1, 1, "b"), (1, 1, "a")];
        assert_eq!(run(3, &script), ["|", "0:a", "0,1:b", "1:a"]);
        assert_eq!(run(2, &[(0, 0, "a"), (0, 0, "a"), (0, 1, "a")]), ["0,1:a", "|", "0:a"]);
    }

    #[test]
    fn streams_are_not_mixed() {
        let (now, mut shown) = (Instant::now(), Vec::new());
        let mut fold = Fold::new(2);
        fold.push(now, 0, Std::Out, b"a", &mut |e| shown.push(show(&e)));
        fold.push(now, 1, Std::Err, b"a", &mut |e| shown.push(show(&e)));
        fold.flush(&mut |e| shown.push(show(&e)));
        assert_eq!(shown, ["0:a", "1:a"]);
    }

    #[test]
    fn waiting_is_bounded() {
        let (now, mut fold, mut shown) = (Instant::now(), Fold::new(2), 0);
        for i in 0..10_000 {
            fold.push(now, 0, Std::Out, format!("{i}").as_bytes(), &mut |_| shown += 1);
        }
        assert_eq!(shown, 10_000 - MAX_PENDING);
        let big = vec![b'x'; MAX_BYTES + 1];
        fold.push(now, 0, Std::Out, &big, &mut |_| shown += 1);
        assert_eq!((shown, fold.deadline()), (10_001, None));
    }

    #[test]
    fn ranges_table() {
        let table: &[(&[u32], &str)] = &[
            (&[], ""),
            (&[7], "7"),
            (&[1, 0], "0,1"),
            (&[5, 0, 2, 1], "0-2,5"),
            (&[0, 1, 2, 3, 4, 5, 6, 7], "0-7"),
            (&[8, 9, 10, 12, 13], "8-10,12,13"),
        ];
        for (ranks, expected) in table {
            assert_eq!(ranges(ranks), *expected);
        }
    }

    proptest! {
        #[test]
        fn no_rank_loses_or_reorders_a_line(
            script in prop::collection::vec((0_u64..40, 0_u32..4, 0_u8..3), 0..60),
        ) {
            let mut now = Instant::now();
            let mut fold = Fold::new(4);
            let mut said: [Vec<u8>; 4] = Default::default();
            let mut shown: [Vec<u8>; 4] = Default::default();
            let mut out = |entry: Folded| {
                for &rank in &entry.ranks {
                    shown[rank as usize].push(entry.line[0]);
                }
            };
            for (wait, rank, line) in script {
                now += Duration::from_millis(wait);
                said[rank as usize].push(line);
                fold.push(now, rank, Std::Out, &[line], &mut out);
                prop_assert!(fold.deadline().is_none_or(|at| at > now));
            }
            fold.flush(&mut out);
            prop_assert_eq!(said, shown);
        }
    }
}
