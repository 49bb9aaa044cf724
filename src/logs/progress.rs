//! Progress bars: text that a rank overwrites with `\r` again and again.
//!
//! A file gets every byte. For the console:
//!
//! - B1: never one line for each update.
//! - B2: away from a terminal, one stream's bar gives at most one line each [`LINE_EVERY`], the
//!   first one that long after it began, and its final state always.
//! - B3: on a terminal the newest bar is one live line, rewritten in place at most once each
//!   [`DRAW_EVERY`], never wider than the terminal, and out of the way of whole lines.
//! - B4: a bar that was overwritten with blanks is gone and leaves no line.

use std::time::{Duration, Instant};

use super::routes::Std;

/// The shortest time between two lines of a bar away from a terminal.
pub const LINE_EVERY: Duration = Duration::from_secs(5);
/// The shortest time between two drawings of the live line.
pub const DRAW_EVERY: Duration = Duration::from_millis(100);

/// A longer state is cut: no terminal shows more.
const MAX_STATE: usize = 1024;

/// The bar of one stream.
#[derive(Debug, Default)]
pub struct Bar {
    state: Vec<u8>,
    unseen: bool,
    due: Option<Instant>,
}

impl Bar {
    /// The rank has rewritten its line.
    pub fn update(&mut self, now: Instant, state: &[u8]) {
        let state = state[..state.len().min(MAX_STATE)].trim_ascii_end();
        if visible(state).next().is_none() {
            // B4
            self.state.clear();
            self.unseen = false;
        } else if self.state != state {
            self.state.clear();
            self.state.extend_from_slice(state);
            self.unseen = true;
            self.due.get_or_insert(now + LINE_EVERY);
        }
    }

    /// The newest state; empty where there is no bar.
    pub fn state(&self) -> &[u8] {
        &self.state
    }

    /// When the newest state is to be shown as a line.
    pub fn deadline(&self) -> Option<Instant> {
        self.due.filter(|_| self.unseen)
    }

    /// The newest state, if it is to be shown as a line now.
    pub fn take_due(&mut self, now: Instant) -> Option<&[u8]> {
        if self.deadline().is_none_or(|due| due > now) {
            return None;
        }
        self.unseen = false;
        self.due = Some(now + LINE_EVERY);
        Some(&self.state)
    }

    /// The stream has ended a line, or has ended: the bar is over. Gives its final state if that
    /// was never shown; the line that ended it may be that state itself.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        let bar = std::mem::take(self);
        bar.unseen.then_some(bar.state)
    }

    /// Whether there is nothing to remember.
    pub fn is_idle(&self) -> bool {
        self.due.is_none()
    }
}

/// The live line of one terminal.
#[derive(Debug)]
pub struct Live {
    owner: Option<usize>,
    std: Std,
    text: Vec<u8>,
    drawn: bool,
    due: Option<Instant>,
    last: Option<Instant>,
}

/// Puts the cursor at the start of an empty line.
pub const ERASE: &[u8] = b"\r\x1b[K";

impl Live {
    /// Nothing is shown.
    pub fn new() -> Self {
        Self { owner: None, std: Std::Err, text: Vec::new(), drawn: false, due: None, last: None }
    }

    /// Stream `owner` has a new state: it is the newest bar now.
    pub fn set(&mut self, now: Instant, owner: usize, std: Std, prefix: &[u8], state: &[u8]) {
        self.owner = Some(owner);
        self.std = std;
        self.text.clear();
        self.text.extend_from_slice(prefix);
        self.text.extend_from_slice(state);
        self.want_draw(now);
    }

    /// Stream `owner` has no bar any more. Says whether the screen must be erased.
    pub fn clear(&mut self, owner: usize) -> Option<Std> {
        (self.owner == Some(owner)).then_some(())?;
        self.owner = None;
        self.text = Vec::new();
        self.due = None;
        self.erase(None)
    }

    /// Whole lines are about to be written: says on which stream the line must be erased first.
    /// It is drawn again when its time comes (`now`).
    pub fn erase(&mut self, now: Option<Instant>) -> Option<Std> {
        if !std::mem::take(&mut self.drawn) {
            return None;
        }
        if let (Some(_), Some(now)) = (self.owner, now) {
            self.want_draw(now);
        }
        Some(self.std)
    }

    /// Whether it is on the screen.
    pub fn is_drawn(&self) -> bool {
        self.drawn
    }

    /// When the line is to be drawn.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// The bytes that show the newest state on a terminal of `width` columns, if it is time.
    pub fn draw(&mut self, now: Instant, width: usize) -> Option<(Std, Vec<u8>)> {
        self.due.filter(|due| *due <= now)?;
        self.due = None;
        self.last = Some(now);
        self.drawn = true;
        let mut bytes = ERASE.to_vec();
        truncate(&self.text, width.saturating_sub(1), &mut bytes);
        Some((self.std, bytes))
    }

