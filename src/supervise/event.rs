//! What the supervisor's core is told, and what it answers.
//!
//! Everything here can be written to `events.jsonl` and read back: a recorded run is the policy
//! and the events; the actions follow from them, and `nvlaunch replay` checks that they do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::diagnose::class::{Class, Remedy};
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
    /// What decides about a restart besides [`Policy::max_restarts`].
    #[serde(default)]
    pub restart: RestartPolicy,
    /// Requests to end by which the machine is taken away; `None` where every request is an
    /// ordinary one.
    #[serde(default)]
    pub preemption: Option<PreemptionPolicy>,
}

/// What decides about a restart, besides how many there are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// Whether each attempt is prepared first ([`Action::Prepare`]): there is a checkpoint folder,
    /// or preflight looks again.
    pub prepares: bool,
    /// Whether a failure is looked into ([`Action::Assess`]) before a restart is decided.
    pub assesses: bool,
    /// Whether a success is looked into ([`Action::Verify`]).
    pub verifies: bool,
    /// Whether restarts are counted since the last progress, and not since the start.
    pub by_progress: bool,
    /// Whether a success that is none is a failure.
    pub unfinished_fails: bool,
    /// The wait before the first restart without progress; it doubles from one to the next.
    #[serde(with = "micros")]
    pub backoff: Duration,
    /// Where doubling ends.
    #[serde(with = "micros")]
    pub most_backoff: Duration,
    /// How long an answer to `Prepare`, `Assess` and `Verify` may take before it is given up (S5).
    #[serde(with = "micros")]
    pub answer_limit: Duration,
    /// Where the jitter of waits comes from: one seed, one row of waits.
    pub seed: u64,
}

/// Requests to end by which the machine is taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreemptionPolicy {
    /// The signals that say so.
    pub signals: Vec<i32>,
    /// How long the ranks have to save.
    #[serde(with = "micros")]
    pub grace: Duration,
    /// When the scheduler ends everything by itself, less what nvlaunch needs then.
    pub ends_at: Option<Now>,
}

/// A checkpoint that ranks resume from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumePoint {
    /// Where it is, for people.
    pub path: String,
    /// What orders checkpoints of one job: the step, or the number of the save.
    pub number: u64,
    /// The step, where it is known.
    pub step: Option<u64>,
}

/// What is known of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assessment {
    /// What kind it is.
    pub class: Class,
    /// What follows from that here.
    pub remedy: Remedy,
    /// The same for failures that are the same; `None` where nothing can be said.
    pub fingerprint: Option<String>,
    /// The words it rests on, as the end of a sentence: `ModuleNotFoundError: No module named 'x'`.
    pub why: String,
    /// How far the job has come: the number of its newest whole checkpoint, or the step that the
    /// script reported, whichever tells more; `None` where nothing is there.
    pub progress: Option<u64>,
    /// Whether progress can be known at all: there is a checkpoint folder, or the script reports
    /// steps.
    pub measures_progress: bool,
    /// Whether the attempt ended soon after its start where that is all that is known of how far it
    /// came.
    #[serde(default)]
    pub ended_early: bool,
}

/// What was decided after a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The job starts again.
    Restart {
        /// After this wait.
        #[serde(with = "micros")]
        after: Duration,
        /// Restarts since the last progress (or since the start), this one included.
        used: u32,
        /// Why, in a clause.
        why: String,
    },
    /// The failure is final.
    Final {
        /// Why, in a clause.
        why: String,
    },
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
    /// Answer to [`Action::Prepare`].
    Prepared {
        /// What the ranks resume from; `None` is the beginning.
        resume: Option<ResumePoint>,
    },
    /// The other answer to it: starting would be wrong.
    Refused {
        /// Why, in a clause.
        why: String,
    },
    /// Answer to [`Action::Assess`].
    Assessed {
        /// Which attempt's failure it is about: an answer may come when it is waited for no more.
        attempt: u32,
        /// What is known of the failure.
        assessment: Assessment,
    },
    /// Answer to [`Action::Verify`].
    Verified {
        /// Why the job was not done, in a clause; `None` where nothing speaks against it.
        unfinished: Option<String>,
    },
    /// A new whole checkpoint appeared after [`Action::WatchSaves`].
    Saved {
        /// Which.
        point: ResumePoint,
    },
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
    /// Find out what the next attempt resumes from, and whether it should start at all; answer with
    /// `Prepared` or `Refused`.
    Prepare {
        /// Number of the attempt.
        attempt: u32,
    },
    /// Look into the failure of this rank (of the whole job where it is a success that is none);
    /// answer with `Assessed`.
    Assess {
        /// Local rank that failed first.
        rank: Option<u32>,
    },
    /// Look whether the job was done; answer with `Verified`.
    Verify,
    /// Look from now on, until the attempt is closed, for a new whole checkpoint; tell with `Saved`.
    WatchSaves,
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
    /// The machine is taken away: nvlaunch was asked to end by a signal that says so.
    Preempted {
        /// Which signal.
        signal: i32,
        /// The checkpoint that appeared after it, where one did.
        saved: Option<ResumePoint>,
    },
    /// Every rank ended with 0, and the job was not done.
    Unfinished {
        /// Why that is known, in a clause.
        why: String,
    },
    /// The first attempt was not started.
    Refused {
        /// Why, in a clause.
        why: String,
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

impl Policy {
    /// Whether an attempt can follow this one at all.
    pub fn may_restart_after(&self, attempt: u32) -> bool {
        if self.restart.by_progress { self.max_restarts > 0 } else { attempt < self.max_restarts }
    }

    /// How long the ranks have to save where the machine is taken away now.
    ///
    /// The end that the scheduler announced shortens it, but never below the grace of an ordinary
    /// request; one that has passed is none. Slurm sends its SIGTERM at the time limit or after it, and
    /// leaves `KillWait` (`slurm.conf(5)`).
    pub fn time_to_save(&self, now: Now) -> Option<Duration> {
        let preemption = self.preemption.as_ref()?;
        let plain = preemption.grace.max(self.hurried_grace);
        let left = preemption.ends_at.map(|at| at.saturating_sub(now));
        let left = left.filter(|left| !left.is_zero()).map(|left| left.max(self.grace));
        Some(left.map_or(plain, |left| plain.min(left)))
    }
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
