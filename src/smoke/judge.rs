//! From what the ranks said and how they ended to a verdict and one cause (Q2 to Q4).

use serde::Serialize;

use super::track::{Outcome, Track};
use super::{FIRST_COLLECTIVE, IMPORT, INIT, STEPS, stack};
use crate::diagnose::exit::{Exit, signal_name};
use crate::diagnose::missing::Account;
use crate::layout::plain;
use crate::logs::fold::ranges;
use crate::report::text::seconds;

/// The most ranks that are shown one by one.
const MOST_SHOWN: usize = 4;
/// The most lines of an error's text after its first.
const MOST_LINES: usize = 6;
/// As much of one line of an error, in characters.
const LINE_WIDTH: usize = 300;

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
    /// The version of PyTorch, where a rank said it.
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

/// A rank that ended with 0 and was not done.
fn unfinished(evidence: &Evidence) -> Option<Cause> {
    let early: Vec<&Rank> = evidence.ranks.iter().filter(|rank| !rank.track.is_done).collect();
    let first = early.first()?;
    Some(Cause {
        what: format!(
            "{} ended with exit code 0 {}, before the test was over",
            named(&numbers(&early)),
            first.track.place()
        ),
        step: failing_step(&first.track),
        ranks: numbers(&early),
        lines: said(first),
        ..Cause::default()
    })
}

/// Values that are not as they should be: the first such step, with every rank that saw it.
fn wrong(evidence: &Evidence) -> Option<Cause> {
    let of = |name: &str| -> Vec<(u32, &str)> {
        let ranks = evidence.ranks.iter().filter_map(|rank| {
            let step = rank.track.steps.iter().find(|step| step.name == name)?;
            match &step.result {
                Outcome::Wrong(words) => Some((rank.rank, words.as_str())),
                _ => None,
            }
        });
        ranks.collect()
    };
    let all: Vec<(&str, Vec<(u32, &str)>)> =
        STEPS.iter().map(|name| (*name, of(name))).filter(|(_, ranks)| !ranks.is_empty()).collect();
    let (step, ranks) = all.first()?;
    let numbers: Vec<u32> = ranks.iter().map(|(rank, _)| *rank).collect();
    let each = ranks.iter().take(MOST_SHOWN).map(|(rank, words)| format!("rank {rank}: {words}"));
    let mut lines: Vec<String> = each.collect();
    if let [_, others @ ..] = &all[..]
        && !others.is_empty()
    {
        let others: Vec<String> = others.iter().map(|(name, _)| format!("`{name}`")).collect();
        lines.push(format!("wrong as well: {}", others.join(", ")));
    }
    Some(Cause {
        what: format!("`{step}` gives wrong values on {}", named(&numbers)),
        step: (*step).to_owned(),
        ranks: numbers,
        lines,
        ..Cause::default()
    })
}

fn failed(number: u32, words: &str, evidence: &Evidence) -> Cause {
    let unknown = Rank { rank: number, ..Rank::default() };
    let rank = evidence.ranks.iter().find(|rank| rank.rank == number).unwrap_or(&unknown);
    let step = failing_step(&rank.track);
    let mut lines = Vec::new();
    let what = if let Some(error) = &rank.track.error {
        let mut text = error.lines().map(line).filter(|line| !line.is_empty());
        let first = text.next().unwrap_or_default();
        lines.extend(text.take(MOST_LINES));
        format!("rank {number} failed in `{step}`: {first}")
    } else {
        lines.extend(said(rank));
        let pid = rank.pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
        let verb =
            if matches!(rank.exit, Some(Exit::Code(_))) { "ended with" } else { "was ended by" };
        format!("rank {number}{pid} {verb} {words} {}", rank.track.place())
    };
    let waiting = others(evidence, &[number]);
    if !waiting.is_empty() {
        let were = if waiting.len() == 1 { "was" } else { "were" };
        lines.push(format!("{} {were} {}", named(&waiting), place_of(&waiting, evidence)));
    }
    lines.extend(wrong_before(evidence));
    if step == INIT {
        lines.extend(evidence.address.clone());
        lines.extend(evidence.account.iter().flat_map(|account| account.lines.clone()));
    }
    Cause {
        what,
        step,
        ranks: vec![number],
        waiting,
        lines,
        stacks: Vec::new(),
        hints: evidence.hints.clone(),
    }
}

