//! What happened, for people ([`text`]) and for machines (the same values as JSON).
//!
//! [`Report`] is computed from an ended run; nothing here starts, waits or writes.
//!
//! - P1: the suspect is the rank that failed first; everything after it is a consequence (S6).
//! - P2: a cause is named only with its evidence.
//! - P3: what was lost (output, files) is counted and said.

pub mod hints;
#[cfg(test)]
mod tests;
pub mod text;

use std::path::PathBuf;

use serde::Serialize;

use crate::checkpoint::choose::Point;
use crate::diagnose::class::Class;
use crate::diagnose::error_file::ScriptError;
use crate::diagnose::exit::{Exit, signal_name};
use crate::diagnose::missing::Account;
use crate::diagnose::oom::Oom;
use crate::diagnose::secrets::scrub;
use crate::exit_code;
use crate::logs::RankTail;
use crate::logs::losses::Losses;
use crate::preflight::finding::{Code, Finding, Severity};
use crate::preflight::{Judgement, Verdict};
use crate::store::Refusals;
use crate::supervise::core::{AttemptRecord, RankRecord};
use crate::supervise::event::{Decision, Outcome, ResumePoint};
use crate::supervise::family::Leftover;
use crate::supervise::runtime::Ended;
use crate::supervise::warm_start::WarmTimes;

/// Version of the JSON form.
pub const VERSION: u32 = 1;

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// [`VERSION`]
    pub version: u32,
    /// `NVLAUNCH_RUN_ID`
    pub run: String,
    /// Name of the machine it ran on.
    pub host: String,
    /// How it ended.
    pub outcome: Outcome,
    /// nvlaunch's exit code.
    pub exit_code: u8,
    /// Seconds from the first start to the end, suspended time not counted.
    pub seconds: f64,
    /// Ranks of the job.
    pub world_size: u32,
    /// What each rank runs, for people.
    pub program: String,
    /// The rank that failed first in the last attempt.
    pub failure: Option<Failure>,
    /// What became of the other ranks of the last attempt.
    pub others: Vec<Other>,
    /// What was decided after the failure of the last attempt; `None` where there was none, or no
    /// restart was allowed.
    pub decision: Option<Decided>,
    /// What the last attempt resumed from; `None` is the beginning.
    pub resumed_from: Option<ResumePoint>,
    /// The attempts before the last.
    pub past: Vec<PastAttempt>,
    /// Why the job was not done although every rank ended with 0, a clause.
    pub suspicious: Option<String>,
    /// The newest whole checkpoint that appeared after the ranks were asked to save.
    pub saved: Option<ResumePoint>,
    /// What came of `--requeue`.
    pub requeue: Option<Requeue>,
    /// Whom the others waited for when the last attempt began to end.
    pub missing: Option<Account>,
    /// Clients that the store refused, where nvlaunch served it and refused some.
    pub refusals: Option<Refusals>,
    /// Processes that outlived their rank and were ended.
    pub leftovers: Vec<Leftover>,
    /// Processes that could not be ended.
    pub stuck: Vec<Stuck>,
    /// Who asked nvlaunch to end.
    pub asked: Vec<AskedBy>,
    /// Output that could not be shown or kept.
    pub losses: Option<Losses>,
    /// Where files are, if any are kept.
    pub run_dir: Option<PathBuf>,
    /// What preflight saw before the job; `None` where it did not look.
    pub preflight: Option<Preflight>,
    /// How long warm ranks took to their scripts, by attempt; empty where none was warm.
    pub warm: Vec<WarmTimes>,
    /// What to try, most helpful first.
    pub hints: Vec<String>,
}

/// What preflight saw before the job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preflight {
    /// What it said of the machine.
    pub verdict: Verdict,
    /// The backend that the ranks were given.
    pub backend: String,
    /// What was found, causes first.
    pub findings: Vec<Found>,
    /// The name for `--compat` that would help a script which insists on CUDA.
    #[serde(skip)]
    pub compat: Option<&'static str>,
    /// Whether the ranks' devices are those that `PyTorch` calls `cuda`.
    #[serde(skip)]
    pub is_for_cuda: bool,
}

