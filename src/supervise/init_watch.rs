//! When to look how far the ranks have come with `init_process_group`. Pure.
//!
//! - I1: nothing is looked at before the ranks have gathered for the time that was asked for; then each time after twice as
//!   long, so that a job that is stuck for a day says so a few times and not a thousand.
//! - I2: before each look there is a sample of what the processes do, so that busy and asleep can
//!   be told apart.
//! - I3: once all ranks have joined, or nobody asks, there is no wake-up at all.

use std::time::Duration;

use super::event::Now;

/// From the sample to the look.
const SAMPLE_FOR: Duration = Duration::from_secs(1);

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Note what the processes do.
    Sample,
    /// Say who is missing, if somebody is.
    Look,
}

/// The times of one gathering.
#[derive(Debug, Clone)]
pub struct InitWatch {
    after: Option<Duration>,
    began: Now,
    looks: u32,
    is_sampled: bool,
    is_over: bool,
}

impl InitWatch {
    /// Looks first `after` so long (more than nothing); `None` is never.
    pub fn new(after: Option<Duration>) -> Self {
        Self { after, began: Now::ZERO, looks: 0, is_sampled: false, is_over: true }
    }

    /// The first rank has come and waits for the others.
    pub fn begin(&mut self, now: Now) {
        *self = Self { began: now, is_over: false, ..Self::new(self.after) };
    }

    /// Nothing more is to be looked at until the next gathering.
    pub fn end(&mut self) {
        self.is_over = true;
    }

    /// How long the gathering has lasted.
    pub fn elapsed(&self, now: Now) -> Duration {
        now.saturating_sub(self.began)
    }

    /// When [`InitWatch::due`] has something.
    pub fn next_wake(&self) -> Option<Now> {
        let after = self.after.filter(|_| !self.is_over)?;
        let look = self.began.checked_add(after.checked_mul(1 << self.looks.min(20))?)?;
        let sample = look.saturating_sub(SAMPLE_FOR.min(after / 2));
        Some(if self.is_sampled { look } else { sample })
    }

    /// What is due now; each thing once.
    pub fn due(&mut self, now: Now) -> Option<Due> {
        if self.next_wake().is_none_or(|at| at > now) {
            return None;
        }
        if self.is_sampled {
            self.looks += 1;
        }
        self.is_sampled = !self.is_sampled;
        Some(if self.is_sampled { Due::Sample } else { Due::Look })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn looks_come_at_doubling_times_each_after_a_sample() {
        let mut watch = InitWatch::new(Some(secs(30)));
        assert_eq!(watch.next_wake(), None, "nothing has begun");
        watch.begin(secs(5));
        let mut came = Vec::new();
        for tick in 0..=10_000 {
            let now = Duration::from_millis(tick * 100);
            while let Some(due) = watch.due(now) {
                came.push((due, now.as_secs_f64()));
            }
        }
        let looks: Vec<f64> =
            came.iter().filter(|(due, _)| *due == Due::Look).map(|(_, at)| *at).collect();
        assert_eq!(looks, [35.0, 65.0, 125.0, 245.0, 485.0, 965.0]);
        assert!(
            came.chunks(2)
                .all(|two| two[0].0 == Due::Sample && two[1].0 == Due::Look || two.len() == 1),
            "{came:?}"
        );
        assert!(came.chunks_exact(2).all(|two| (two[1].1 - two[0].1 - 1.0).abs() < 0.11));
    }

    #[test]
    fn nothing_wakes_where_nobody_asks_or_all_is_done() {
        let mut never = InitWatch::new(None);
        never.begin(secs(0));
        assert_eq!((never.next_wake(), never.due(secs(1_000_000))), (None, None));
        let mut watch = InitWatch::new(Some(secs(1)));
        watch.begin(secs(0));
        watch.end();
        assert_eq!((watch.next_wake(), watch.due(secs(1_000_000))), (None, None));
        watch.begin(secs(50));
        assert_eq!(watch.next_wake(), Some(Duration::from_millis(50_500)), "the next attempt");
        assert_eq!(watch.elapsed(secs(52)), secs(2));
    }

    #[test]
    fn a_late_tick_does_one_thing_at_a_time_and_misses_none() {
        let mut watch = InitWatch::new(Some(secs(1)));
        watch.begin(secs(0));
        assert_eq!(watch.due(secs(10)), Some(Due::Sample));
        assert_eq!(watch.due(secs(10)), Some(Due::Look));
        assert_eq!(watch.due(secs(0)), None);
    }
}
