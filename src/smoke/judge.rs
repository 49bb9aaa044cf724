//! From what the ranks said and how they ended to a verdict, with every check and time.

use serde::Serialize;

use super::cause::{failed, farthest, hung, unfinished, wrong};
use super::track::{Outcome, Track};
use super::{FIRST_COLLECTIVE, IMPORT, INIT, STEPS};
use crate::diagnose::exit::{Exit, signal_name};
use crate::diagnose::missing::Account;

/// What came of the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything that could be checked is right.
    Passed,
    /// Something is wrong; [`Judgement::cause`] says what.
    Failed,
    /// Preflight refuses the machine, and no rank was started.
    Refused,
    /// Somebody ended the test before it was over.
    Interrupted,
}

/// How the launch ended.
#[derive(Debug, Clone, PartialEq)]
pub enum How {
    /// Every rank ended with 0.
    Completed,
    /// This rank failed first.
    Failed {
        /// Its number.
        rank: u32,
        /// How, in words.
        words: String,
    },
    /// Time was up.
    Limit {
        /// `--timeout`, in seconds.
        seconds: f64,
    },
    /// Somebody asked nvlaunch to end, by this signal.
    Asked(i32),
    /// No rank could be started, or one could not be ended; in words.
    Other(String),
}

/// A rank at the end, or at the limit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rank {
    /// Its number.
    pub rank: u32,
    /// Its process.
    pub pid: Option<i32>,
    /// How it ended, where it did so by itself.
    pub exit: Option<Exit>,
    /// What it said.
    pub track: Track,
    /// What was seen of its process at the limit.
    pub look: Option<Look>,
    /// Its last lines on stderr, else on stdout.
    pub last_lines: Vec<String>,
}

/// A process at the limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// `R`, `S`, `D`, `T`, …
    pub state: char,
    /// The kernel function it sleeps in.
    pub waits_in: Option<String>,
    /// The frames of its main thread, the innermost first; empty where it did not answer.
    pub stack: Vec<String>,
}

/// Everything that is known.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The ranks, in order.
    pub ranks: Vec<Rank>,
    /// Who was missing, as the store saw it.
    pub account: Option<Account>,
    /// What is wrong with the address of the meeting, where that is known.
    pub address: Option<String>,
    /// What helps, from the report of the launch.
    pub hints: Vec<String>,
}

/// What follows.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// In a word.
    pub verdict: Verdict,
    /// Every check, in order.
    pub checks: Vec<Check>,
    /// How long the beginning took.
    pub times: Times,
    /// `all_reduce` by size.
    pub bandwidth: Vec<Bandwidth>,
    /// Why it did not pass.
    pub cause: Option<Cause>,
    /// The version of `PyTorch`, where a rank said it.
    pub torch: Option<String>,
    /// The version of Python.
    pub python: Option<String>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// Its name: `preflight`, `launch`, or one of [`STEPS`].
    pub name: String,
    /// What came of it.
    pub status: Status,
    /// The slowest rank's time in seconds, where it was done.
    pub seconds: Option<f64>,
    /// Why it failed or was not done.
    pub message: Option<String>,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is right on all ranks.
    Passed,
    /// It is not.
    Failed,
    /// It cannot be done here.
    Skipped,
    /// Something failed before.
    NotRun,
}

/// How long the beginning took, the slowest rank's time in seconds each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Times {
    /// `import torch`
    pub import: Option<f64>,
    /// `init_process_group`
    pub init: Option<f64>,
    /// The first collective, which sets up what NCCL sets up late.
    pub first_collective: Option<f64>,
}

/// `all_reduce` of one size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bandwidth {
    /// Bytes of the tensor.
    pub bytes: u64,
    /// The slowest rank's mean, in seconds.
    pub seconds: f64,
    /// Bytes per second times 2(n-1)/n, as nccl-tests have it: what a link carries, whatever the
    /// number of ranks. `None` with one rank.
    pub bus: Option<f64>,
}

/// Why the test did not pass.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cause {
    /// In a line.
    pub what: String,
    /// The check it happened in.
    pub step: String,
    /// The ranks that it lies with; empty where that cannot be said.
    pub ranks: Vec<u32>,
    /// The ranks that wait for them.
    pub waiting: Vec<u32>,
    /// What it rests on, a line each.
    pub lines: Vec<String>,
    /// Python stacks of ranks that hang.
    pub stacks: Vec<Stack>,
    /// What helps.
    pub hints: Vec<String>,
}

/// Where a rank hangs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stack {
    /// The rank.
    pub rank: u32,
    /// Its frames, the innermost first.
    pub frames: Vec<String>,
}