/// A finding of preflight, in brief.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// Its code.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// One line.
    pub summary: String,
}

impl From<&Judgement> for Preflight {
    fn from(judgement: &Judgement) -> Self {
        let found = |finding: &Finding| Found {
            code: finding.code.clone(),
            severity: finding.severity,
            summary: finding.summary.clone(),
        };
        Self {
            verdict: judgement.verdict,
            backend: judgement.backend.name.clone(),
            findings: judgement.findings.iter().map(found).collect(),
            compat: judgement.compat,
            is_for_cuda: judgement.is_for_cuda(),
        }
    }
}

/// The first failure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    /// Global rank.
    pub rank: u32,
    /// Local rank.
    pub local_rank: u32,
    /// Process id.
    pub pid: Option<i32>,
    /// Number of the attempt.
    pub attempt: u32,
    /// How the process ended.
    pub exit: Exit,
    /// The same in words.
    pub words: String,
    /// Seconds from the start of its attempt.
    pub after: f64,
    /// The kernel's evidence of an OOM kill.
    pub oom: Option<Oom>,
    /// What the script said through `@record`.
    pub script_error: Option<ScriptError>,
    /// The last lines of stdout.
    pub stdout: Vec<String>,
    /// The last lines of stderr.
    pub stderr: Vec<String>,
}

/// Another rank of the last attempt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Other {
    /// Global rank.
    pub rank: u32,
    /// Process id, where it was started.
    pub pid: Option<i32>,
    /// How it ended; `None` where it did not.
    pub exit: Option<Exit>,
    /// What became of it.
    pub words: String,
    /// Seconds after the first failure (or request to end); `None` where it ended before.
    pub later: Option<f64>,
}

/// An attempt that was followed by another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PastAttempt {
    /// Its number.
    pub attempt: u32,
    /// The global rank that failed first; `None` where all ended with 0.
    pub rank: Option<u32>,
    /// How.
    pub words: String,
    /// Seconds from the start of the attempt.
    pub after: f64,
    /// What it resumed from; `None` is the beginning.
    pub resumed_from: Option<ResumePoint>,
    /// What was decided then.
    pub decision: Option<Decided>,
}

/// What was found out about a failure, and what follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decided {
    /// What kind of failure it was.
    pub class: Class,
    /// The words that rests on.
    pub because: String,
    /// How far the job had come; `None` where that is not known.
    pub progress: Option<u64>,
    /// Whether the job was to start again.
    pub restart: bool,
    /// Why, a clause.
    pub why: String,
}

impl Decided {
    fn of(attempt: &AttemptRecord) -> Option<Self> {
        let (assessment, decision) = attempt.decision.as_ref()?;
        let (restart, why) = match decision {
            Decision::Restart { why, .. } => (true, why),
            Decision::Final { why } => (false, why),
        };
        Some(Self {
            class: assessment.class,
            because: scrub(&assessment.why),
            progress: assessment.progress,
            restart,
            why: scrub(why),
        })
    }
}

/// The Slurm job was to be put back into its queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Requeue {
    /// Whether it was.
    pub done: bool,
    /// What came of it, one line.
    pub words: String,
}

/// A process that could not be ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stuck {
    /// Global rank.
    pub rank: u32,
    /// Process id.
    pub pid: i32,
    /// Its state, as `ps` shows it.
    pub state: char,
    /// The kernel function it sleeps in.
    pub waits_in: Option<String>,
}

/// A request to end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AskedBy {
    /// `SIGTERM`
    pub signal: String,
    /// Sender's process id, where the kernel named it.
    pub pid: Option<i32>,
    /// Sender's name.
    pub name: Option<String>,
    /// Seconds from the start of supervision.
    pub at: f64,
}

