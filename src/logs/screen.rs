//! Makes batches for one console: prefixes, joined lines, the live line, room for whole lines.
//!
//! - W1: a line is written whole, with its prefix and its end; lines of two ranks never mix.
//! - W2: where a rank has an unfinished line on the screen, another's output begins on a new one.
//! - W3: while the console is too slow ([`super::overload`]), whole lines are counted instead;
//!   when there is room again, one line says how many.
//! - W4: nvlaunch's own lines are dropped last.

use std::fmt::Write as _;
use std::fs::File;
use std::time::Instant;

use super::console::{Batch, Console};
use super::fold::{Fold, Folded, ranges};
use super::losses::Amount;
use super::overload::{HIGH, Overload, Verdict};
use super::progress::{ERASE, Live};
use super::routes::Std;

/// A batch of this size is handed over at once.
const BATCH: usize = 256 * 1024;
/// What nvlaunch's own lines may take beyond a full queue (W4).
const RESERVE: usize = 256 * 1024;

/// One rank's prefix, by stream: with colour where that stream wants it.
#[derive(Debug)]
pub struct Prefix {
    /// As the filter files get it.
    pub plain: Vec<u8>,
    /// As the console gets it, by [`Std::index`].
    pub shown: [Vec<u8>; 2],
    /// The global rank.
    pub rank: u32,
}

/// What is known about the two streams of one console.
#[derive(Debug, Clone, Copy)]
pub struct Traits {
    /// By [`Std::index`].
    pub terminal: [bool; 2],
}

/// One console as the pump sees it.
#[derive(Debug)]
pub struct Screen {
    console: Console,
    batch: Batch,
    overload: Overload,
    dropping: bool,
    /// Lines not shown since the last notice, by stream, and all together.
    unsaid: [u64; 2],
    lost: [Amount; 2],
    fold: Option<Fold>,
    live: Live,
    /// For the terminal's width, by stream.
    terminals: [Option<File>; 2],
    traits: Traits,
    /// The rank whose unfinished line is on the screen, and on which stream (W2).
    open: Option<(u32, Std)>,
}

impl Screen {
    /// `fold` is the number of ranks that may say the same, or `None`.
    pub fn new(
        console: Console,
        traits: Traits,
        terminals: [Option<File>; 2],
        fold: Option<usize>,
    ) -> Self {
        Self {
            console,
            batch: Batch { std: Std::Out, bytes: Vec::new(), lines: 0 },
            overload: Overload::default(),
            dropping: false,
            unsaid: [0; 2],
            lost: [Amount::default(); 2],
            fold: fold.map(Fold::new),
            live: Live::new(),
            terminals,
            traits,
            open: None,
        }
    }

    /// Whether that stream is a terminal.
    pub fn is_terminal(&self, std: Std) -> bool {
        self.traits.terminal[std.index()]
    }

    /// Decides whether more output is taken, held or dropped (W3). `patient` is false where
    /// holding the ranks is no use, because their output must be read to its end now.
    pub fn judge(&mut self, now: Instant, patient: bool) -> Verdict {
        let mut verdict = self.ask(now);
        if !patient && matches!(verdict, Verdict::Hold(_)) {
            verdict = Verdict::Drop;
        }
        self.dropping = verdict == Verdict::Drop;
        verdict
    }

    fn ask(&mut self, now: Instant) -> Verdict {
        let waiting = self.batch.bytes.len();
        let verdict =
            self.overload.judge(now, self.console.queued() + waiting, self.console.written());
        if verdict == Verdict::Take {
            return verdict;
        }
        // Room may have come between the two looks: without the second one no signal would.
        self.console.want_room();
        self.overload.judge(now, self.console.queued() + waiting, self.console.written())
    }

    /// Whether a verdict other than [`Verdict::Take`] stands.
    pub fn is_waiting(&self) -> bool {
        self.overload != Overload::Free
    }

    /// The notice about lines that were not shown, once there is room again.
    pub fn take_notice(&mut self) -> Option<String> {
        if self.dropping || self.unsaid == [0; 2] {
            return None;
        }
        let mut text = String::new();
        for std in Std::BOTH {
            let lines = std::mem::take(&mut self.unsaid[std.index()]);
            if lines > 0 {
                let (were, s) = if lines == 1 { ("was", "") } else { ("were", "s") };
                let name = std.name();
                let _ = writeln!(
                    text,
                    "[nvlaunch] {lines} line{s} {were} not shown: {name} is too slow"
                );
            }
        }
        Some(text)
    }

