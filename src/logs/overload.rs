//! Decides what happens when the console takes less than the ranks print.
//!
//! - O1: while the queue has room, everything is taken.
//! - O2: when it is full, the ranks are held, as a plain pipe would hold them, as long as the
//!   console takes at least [`MIN_RATE`]; that is looked at once each [`WINDOW`].
//! - O3: a slower or stuck console does not hold the job: lines are dropped until the queue is
//!   down to [`LOW`].
//!
//! Pure: the time, the queue's size and what was written are handed in.

use std::time::{Duration, Instant};

/// Bytes in the queue at which it is full.
pub const HIGH: usize = 2 * 1024 * 1024;
/// Bytes in the queue at which there is room again.
pub const LOW: usize = 1024 * 1024;
/// Bytes per second below which a console is too slow to wait for.
pub const MIN_RATE: u64 = 1024 * 1024;
/// How long one look at the rate lasts.
pub const WINDOW: Duration = Duration::from_millis(200);

/// What to do with more output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Queue it.
    Take,
    /// Leave it in the pipes, and ask again by then.
    Hold(Instant),
    /// Count it and forget it.
    Drop,
}

/// The state between two questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overload {
    /// There is room.
    #[default]
    Free,
    /// Held since then, when that much had been written.
    Held {
        /// When this window began.
        since: Instant,
        /// Bytes written to the console by then.
        written: u64,
    },
    /// Too slow.
    Dropping,
}

impl Overload {
    /// Decides; `written` is all that the console has ever taken, in bytes.
    pub fn judge(&mut self, now: Instant, queued: usize, written: u64) -> Verdict {
        let full = match self {
            Self::Free => queued >= HIGH,
            Self::Held { .. } | Self::Dropping => queued > LOW,
        };
        if !full {
            *self = Self::Free;
            return Verdict::Take;
        }
        match *self {
            Self::Dropping => return Verdict::Drop,
            Self::Held { since, .. } if now < since + WINDOW => {
                return Verdict::Hold(since + WINDOW);
            }
            Self::Held { since, written: before } => {
                let window = u64::try_from(now.duration_since(since).as_millis());
                let needed = MIN_RATE.saturating_mul(window.unwrap_or(u64::MAX)) / 1000;
                if written.saturating_sub(before) < needed {
                    *self = Self::Dropping;
                    return Verdict::Drop;
                }
            }
            Self::Free => {}
        }
        *self = Self::Held { since: now, written };
        Verdict::Hold(now + WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ranks that print without end into a console that takes `rate` bytes a second, for ten
    /// seconds in steps of 1 ms. Gives the milliseconds in which the ranks were held, and those
    /// in which lines were dropped.
    fn run(rate: usize) -> (usize, usize) {
        let start = Instant::now();
        let (mut overload, mut queued, mut written) = (Overload::default(), 0_usize, 0_u64);
        let (mut held, mut dropped) = (0, 0);
        for i in 0..10_000 {
            let now = start + Duration::from_millis(1) * i;
            match overload.judge(now, queued, written) {
                Verdict::Take => queued += 256 * 1024,
                Verdict::Hold(until) => {
                    assert!(until > now);
                    held += 1;
                }
                Verdict::Drop => dropped += 1,
            }
            let step = queued.min(rate / 1000);
            queued -= step;
            written += step as u64;
            assert!(queued < HIGH + 256 * 1024);
        }
        (held, dropped)
    }

    #[test]
    fn a_fast_console_is_never_full() {
        assert_eq!(run(300_000_000), (0, 0));
    }

    #[test]
    fn a_console_that_keeps_up_somewhat_holds_the_ranks_and_drops_nothing() {
        for rate in [1_100_000, 5_000_000, 50_000_000] {
            let (held, dropped) = run(rate);
            assert!(held > 1000, "{rate}: {held}");
            assert_eq!(dropped, 0, "{rate}");
        }
    }

    #[test]
    fn a_slow_console_does_not_hold_the_ranks() {
        for rate in [0, 100_000, 900_000] {
            let (held, dropped) = run(rate);
            assert!(held <= 200 * (1 + 10 * rate / LOW), "{rate}: {held}");
            assert!(dropped > 5000, "{rate}: {dropped}");
        }
    }

    #[test]
    fn a_console_that_gets_stuck_while_ranks_are_held_is_noticed_within_two_windows() {
        let start = Instant::now();
        let mut overload = Overload::default();
        assert_eq!(overload.judge(start, HIGH, 0), Verdict::Hold(start + WINDOW));
        assert_eq!(
            overload.judge(start + WINDOW, HIGH, MIN_RATE),
            Verdict::Hold(start + WINDOW * 2)
        );
        assert_eq!(overload.judge(start + WINDOW * 2, HIGH, MIN_RATE), Verdict::Drop);
        assert_eq!(overload.judge(start + WINDOW * 9, LOW + 1, MIN_RATE), Verdict::Drop);
        assert_eq!(overload.judge(start + WINDOW * 9, LOW, MIN_RATE), Verdict::Take);
    }
}
