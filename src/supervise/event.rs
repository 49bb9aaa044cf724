//! What the supervisor's core is told, and what it answers.
//!
//! Everything here can be written to `events.jsonl` and read back: a recorded run is the policy
//! and the events; the actions follow from them, and `nvlaunch replay` checks that they do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::diagnose::exit::Exit;

/// Time since supervision began, whole microseconds, without the time the job was suspended.
pub type Now = Duration;

/// The numbers the core decides by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Ranks on this node, 1 to [`crate::settings::spec::MAX_RANKS`].
    pub ranks: u32,
    /// How often a failed job is started again.
    pub max_restarts: u32,
    /// From the first request to end until KILL (`--shutdown-timeout`).
    #[serde(with = "micros")]
    pub grace: Duration,
    /// What a second request leaves of the grace.
    #[serde(with = "micros")]
    pub hurried_grace: Duration,
    /// After KILL, until a process counts as stuck.
    #[serde(with = "micros")]
    pub reap_limit: Duration,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Begin.
    Start,
    /// A rank's process exists.
    Spawned {
        /// Local rank.
        rank: u32,
        /// Its process id, which is also its process group and session.
        pid: i32,
    },
    /// The ranks of this attempt will be there later, all at once: `Spawned` follows for each, or
    /// `SpawnFailed`.
    Deferred,
    /// A rank could not be started; none after it was tried.
    SpawnFailed {
        /// Local rank.
        rank: u32,
        /// Why, in words.
        reason: String,
    },
    /// The program of a rank could not be executed; the exit of its process follows.
    ExecFailed {
        /// Local rank.
        rank: u32,
        /// Why, in words.
        reason: String,
    },
    /// A rank's process ended and is not reaped yet.
    Exited {
        /// Local rank.
        rank: u32,
        /// How it ended.
        exit: Exit,
    },
    /// Answer to [`Action::SurveyGroup`].
    Group {
        /// Local rank.
        rank: u32,
        /// Processes of its group or session that still live, the ended rank not counted.
        left: u32,
    },
    /// Answer to [`Action::Survey`].
    Leftovers {
        /// Descendants of the job that still live (and may not).
        left: u32,
    },
    /// A descendant that is no rank ended.
    ChildGone,
    /// nvlaunch was asked to end by this signal.
    Asked {
        /// TERM, INT, HUP, QUIT or one of `--signals-to-handle`.
        signal: i32,
        /// The process that sent it, where the kernel says so.
        from: Option<i32>,
    },
    /// A signal for the ranks that does not end anything (USR1, USR2).
    Passed {
        /// Its number.
        signal: i32,
    },
    /// The job is to be stopped until it is continued (`SIGTSTP`).
    Suspend,
    /// The job goes on; the time in between does not count.
    Resume,
    /// Time went by.
    Tick,
}

/// Something to do, in the order given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Start every rank; answer with `Spawned` or `SpawnFailed`, or first with `Deferred`.
    SpawnAll {
        /// Number of the attempt, 0 for the first.
        attempt: u32,
    },
    /// Start none of the ranks that were deferred.
    CancelSpawns,
    /// Send a signal to a living rank (to its group where the scope says so).
    Signal {
        /// Local rank.
        rank: u32,
        /// Signal number.
        signal: i32,
    },
    /// KILL a living rank and its whole group.
    Kill {
        /// Local rank.
        rank: u32,
    },
    /// Count what is left of an ended rank's group; answer with `Group`.
    SurveyGroup {
        /// Local rank.
        rank: u32,
    },
    /// Signal what is left of an ended rank's group.
    EndGroup {
        /// Local rank.
        rank: u32,
        /// TERM or KILL.
        signal: i32,
    },
    /// Reap an ended rank; its ids are free from here on.
    Reap {
        /// Local rank.
        rank: u32,
    },
    /// Count what the attempt has left behind; answer with `Leftovers`.
    Survey,
    /// Signal everything the attempt has left behind.
    EndLeftovers {
        /// TERM or KILL.
        signal: i32,
    },
    /// The attempt is over: read what its pipes still hold, close its files.
    CloseAttempt,
    /// Stop every process of the job, then nvlaunch itself.
    Suspend,
    /// Continue every process of the job.
    Resume,
    /// All is over.
    Finish {
        /// How.
        outcome: Outcome,
    },
}

/// How the whole run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every rank ended with 0.
    Completed,
    /// This rank failed first, in the last attempt.
    Failed {
        /// Local rank.
        rank: u32,
        /// How it ended.
        exit: Exit,
    },
    /// nvlaunch was asked to end.
    Stopped {
        /// By this signal.
        signal: i32,
    },
    /// A rank could not be started at all.
    CannotStart {
        /// Local rank.
        rank: u32,
        /// Why.
        reason: String,
        /// Whether the rank's program was found and could not be executed.
        exec: bool,
    },
    /// Something did not end, not even by KILL.
    Stuck {
        /// Local ranks that are still there.
        ranks: Vec<u32>,
        /// Other processes that are still there.
        leftovers: u32,
    },
}

mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_micros)
    }
}