    /// A whole line of one rank, to be joined with others' where that is wanted.
    pub fn line(&mut self, now: Instant, index: u32, prefixes: &[Prefix], std: Std, line: &[u8]) {
        if self.fold.is_none() || !self.is_terminal(std) {
            self.put(now, std, &prefixes[index as usize].shown[std.index()], line);
            return;
        }
        let mut ready = Vec::new();
        if let Some(fold) = &mut self.fold {
            fold.push(now, index, std, line, &mut |entry| ready.push(entry));
        }
        self.put_folded(now, prefixes, ready);
    }

    /// Raw bytes of a rank that has the stream for itself.
    pub fn raw(&mut self, now: Instant, index: u32, std: Std, bytes: &[u8]) {
        let lines = memchr::memchr_iter(b'\n', bytes).count() as u64;
        if self.dropping {
            self.drop_lines(std, lines, bytes.len());
            return;
        }
        self.begin(now, std, Some(index));
        self.batch.bytes.extend_from_slice(bytes);
        self.batch.lines += lines;
        self.open = (bytes.last() != Some(&b'\n')).then_some((index, std));
        self.submit_full();
    }

    /// Shows an unfinished line; the rest follows with [`Screen::raw`] if it is still the last
    /// thing on the screen then ([`Screen::is_open`]).
    pub fn partial(&mut self, now: Instant, index: u32, std: Std, prefix: &[u8], bytes: &[u8]) {
        if self.dropping {
            return;
        }
        self.begin(now, std, None);
        self.batch.bytes.extend_from_slice(prefix);
        self.batch.bytes.extend_from_slice(bytes);
        self.open = Some((index, std));
    }

    /// Whether that rank's unfinished line is where the cursor is.
    pub fn is_open(&self, index: u32, std: Std) -> bool {
        self.open == Some((index, std))
    }

    /// nvlaunch's own whole lines (W4), behind whatever was given out before.
    pub fn say(&mut self, now: Instant, text: &[u8]) {
        let lines = memchr::memchr_iter(b'\n', text).count() as u64;
        if self.console.queued() + self.batch.bytes.len() > HIGH + RESERVE {
            self.drop_lines(Std::Err, lines, text.len());
            return;
        }
        self.begin(now, Std::Err, None);
        self.batch.bytes.extend_from_slice(text);
        self.batch.lines += lines;
        if !text.ends_with(b"\n") {
            self.batch.bytes.push(b'\n');
            self.batch.lines += 1;
        }
    }

    /// The live line, where this stream is a terminal.
    pub fn live(&mut self) -> &mut Live {
        &mut self.live
    }

    /// That stream has no bar any more.
    pub fn clear_live(&mut self, owner: usize) {
        if let Some(std) = self.live.clear(owner) {
            self.erase(std);
        }
    }

    /// Gives out joined lines, draws the live line, as the time demands.
    pub fn tick(&mut self, now: Instant, prefixes: &[Prefix]) {
        let mut ready = Vec::new();
        if let Some(fold) = &mut self.fold {
            fold.release(now, &mut |entry| ready.push(entry));
        }
        self.put_folded(now, prefixes, ready);
        if self.live.deadline().is_some_and(|due| due <= now) && !self.dropping {
            let width = self.width();
            if let Some((std, bytes)) = self.live.draw(now, width) {
                self.switch(std);
                if let Some((_, open)) = self.open.take() {
                    self.newline(open);
                    self.switch(std);
                }
                self.batch.bytes.extend_from_slice(&bytes);
            }
        }
    }

