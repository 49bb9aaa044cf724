//! A run that is over, as the loop leaves it.

use std::path::PathBuf;
use std::time::Duration;

use crate::checkpoint::choose::Point;
use crate::diagnose::missing::Account;
use crate::logs::AttemptOutput;
use crate::store::Refusals;
use crate::supervise::core::Supervisor;
use crate::supervise::event::{Now, Outcome};
use crate::supervise::family::Leftover;
use crate::supervise::warm_start::WarmTimes;

/// Somebody asked nvlaunch to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// When.
    pub at: Now,
    /// With which signal.
    pub signal: i32,
    /// By which process, where the kernel says so, and its name at that moment.
    pub from: Option<(i32, String)>,
}

impl Asked {
    pub(super) fn is_by_nvlaunch(&self) -> bool {
        let me = nix::unistd::getpid().as_raw();
        self.from.as_ref().is_some_and(|(pid, _)| *pid == me)
    }
}

/// A process that did not end, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StuckRank {
    /// Local rank.
    pub rank: u32,
    /// Process id.
    pub pid: i32,
    /// `D`, `T`, …
    pub state: char,
    /// The kernel function it sleeps in, where the kernel says so.
    pub waits_in: Option<String>,
}

/// A run that is over.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// Every attempt, rank by rank.
    pub core: Supervisor,
    /// What the last attempt printed last, by local rank.
    pub output: AttemptOutput,
    /// The error file of each rank of the last attempt, whether it was written or not.
    pub error_files: Vec<Option<PathBuf>>,
    /// What outlived its rank.
    pub leftovers: Vec<Leftover>,
    /// Requests to end, in order.
    pub asked: Vec<Asked>,
    /// Ranks that are still there.
    pub stuck: Vec<StuckRank>,
    /// Whom the others waited for when the last attempt began to end.
    pub missing: Option<Account>,
    /// Who was refused by the store, where nvlaunch served it.
    pub refusals: Option<Refusals>,
    /// How long warm ranks took to their scripts, by attempt; empty where none was warm.
    pub warm: Vec<WarmTimes>,
    /// The newest whole checkpoint that appeared after the ranks were asked to save.
    pub saved: Option<Point>,
    /// From the start of supervision to its end, suspended time not counted.
    pub took: Duration,
}
