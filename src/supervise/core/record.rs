//! What the core knows of one attempt, for itself and for the report.

use crate::diagnose::exit::Exit;
use crate::supervise::event::{Assessment, Decision, Now, ResumePoint};

/// What the core knows of one rank in the current attempt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RankRecord {
    /// Process id, once started.
    pub pid: Option<i32>,
    /// When its process was there.
    pub started_at: Option<Now>,
    /// How and when it ended.
    pub ended: Option<(Exit, Now)>,
    /// The first signal it was sent to end it, and when.
    pub told: Option<(i32, Now)>,
    /// When its group was killed while it lived.
    pub killed_at: Option<Now>,
    pub(super) life: Life,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Life {
    #[default]
    NotStarted,
    Alive,
    /// Ended, not reaped: its group is being ended.
    Ending {
        /// When the group gets KILL; `None` before anything was found in it.
        kill_at: Option<Now>,
        /// When the group is given up, after KILL.
        give_up_at: Option<Now>,
        /// When to look again.
        look_at: Now,
    },
    /// It did not end after KILL.
    GivenUp,
    Reaped,
}

/// One attempt, as the report needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Its number, 0 for the first.
    pub number: u32,
    /// When it was started.
    pub began: Now,
    /// The rank that failed first, if one did.
    pub suspect: Option<u32>,
    /// By local rank.
    pub ranks: Vec<RankRecord>,
    /// What it resumed from.
    pub resume: Option<ResumePoint>,
    /// What was found out about its failure, and decided.
    pub decision: Option<(Assessment, Decision)>,
    /// Why every rank's success was none.
    pub unfinished: Option<String>,
}

impl AttemptRecord {
    pub(super) fn new(number: u32, began: Now, ranks: u32, resume: Option<ResumePoint>) -> Self {
        let ranks = vec![RankRecord::default(); ranks as usize];
        Self { number, began, suspect: None, ranks, resume, decision: None, unfinished: None }
    }

    /// Whether every rank ended well without having been told to.
    pub(super) fn is_complete(&self) -> bool {
        let well =
            |r: &RankRecord| r.told.is_none() && r.ended.is_some_and(|(exit, _)| exit.is_success());
        self.ranks.iter().all(well)
    }

    pub(super) fn has_alive(&self) -> bool {
        self.ranks.iter().any(|rank| rank.life == Life::Alive)
    }
}