/// What the report needs besides the ended run.
#[derive(Debug)]
pub struct Context {
    /// `NVLAUNCH_RUN_ID`
    pub run: String,
    /// Name of the machine it ran on.
    pub host: String,
    /// Global rank of each local rank.
    pub ranks: Vec<u32>,
    /// Ranks of the job.
    pub world_size: u32,
    /// What each rank runs, for people.
    pub program: String,
    /// Evidence about the suspect.
    pub oom: Option<Oom>,
    /// `--max-restarts`
    pub max_restarts: u32,
    /// What the suspect's script said.
    pub script_error: Option<ScriptError>,
    /// Where files are, if they are kept.
    pub run_dir: Option<PathBuf>,
    /// Output that was lost.
    pub losses: Option<Losses>,
    /// What preflight saw before the job.
    pub preflight: Option<Preflight>,
}

/// The exit code of an outcome: the one place that maps them.
pub fn exit_code(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Completed => exit_code::OK,
        Outcome::Failed { exit, .. } => exit.as_exit_code(),
        Outcome::Stopped { signal } => exit_code::of_signal(*signal),
        Outcome::CannotStart { exec: true, .. } => exit_code::NOT_EXECUTABLE,
        Outcome::CannotStart { exec: false, .. } => exit_code::OS,
        Outcome::Preempted { .. } => exit_code::PREEMPTED,
        Outcome::Unfinished { .. } => exit_code::UNFINISHED,
        Outcome::Refused { .. } => exit_code::UNAVAILABLE,
        Outcome::Stuck { .. } => exit_code::STUCK,
    }
}

impl Report {
    /// Puts together what is known.
    pub fn build(ended: &Ended, cx: Context) -> Self {
        let last = ended.core.attempt();
        let rank_of = |local: u32| cx.ranks.get(local as usize).copied().unwrap_or(local);
        let suspect = last.suspect;
        let failure = suspect.and_then(|local| {
            let tail = ended.output.tails.get(local as usize);
            Failure::of(last, local, rank_of(local), tail, cx.oom, cx.script_error)
        });
        // What the other ranks' ends are measured from.
        let turn = suspect
            .and_then(|local| last.ranks[local as usize].ended)
            .map(|(_, at)| at)
            .or_else(|| ended.asked.first().map(|asked| asked.at));
        let all = (0u32..).zip(&last.ranks).filter(|(local, _)| Some(*local) != suspect);
        let others = all
            .map(|(local, record)| Other {
                rank: rank_of(local),
                pid: record.pid,
                exit: record.ended.map(|(exit, _)| exit),
                words: words_for(record),
                later: record
                    .ended
                    .zip(turn)
                    .and_then(|((_, at), turn)| at.checked_sub(turn))
                    .map(|later| later.as_secs_f64()),
            })
            .collect();
        let past = ended.core.past().iter().filter_map(|a| PastAttempt::of(a, rank_of)).collect();
        let stuck = ended.stuck.iter().map(|s| Stuck {
            rank: rank_of(s.rank),
            pid: s.pid,
            state: s.state,
            waits_in: s.waits_in.clone(),
        });
        let asked = ended.asked.iter().map(|a| AskedBy {
            signal: signal_name(a.signal),
            pid: a.from.as_ref().map(|(pid, _)| *pid),
            name: a.from.as_ref().map(|(_, name)| name.clone()).filter(|name| !name.is_empty()),
            at: a.at.as_secs_f64(),
        });
        let mut report = Self {
            version: VERSION,
            run: cx.run,
            host: cx.host,
            exit_code: exit_code(&ended.outcome),
            outcome: ended.outcome.clone(),
            seconds: ended.took.as_secs_f64(),
            world_size: cx.world_size,
            program: cx.program,
            failure,
            others,
            decision: Decided::of(last).filter(|_| cx.max_restarts > 0),
            resumed_from: last.resume.clone(),
            past,
            suspicious: last.unfinished.clone(),
            saved: match &ended.outcome {
                Outcome::Preempted { saved: Some(saved), .. } => Some(saved.clone()),
                _ => ended.saved.as_ref().map(Point::to_resume),
            },
            requeue: None,
            missing: ended.missing.clone(),
            refusals: ended.refusals.clone().filter(Refusals::is_worth_a_line),
            leftovers: ended.leftovers.clone(),
            stuck: stuck.collect(),
            asked: asked.collect(),
            losses: cx.losses,
            run_dir: cx.run_dir,
            preflight: cx.preflight,
            warm: ended.warm.clone(),
            hints: Vec::new(),
        };
        report.hints = hints::hints(&report);
        report
    }
}

