//! Looks out for a new whole checkpoint after ranks were asked to save.
//!
//! - O1: new is what was not whole at the first look, or was written since the request. A folder on
//!   another machine has another clock: a time that is still to come proves nothing.
//! - O2: it counts once two looks in a row agree.
//! - O3: looking takes at most a fifth of one CPU.

use std::time::{Duration, SystemTime};

use super::choose::{Look, Point};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// Before the look that confirms.
const CONFIRM: Duration = Duration::from_millis(250);
/// A look may take one part in so many of the time (O3).
const SHARE: u32 = 5;

/// What is looked out for.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Where.
    pub look: Look,
    /// When the ranks were asked.
    pub asked_at: SystemTime,
}

/// How far a watch is. Pure but for the clock it is told.
#[derive(Debug, Default)]
pub struct Progress {
    /// Whether there was a first look.
    has_begun: bool,
    /// What it found.
    first: Option<Point>,
    /// What was new at the last look.
    candidate: Option<Point>,
}

impl Progress {
    /// One more look has found this. What counts now, if anything.
    pub fn take(
        &mut self,
        newest: Option<Point>,
        asked_at: SystemTime,
        now: SystemTime,
    ) -> Option<Point> {
        let new = self.new_one(newest, asked_at, now);
        if new.is_some() && new == self.candidate {
            return new;
        }
        self.candidate = new;
        None
    }

    /// The same where nobody writes any more: one look is enough.
    pub fn new_one(
        &mut self,
        newest: Option<Point>,
        asked_at: SystemTime,
        now: SystemTime,
    ) -> Option<Point> {
        let since = |point: &Point| point.modified.is_some_and(|at| at > asked_at && at <= now);
        if !std::mem::replace(&mut self.has_begun, true) {
            self.first.clone_from(&newest);
            return newest.filter(since);
        }
        let is_new = |point: &Point| point.is_newer_than(self.first.as_ref()) || since(point);
        newest.filter(is_new)
    }

    /// How long to wait after a look that took so long (O3).
    pub fn pause(&self, took: Duration) -> Duration {
        let usual = if self.candidate.is_some() { CONFIRM } else { EVERY };
        usual.max(took * (SHARE - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Layout;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn point(number: u64, seconds: u64) -> Point {
        Point {
            layout: Layout::Torchtitan,
            path: format!("/c/step-{number}").into(),
            number,
            step: Some(number),
            files: 1,
            bytes: 1,
            modified: Some(at(seconds)),
        }
    }

    /// The place of the look that settled it.
    fn settled(looks: &[Option<Point>]) -> Option<usize> {
        let mut progress = Progress::default();
        let mut looks = looks.iter().cloned();
        looks.position(|look| progress.take(look, at(100), at(110)).is_some())
    }

    #[test]
    fn only_what_is_new_counts_and_only_when_it_stays() {
        let (old, new) = (Some(point(10, 50)), Some(point(20, 105)));
        let half = Some(Point { bytes: 2, ..point(20, 105) });
        let over = Some(point(10, 106));
        let later = Some(point(10, 900));
        for (looks, expected) in [
            (vec![None, None, None], None),
            (vec![old.clone(), old.clone(), old.clone()], None),
            (vec![old.clone(), new.clone(), new.clone()], Some(2)),
            (vec![None, new.clone(), new.clone()], Some(2)),
            (vec![old.clone(), new.clone(), half.clone(), half], Some(3)),
            (vec![old.clone(), new.clone(), old.clone(), new.clone()], None),
            (vec![old.clone(), over.clone(), over], Some(2)),
            (vec![new.clone(), new.clone()], Some(1)),
            (vec![later.clone(), later.clone(), later], None),
        ] {
            assert_eq!(settled(&looks), expected, "{looks:?}");
        }
    }

    #[test]
    fn a_slow_folder_is_looked_at_seldom() {
        let progress = Progress::default();
        assert_eq!(progress.pause(Duration::from_millis(3)), EVERY);
        assert_eq!(progress.pause(Duration::from_secs(2)), Duration::from_secs(8));
    }
}