    fn want_draw(&mut self, now: Instant) {
        let earliest = self.last.map_or(now, |last| (last + DRAW_EVERY).max(now));
        self.due.get_or_insert(earliest);
    }
}

/// The characters of `text` that take a place on the screen: no escape sequences, no controls.
fn visible(text: &[u8]) -> impl Iterator<Item = (char, usize)> {
    let text = String::from_utf8_lossy(text).into_owned();
    let mut chars = text.chars().collect::<Vec<_>>().into_iter().peekable();
    std::iter::from_fn(move || {
        loop {
            let c = chars.next()?;
            if c == '\u{1b}' {
                if chars.next_if_eq(&'[').is_some() {
                    // A control sequence ends with a byte of 0x40 to 0x7e.
                    let _ = chars.find(|c| matches!(c, '@'..='~'));
                } else {
                    chars.next();
                }
            } else if !c.is_control() {
                return Some((c, columns(c)));
            }
        }
    })
}

fn truncate(text: &[u8], width: usize, out: &mut Vec<u8>) {
    let mut used = 0;
    for (c, columns) in visible(text) {
        used += columns;
        if used > width {
            break;
        }
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

/// How many columns a character takes: 2 for East Asian wide ones and pictographs, 0 for
/// combining marks (blocks of Unicode 16, `EastAsianWidth.txt`), else 1.
fn columns(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_bar_gives_a_line_each_five_seconds_and_its_end() {
        let start = Instant::now();
        let mut bar = Bar::default();
        let mut lines = Vec::new();
        for i in 0..1200 {
            let now = start + ms(10) * i;
            bar.update(now, format!("{i}/1200").as_bytes());
            lines.extend(bar.take_due(now).map(<[u8]>::to_vec));
        }
        lines.extend(bar.finish());
        assert_eq!(lines, [b"500/1200".to_vec(), b"1000/1200".to_vec(), b"1199/1200".to_vec()]);
        assert_eq!(bar.finish(), None);
    }

    #[test]
    fn a_bar_that_stands_still_or_was_shown_has_no_deadline() {
        let start = Instant::now();
        let mut bar = Bar::default();
        assert!(bar.is_idle());
        bar.update(start, b"5%");
        assert_eq!(bar.deadline(), Some(start + LINE_EVERY));
        assert_eq!(bar.take_due(start + LINE_EVERY), Some(&b"5%"[..]));
        bar.update(start + ms(6000), b"5%  ");
        assert_eq!((bar.deadline(), bar.finish()), (None, None));
    }

    #[test]
    fn a_bar_that_was_wiped_leaves_nothing() {
        let mut bar = Bar::default();
        bar.update(Instant::now(), b"5%");
        bar.update(Instant::now(), b"\x1b[K   ");
        assert_eq!(bar.state(), b"");
        assert_eq!(bar.finish(), None);
    }

    #[test]
    fn the_live_line_is_drawn_at_most_ten_times_a_second() {
        let start = Instant::now();
        let mut live = Live::new();
        let mut drawn = 0;
        for i in 0..1000 {
            let now = start + ms(1) * i;
            live.set(now, 3, Std::Err, b"[rank 0] ", format!("{i}").as_bytes());
            drawn += usize::from(live.draw(now, 80).is_some());
        }
        assert_eq!(drawn, 10);
        assert_eq!(live.deadline(), Some(start + ms(1000)));
    }

    #[test]
    fn the_live_line_makes_room_for_lines_and_comes_back() {
        let start = Instant::now();
        let mut live = Live::new();
        assert_eq!(live.erase(Some(start)), None);
        live.set(start, 3, Std::Err, b"> ", b"5%");
        assert_eq!(live.draw(start, 80), Some((Std::Err, b"\r\x1b[K> 5%".to_vec())));
        assert_eq!(live.deadline(), None);
        assert_eq!(live.erase(Some(start)), Some(Std::Err));
        assert_eq!(live.erase(Some(start)), None);
        assert_eq!(live.deadline(), Some(start + DRAW_EVERY));
        assert!(live.draw(start + DRAW_EVERY, 80).is_some());
        assert_eq!(live.clear(4), None);
        assert_eq!(live.clear(3), Some(Std::Err));
        assert_eq!(live.deadline(), None);
    }

    #[test]
    fn truncation_counts_columns() {
        let table: &[(&[u8], usize, &str)] = &[
            (b"hello", 9, "hello"),
            (b"hello", 3, "hel"),
            (b"\x1b[1;32mhe\x1b[0mllo", 3, "hel"),
            ("日本語".as_bytes(), 5, "日本"),
            ("██▌".as_bytes(), 2, "██"),
            (b"a\tb\x07c\x1b[A", 9, "abc"),
            (b"a\xffb", 9, "a\u{fffd}b"),
            (b"x", 0, ""),
        ];
        for (text, width, expected) in table {
            let mut out = Vec::new();
            truncate(text, *width, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), *expected);
        }
    }
}