/// Time was up: who keeps the others waiting (Q4).
fn hung(limit: f64, evidence: &Evidence) -> Cause {
    let after = seconds(limit);
    let ranks = &evidence.ranks;
    let ended: Vec<&Rank> =
        ranks.iter().filter(|rank| rank.exit.is_some() && !rank.track.is_done).collect();
    if let Some(first) = ended.first() {
        let exit = first.exit.map_or(String::new(), |exit| exit.to_string());
        let place = first.track.place();
        let what = format!("{} ended with {exit} {place}", named(&numbers(&ended)));
        let mut cause = hang(what, &ended, evidence);
        cause.lines.extend(said(first));
        return cause;
    }
    let in_state = |states: &'static str| -> Vec<&Rank> {
        let is = |rank: &&Rank| rank.look.as_ref().is_some_and(|look| states.contains(look.state));
        ranks.iter().filter(is).collect()
    };
    let stopped = in_state("Tt");
    if let Some(first) = stopped.first() {
        let pids: Vec<String> =
            stopped.iter().filter_map(|rank| Some(rank.pid?.to_string())).collect();
        let is = if stopped.len() == 1 { "is" } else { "are" };
        let what = format!(
            "{} {is} stopped (state T, pid {}) {}",
            named(&numbers(&stopped)),
            pids.join(", "),
            first.track.place()
        );
        let hint = format!("`kill -CONT {}` lets it go on", pids.join(" "));
        return Cause { hints: vec![hint], ..hang(what, &stopped, evidence) };
    }
    let in_kernel = in_state("D");
    if let Some(first) = in_kernel.first() {
        let place = first.look.as_ref().and_then(|look| look.waits_in.clone());
        let place = place.map_or(String::new(), |place| format!(" in {place}"));
        let what = format!(
            "{} waits for a device or a file system (state D{place}) {}",
            named(&numbers(&in_kernel)),
            first.track.place()
        );
        return hang(what, &in_kernel, evidence);
    }
    let blamed = behind(evidence);
    let place = blamed.first().map_or(String::new(), |rank| rank.track.place());
    let hangs = if blamed.len() == 1 { "hangs" } else { "hang" };
    let who = match blamed.len() {
        count if count == ranks.len() && count > 1 => format!("all {count} ranks"),
        _ => named(&numbers(&blamed)),
    };
    let mut cause = hang(format!("{who} {hangs} {place} after {after}"), &blamed, evidence);
    cause.hints.push("a machine that is only slow needs a longer --timeout".to_owned());
    if let Some(address) = evidence.address.as_ref().filter(|_| cause.step == INIT) {
        cause.what = format!("{address}; {}", cause.what);
        // A longer wait helps nobody.
        cause.hints.pop();
    }
    cause
}

/// The ranks that the others wait for; all where nothing tells them apart.
fn behind(evidence: &Evidence) -> Vec<&Rank> {
    let all: Vec<&Rank> = evidence.ranks.iter().filter(|rank| !rank.track.is_done).collect();
    let least = all.iter().map(|rank| rank.track.progress()).min().unwrap_or(0);
    let last: Vec<&Rank> =
        all.iter().copied().filter(|rank| rank.track.progress() == least).collect();
    if last.len() < all.len() {
        return last;
    }
    let is_init = last.first().is_some_and(|rank| rank.track.current.as_deref() == Some(INIT));
    let missing = evidence.account.iter().filter(|_| is_init).flat_map(|account| &account.missing);
    let missing: Vec<u32> = missing.map(|missing| missing.rank).collect();
    let unseen: Vec<&Rank> =
        last.iter().copied().filter(|rank| missing.contains(&rank.rank)).collect();
    if !unseen.is_empty() && unseen.len() < last.len() {
        return unseen;
    }
    let frames = |rank: &Rank| rank.look.as_ref().map_or(Vec::new(), |look| look.stack.clone());
    let elsewhere = |rank: &&&Rank| {
        let frames = frames(rank);
        !frames.is_empty() && !stack::waits_in_torch(&frames)
    };
    let odd: Vec<&Rank> = last.iter().filter(elsewhere).copied().collect();
    if !odd.is_empty() && odd.len() < last.len() { odd } else { last }
}