impl Failure {
    fn of(
        attempt: &AttemptRecord,
        local_rank: u32,
        rank: u32,
        tail: Option<&RankTail>,
        oom: Option<Oom>,
        script_error: Option<ScriptError>,
    ) -> Option<Self> {
        let record = &attempt.ranks[local_rank as usize];
        let (exit, at) = record.ended?;
        let lines = |lines: &[Vec<u8>]| -> Vec<String> {
            lines.iter().map(|line| scrub(&String::from_utf8_lossy(line))).collect()
        };
        let words = match &oom {
            Some(Oom::Logged { .. }) if exit == Exit::Signal(nix::libc::SIGKILL) => {
                "killed by the kernel's OOM killer".to_owned()
            }
            Some(Oom::Logged { .. }) => {
                format!("{exit}, because the kernel's OOM killer killed a worker of it")
            }
            Some(Oom::Counted { .. }) => {
                format!("{exit}, while the OOM killer was at work in the job's cgroup")
            }
            None => exit.to_string(),
        };
        Some(Self {
            rank,
            local_rank,
            pid: record.pid,
            attempt: attempt.number,
            exit,
            words,
            after: at.saturating_sub(attempt.began).as_secs_f64(),
            oom,
            script_error,
            stdout: tail.map(|t| lines(&t.stdout)).unwrap_or_default(),
            stderr: tail.map(|t| lines(&t.stderr)).unwrap_or_default(),
        })
    }
}

impl PastAttempt {
    fn of(attempt: &AttemptRecord, rank_of: impl Fn(u32) -> u32) -> Option<Self> {
        let ends = attempt.ranks.iter().filter_map(|rank| rank.ended);
        let (exit, at) = match attempt.suspect {
            Some(suspect) => attempt.ranks[suspect as usize].ended?,
            None => ends.max_by_key(|(_, at)| *at)?,
        };
        Some(Self {
            attempt: attempt.number,
            rank: attempt.suspect.map(rank_of),
            words: exit.to_string(),
            after: at.saturating_sub(attempt.began).as_secs_f64(),
            resumed_from: attempt.resume.clone(),
            decision: Decided::of(attempt),
        })
    }
}

/// What became of a rank that was not the first to fail.
fn words_for(record: &RankRecord) -> String {
    match (record.ended.map(|(exit, _)| exit), record.told, record.killed_at) {
        (None, ..) if record.pid.is_none() => "was not started".to_owned(),
        (None, ..) => "did not end".to_owned(),
        (Some(Exit::Signal(nix::libc::SIGKILL)), Some((told, at)), Some(killed)) => {
            let waited = text::seconds(killed.saturating_sub(at).as_secs_f64());
            format!("killed {waited} after nvlaunch's {}", signal_name(told))
        }
        (Some(Exit::Signal(signal)), Some((told, _)), _) if signal == told => {
            format!("ended by nvlaunch's {}", signal_name(told))
        }
        (Some(exit), Some((told, _)), _) => {
            format!("{exit} after nvlaunch's {}", signal_name(told))
        }
        (Some(exit), None, _) => exit.to_string(),
    }
}
