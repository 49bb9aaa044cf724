//! Whether a failed job is started again, and after which wait. Pure.
//!
//! - B1: a restart has a reason to help: none after a failure that no restart mends, none after the
//!   same failure at the same step twice (S7), or soon after the start twice where no step is known.
//! - B2: what another machine would mend is tried again on this one only after an attempt that came
//!   further than what it began with, than the failure before it, and than the last of its kind: a
//!   device that is lost at once burns no restarts, one that is lost after days may have recovered.
//! - B3: with [`RestartPolicy::by_progress`] restarts are counted since the last progress, else
//!   since the start; progress is more than the job ever had, what it began with included.
//! - B4: the wait doubles with each restart since the last progress, up to its limit; a fifth more
//!   or less comes from the seed and the attempt alone, so that a record replays. No wait stays none.
//! - B5: every decision says why, in a clause.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::{Assessment, Decision, Policy, RestartPolicy};
use crate::checkpoint::thousands;
use crate::diagnose::class::{Class, Remedy};
use crate::report::text::counted;

/// What earlier failures leave of the restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Budget {
    /// Restarts since the last progress.
    used: u32,
    /// The furthest that the job ever was.
    best: Option<u64>,
    /// What this attempt began with.
    began_with: Option<u64>,
    /// The fingerprint of the failure before.
    last: Option<String>,
    /// How far the job was then.
    last_progress: Option<u64>,
    /// Whether its attempt ended early, where nothing more was known.
    last_early: bool,
    /// How far the job was at the last failure of a kind that another machine would mend.
    elsewhere: BTreeMap<Class, Option<u64>>,
}

impl Budget {
    /// An attempt starts, with a checkpoint of this number or from the beginning.
    pub fn starts(&mut self, attempt: u32, with: Option<u64>) {
        self.began_with = with;
        if attempt == 0 {
            self.best = with;
        }
    }

    /// What follows from the failure of this attempt; takes note of it.
    pub fn decide(&mut self, policy: &Policy, attempt: u32, seen: &Assessment) -> Decision {
        let progress = if seen.measures_progress { seen.progress } else { None };
        if progress > self.best {
            self.best = progress;
            self.used = 0;
        }
        if let Some(why) = self.is_vain(seen, progress) {
            return Decision::Final { why };
        }
        let by_progress = policy.restart.by_progress;
        let (spent, most) = (if by_progress { self.used } else { attempt }, policy.max_restarts);
        if spent >= most {
            return Decision::Final { why: spent_words(most, by_progress) };
        }
        self.used = self.used.saturating_add(1);
        let used = spent.saturating_add(1);
        let since = self.best.filter(|_| by_progress);
        let since = since.map(|at| format!(" since step {}", thousands(at))).unwrap_or_default();
        let why = format!("restart {used} of {most}{since}");
        Decision::Restart { after: wait(&policy.restart, self.used, attempt), used, why }
    }

    /// Why no restart can help here (B1, B2), whatever is left of them.
    fn is_vain(&mut self, seen: &Assessment, progress: Option<u64>) -> Option<String> {
        let last = std::mem::replace(&mut self.last, seen.fingerprint.clone());
        let last_progress = std::mem::replace(&mut self.last_progress, progress);
        let is_early = seen.ended_early && !seen.measures_progress;
        let last_early = std::mem::replace(&mut self.last_early, is_early);
        let is_there =
            if seen.measures_progress { last_progress == progress } else { is_early && last_early };
        let is_same = last.is_some() && last == seen.fingerprint && is_there;
        match seen.remedy {
            Remedy::Retry => None,
            Remedy::Never => Some(because(&seen.why, "a restart cannot help")),
            Remedy::SameAgain => is_same.then(|| same_words(&seen.why, progress, is_early)),
            Remedy::RetryElsewhere => {
                let before = self.elsewhere.insert(seen.class, progress).flatten();
                let vain = if !seen.measures_progress {
                    "a restart helps on another machine, if at all"
                } else if progress <= self.began_with.max(last_progress).max(before) {
                    "no progress before it; a restart helps on another machine, if at all"
                } else {
                    return None;
                };
                Some(because(&seen.why, vain))
            }
        }
    }
}

/// The wait before the `used`th restart since the last progress, counted from 1 (B4).
fn wait(policy: &RestartPolicy, used: u32, attempt: u32) -> Duration {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let doubled = match 1u64.checked_shl(used.saturating_sub(1)) {
        Some(times) => micros(policy.backoff).saturating_mul(times),
        None => micros(policy.backoff).saturating_mul(u64::MAX),
    };
    let plain = u128::from(doubled.min(micros(policy.most_backoff)));
    let thousandths = 800 + u128::from(mixed(policy.seed, attempt) % 401);
    Duration::from_micros(u64::try_from(plain * thousandths / 1000).unwrap_or(u64::MAX))
}

/// A number that looks random and follows from these two (splitmix64).
fn mixed(seed: u64, attempt: u32) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(u64::from(attempt) + 1));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn because(why: &str, what: &str) -> String {
    if why.is_empty() { what.to_owned() } else { format!("{why}: {what}") }
}

fn same_words(why: &str, progress: Option<u64>, is_early: bool) -> String {
    let (place, at) = match progress {
        Some(step) => ("at the same step twice", format!("at step {}", thousands(step))),
        None if is_early => ("twice", "soon after the start".to_owned()),
        None => ("twice", "before any progress".to_owned()),
    };
    let words = if why.is_empty() { at } else { format!("{why} {at}") };
    format!("the same failure {place} ({words})")
}

fn spent_words(most: u32, by_progress: bool) -> String {
    match (most, by_progress) {
        (0, _) => "no restarts are allowed".to_owned(),
        (_, true) => format!("{} without progress", counted(most.into(), "restart", "restarts")),
        (_, false) => format!("{} allowed", counted(most.into(), "restart was", "restarts were")),
    }
}
