//! Who is missing, at the moments when it is asked: between the store's view, `/proc` and the logs.
//!
//! It decides when there is something to say; what is said is decided in
//! [`crate::diagnose::missing`].

use super::core::AttemptRecord;
use super::event::Now;
use super::meeting::Meeting;
use crate::diagnose::missing::{Account, RankFacts};
use crate::logs::{Logs, RankTail};
use crate::store::progress::standing::Standing;

/// How many missing ranks are looked at with what they printed.
const MAX_SHOWN: usize = 4;
/// How many of a rank's last lines are handed on.
const LAST_LINES: usize = 3;

/// A look at an attempt.
#[derive(Debug)]
pub struct RollCall<'a> {
    /// Where the ranks meet.
    pub meeting: &'a mut Meeting,
    /// What they print.
    pub logs: &'a Logs,
    /// How they are.
    pub attempt: &'a AttemptRecord,
    /// The time.
    pub now: Now,
}

impl RollCall<'_> {
    /// It is time to look.
    pub fn look(self) -> Option<Account> {
        let standing = self.meeting.standing()?;
        if standing.all_have_joined() {
            self.meeting.all_are_there();
        }
        // Other waits are the script's own business while it runs.
        if standing.gathering.is_none() && standing.signs.is_empty() {
            return None;
        }
        self.account(&standing)
    }

    /// This rank ended well. If others wait for it, they do so in vain.
    pub fn after_early_end(self, rank: u32) -> Option<Account> {
        // A thousand ranks that end well need not be looked at a thousand times.
        if !self.meeting.is_watched() {
            return None;
        }
        let standing = self.meeting.standing()?;
        let is_missing = standing.is_missing(rank);
        if is_missing { self.account(&standing) } else { None }
    }

    /// The attempt begins to end, by the failure of this rank or because somebody asked. What the
    /// ranks were waiting for may be why, and cannot be seen any more afterwards.
    pub fn before_end(self, failed: Option<u32>) -> Option<Account> {
        let standing = self.meeting.standing()?.with_who_gave_up();
        let nobody = standing.gathering.as_ref().is_none_or(|g| g.missing.is_empty());
        // A rank that failed on its way there is the cause itself.
        let is_the_cause = failed.is_some_and(|rank| standing.is_missing(rank));
        if is_the_cause || (nobody && standing.signs.is_empty()) {
            return None;
        }
        self.account(&standing)
    }

    fn account(&self, standing: &Standing) -> Option<Account> {
        let missing = standing.gathering.as_ref().map_or(&[][..], |g| &g.missing);
        let shown: Vec<u32> = missing.iter().copied().take(MAX_SHOWN).collect();
        let tails = self.logs.tails(&shown);
        let facts = missing.iter().enumerate().map(|(at, &rank)| {
            let doing = self.meeting.doing(rank, self.now);
            let record = self.attempt.ranks.get(rank as usize);
            RankFacts {
                rank,
                pid: doing.as_ref().map(|(pid, _)| *pid),
                doing: doing.map(|(_, doing)| doing),
                ended: record.and_then(|record| Some(record.ended?.0)),
                last_lines: tails.get(at).map(last_lines).unwrap_or_default(),
            }
        });
        let facts: Vec<RankFacts> = facts.collect();
        Account::of(standing, &facts, self.meeting.elapsed(self.now))
    }
}

/// Of standard error, where there is something; else of standard output.
fn last_lines(tail: &RankTail) -> Vec<String> {
    let lines = if tail.stderr.is_empty() { &tail.stdout } else { &tail.stderr };
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    last.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}