/// The cause that these ranks hang, with what there is to say of all such causes.
fn hang(what: String, blamed: &[&Rank], evidence: &Evidence) -> Cause {
    let ranks = numbers(blamed);
    let step = blamed.first().map_or_else(|| farthest(evidence), |rank| failing_step(&rank.track));
    let waiting = others(evidence, &ranks);
    let mut lines = Vec::new();
    if !waiting.is_empty() {
        let wait = if waiting.len() == 1 { "waits" } else { "wait" };
        lines.push(format!("{} {wait} {}", named(&waiting), place_of(&waiting, evidence)));
    }
    lines.extend(wrong_before(evidence));
    if step == INIT {
        lines.extend(evidence.account.iter().flat_map(|account| account.lines.clone()));
    }
    let mut stacks: Vec<Stack> = Vec::new();
    for rank in blamed {
        let frames = rank.look.as_ref().map_or(Vec::new(), |look| stack::shown(&look.stack));
        let is_new = stacks.iter().all(|known| known.frames != frames);
        if !frames.is_empty() && is_new && stacks.len() < 2 {
            stacks.push(Stack { rank: rank.rank, frames });
        }
    }
    Cause { what, step, ranks, waiting, lines, stacks, hints: evidence.hints.clone() }
}

/// Where the first of these ranks is.
fn place_of(ranks: &[u32], evidence: &Evidence) -> String {
    let rank = evidence.ranks.iter().find(|rank| ranks.first() == Some(&rank.rank));
    rank.map_or(String::new(), |rank| rank.track.place())
}

/// That values were wrong before something worse happened.
fn wrong_before(evidence: &Evidence) -> Option<String> {
    Some(format!("before that {}", wrong(evidence)?.what))
}

/// The ranks besides these that had not ended.
fn others(evidence: &Evidence, but: &[u32]) -> Vec<u32> {
    let waits =
        |rank: &&Rank| !but.contains(&rank.rank) && rank.exit.is_none() && !rank.track.is_done;
    evidence.ranks.iter().filter(waits).map(|rank| rank.rank).collect()
}

/// The step in which a rank is, or which it did not reach.
fn failing_step(track: &Track) -> String {
    let next = || STEPS.get(track.steps.len()).or(STEPS.last()).copied().unwrap_or_default();
    track.current.clone().unwrap_or_else(|| next().to_owned())
}

/// The step that some rank came to.
fn farthest(evidence: &Evidence) -> String {
    let first = evidence.ranks.iter().max_by_key(|rank| rank.track.progress());
    first.map_or_else(|| "launch".to_owned(), |rank| failing_step(&rank.track))
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

/// The last lines of a rank, as evidence.
fn said(rank: &Rank) -> Vec<String> {
    let lines = rank.last_lines.iter().map(|text| line(text)).filter(|text| !text.is_empty());
    let lines: Vec<String> = lines.collect();
    let from = lines.len().saturating_sub(MOST_LINES);
    lines[from..].iter().map(|line| format!("rank {} said: {line}", rank.rank)).collect()
}

fn line(text: &str) -> String {
    plain(text).chars().take(LINE_WIDTH).collect()
}

fn numbers(ranks: &[&Rank]) -> Vec<u32> {
    ranks.iter().map(|rank| rank.rank).collect()
}

/// `rank 3`, `ranks 0-2,5`
pub fn named(ranks: &[u32]) -> String {
    let word = if ranks.len() == 1 { "rank" } else { "ranks" };
    format!("{word} {}", ranges(ranks))
}