/// Decides.
pub fn judge(how: &How, evidence: &Evidence) -> Judgement {
    let cause = match how {
        How::Completed => unfinished(evidence).or_else(|| wrong(evidence)),
        How::Failed { rank, words } => Some(failed(*rank, words, evidence)),
        How::Limit { seconds } => Some(hung(*seconds, evidence)),
        How::Asked(signal) => Some(Cause {
            what: format!("ended by {}", signal_name(*signal)),
            step: farthest(evidence),
            ..Cause::default()
        }),
        How::Other(words) => Some(Cause {
            what: words.clone(),
            step: "launch".to_owned(),
            hints: evidence.hints.clone(),
            ..Cause::default()
        }),
    };
    let verdict = match (how, &cause) {
        (_, None) => Verdict::Passed,
        (How::Asked(_), _) => Verdict::Interrupted,
        _ => Verdict::Failed,
    };
    let first = |of: fn(&Track) -> &Option<String>| {
        evidence.ranks.iter().find_map(|rank| of(&rank.track).clone())
    };
    Judgement {
        verdict,
        checks: checks(evidence, verdict, cause.as_ref()),
        times: Times {
            import: slowest(evidence, IMPORT),
            init: slowest(evidence, INIT),
            first_collective: slowest(evidence, FIRST_COLLECTIVE),
        },
        bandwidth: bandwidth(evidence),
        cause,
        torch: first(|track| &track.torch),
        python: first(|track| &track.python),
    }
}

/// The judgement where no rank was started: `what` with `hints`, in the check called `step`.
pub fn not_started(verdict: Verdict, step: &str, what: &str, hints: Vec<String>) -> Judgement {
    let cause = Cause { what: what.to_owned(), step: step.to_owned(), hints, ..Cause::default() };
    Judgement {
        verdict,
        checks: checks(&Evidence::default(), verdict, Some(&cause)),
        times: Times::default(),
        bandwidth: Vec::new(),
        cause: Some(cause),
        torch: None,
        python: None,
    }
}

fn checks(evidence: &Evidence, verdict: Verdict, cause: Option<&Cause>) -> Vec<Check> {
    let check = |name: &str, status, seconds, message| Check {
        name: name.to_owned(),
        status,
        seconds,
        message,
    };
    let of_cause = |name: &str| cause.filter(|cause| cause.step == name);
    let mut checks = Vec::new();
    for name in ["preflight", "launch"] {
        let is_after = cause.is_some_and(|cause| cause.step == "preflight") && name == "launch";
        checks.push(match of_cause(name) {
            Some(cause) => check(name, Status::Failed, None, Some(cause.what.clone())),
            None if is_after => check(name, Status::NotRun, None, None),
            None => check(name, Status::Passed, None, None),
        });
    }
    for &name in STEPS {
        let steps: Vec<_> = evidence
            .ranks
            .iter()
            .filter_map(|rank| {
                let step = rank.track.steps.iter().find(|step| step.name == name)?;
                Some((rank.rank, &step.result))
            })
            .collect();
        let seconds = slowest(evidence, name);
        let wrong = steps.iter().find_map(|(rank, result)| match result {
            Outcome::Wrong(words) => Some(format!("rank {rank}: {words}")),
            _ => None,
        });
        let skipped = steps.iter().find_map(|(_, result)| match result {
            Outcome::Skipped(why) => Some(why.clone()),
            _ => None,
        });
        let is_whole = steps.len() == evidence.ranks.len() && !steps.is_empty();
        // Who was ended by somebody has failed in nothing.
        let cause = of_cause(name).filter(|_| verdict != Verdict::Interrupted);
        checks.push(match (wrong, cause) {
            (Some(wrong), _) => check(name, Status::Failed, seconds, Some(wrong)),
            (None, Some(cause)) => check(name, Status::Failed, None, Some(cause.what.clone())),
            _ if !is_whole => check(name, Status::NotRun, None, None),
            _ if skipped.is_some() => check(name, Status::Skipped, None, skipped),
            _ => check(name, Status::Passed, seconds, None),
        });
    }
    checks
}

/// The slowest rank's time for a step, where one has done it.
fn slowest(evidence: &Evidence, name: &str) -> Option<f64> {
    let steps = evidence.ranks.iter().flat_map(|rank| &rank.track.steps);
    let times = steps.filter(|step| step.name == name).map(|step| step.seconds);
    times.reduce(f64::max)
}

fn bandwidth(evidence: &Evidence) -> Vec<Bandwidth> {
    let Some(first) = evidence.ranks.first() else { return Vec::new() };
    let of_all = |bytes: u64| {
        let each = evidence.ranks.iter().map(|rank| {
            let timing = rank.track.timings.iter().find(|timing| timing.bytes == bytes)?;
            Some(timing.seconds)
        });
        each.collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::max)
    };
    let sizes = first.track.timings.iter().map(|timing| timing.bytes);
    let found = sizes.filter_map(|bytes| {
        let seconds = of_all(bytes)?;
        Some(Bandwidth { bytes, seconds, bus: bus(bytes, seconds, evidence.ranks.len()) })
    });
    found.collect()
}

/// Bytes per second on a link; `None` with one rank, or where the clock saw no time.
#[expect(clippy::cast_precision_loss, reason = "of 16 GiB and a few thousand ranks, for eyes")]
fn bus(bytes: u64, seconds: f64, ranks: usize) -> Option<f64> {
    let ranks = ranks as f64;
    (ranks > 1.0 && seconds > 0.0).then(|| bytes as f64 / seconds * 2.0 * (ranks - 1.0) / ranks)
}