    /// When [`Screen::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let fold = self.fold.as_ref().and_then(Fold::deadline);
        let live = self.live.deadline().filter(|_| !self.dropping);
        fold.into_iter().chain(live).min()
    }

    /// Gives out every line that waits to be joined.
    pub fn flush_fold(&mut self, now: Instant, prefixes: &[Prefix]) {
        let mut ready = Vec::new();
        if let Some(fold) = &mut self.fold {
            fold.flush(&mut |entry| ready.push(entry));
        }
        self.put_folded(now, prefixes, ready);
    }

    /// Hands what there is to the console's thread.
    pub fn submit(&mut self) {
        if self.batch.bytes.is_empty() {
            return;
        }
        let empty = Batch { std: self.batch.std, bytes: Vec::new(), lines: 0 };
        let batch = std::mem::replace(&mut self.batch, empty);
        self.batch.bytes = self.console.push(batch);
    }

    /// Gives back the memory that only a burst needs.
    pub fn trim(&mut self) {
        if self.batch.bytes.is_empty() {
            self.batch.bytes = Vec::new();
        }
        self.console.trim();
    }

    /// Flushes until `deadline` at most; adds what was lost.
    pub fn close(&mut self, deadline: Instant, losses: [&mut super::losses::ConsoleLoss; 2]) {
        self.submit();
        let written = self.console.close(deadline);
        for (std, loss) in Std::BOTH.into_iter().zip(losses) {
            let (mine, theirs) = (self.lost[std.index()], &written[std.index()]);
            for part in [mine, theirs.slow] {
                loss.slow.lines += part.lines;
                loss.slow.bytes += part.bytes;
            }
            loss.closed.lines += theirs.closed.lines;
            loss.closed.bytes += theirs.closed.bytes;
            loss.failed.lines += theirs.failed.lines;
            loss.failed.bytes += theirs.failed.bytes;
            loss.error = loss.error.take().or_else(|| theirs.error.clone());
        }
    }

    fn put_folded(&mut self, now: Instant, prefixes: &[Prefix], ready: Vec<Folded>) {
        for entry in ready {
            if let [one] = entry.ranks[..] {
                let prefix = &prefixes[one as usize].shown[entry.std.index()];
                self.put(now, entry.std, prefix, &entry.line);
            } else {
                let ranks: Vec<u32> =
                    entry.ranks.iter().map(|&index| prefixes[index as usize].rank).collect();
                let prefix = format!("[ranks {}] ", ranges(&ranks));
                self.put(now, entry.std, prefix.as_bytes(), &entry.line);
            }
        }
    }

    /// W1
    fn put(&mut self, now: Instant, std: Std, prefix: &[u8], line: &[u8]) {
        if self.dropping {
            self.drop_lines(std, 1, prefix.len() + line.len() + 1);
            return;
        }
        if self.batch.std != std || self.open.is_some() || self.live.is_drawn() {
            self.begin(now, std, None);
        }
        let bytes = &mut self.batch.bytes;
        bytes.reserve(prefix.len() + line.len() + 1);
        bytes.extend_from_slice(prefix);
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
        self.batch.lines += 1;
        self.submit_full();
    }

    fn submit_full(&mut self) {
        if self.batch.bytes.len() >= BATCH {
            self.submit();
        }
    }

    /// Makes `std` the stream of the batch, with the cursor at the start of an empty line, or
    /// behind the unfinished line of rank `index`.
    fn begin(&mut self, now: Instant, std: Std, index: Option<u32>) {
        if let Some(live) = self.live.erase(Some(now)) {
            self.erase(live);
        }
        if let Some((_, open)) = self.open.take_if(|(owner, _)| index != Some(*owner)) {
            self.newline(open);
        }
        self.switch(std);
    }

    fn erase(&mut self, std: Std) {
        self.switch(std);
        self.batch.bytes.extend_from_slice(ERASE);
    }

    fn newline(&mut self, std: Std) {
        self.switch(std);
        self.batch.bytes.push(b'\n');
    }

    fn switch(&mut self, std: Std) {
        if self.batch.std != std {
            self.submit();
            self.batch.std = std;
        }
    }

    fn drop_lines(&mut self, std: Std, lines: u64, bytes: usize) {
        self.unsaid[std.index()] += lines;
        self.lost[std.index()].add(lines, bytes);
    }

    fn width(&self) -> usize {
        let terminal = self.terminals.iter().flatten().next();
        let size = terminal.and_then(|file| rustix::termios::tcgetwinsize(file).ok());
        size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0).unwrap_or(80)
    }
}
