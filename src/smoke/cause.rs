//! The one cause: which rank, in which step, and who waited for it (Q2 and Q4).

use super::judge::{Cause, Evidence, Rank, Stack};
use super::track::{Outcome, Track};
use super::{INIT, STEPS, stack};
use crate::diagnose::exit::Exit;
use crate::layout::plain;
use crate::logs::fold::ranges;
use crate::report::text::seconds;

/// The most ranks that are shown one by one.
const MOST_SHOWN: usize = 4;
/// The most lines of an error's text after its first.
const MOST_LINES: usize = 6;
/// As much of one line of an error, in characters.
const LINE_WIDTH: usize = 300;

/// A rank that ended with 0 and was not done.
pub(super) fn unfinished(evidence: &Evidence) -> Option<Cause> {
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
pub(super) fn wrong(evidence: &Evidence) -> Option<Cause> {
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

pub(super) fn failed(number: u32, words: &str, evidence: &Evidence) -> Cause {
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
pub(super) fn hung(limit: f64, evidence: &Evidence) -> Cause {
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
        2 if ranks.len() == 2 => "both ranks".to_owned(),
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
    let progress = all.iter().map(|rank| rank.track.progress()).min().unwrap_or(0);
    let last: Vec<&Rank> =
        all.iter().copied().filter(|rank| rank.track.progress() == progress).collect();
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
        !frames.is_empty() && !stack::may_wait(&frames)
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
pub(super) fn farthest(evidence: &Evidence) -> String {
    let first = evidence.ranks.iter().max_by_key(|rank| rank.track.progress());
    first.map_or_else(|| "launch".to_owned(), |rank| failing_step(&rank.track))
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
fn named(ranks: &[u32]) -> String {
    let word = if ranks.len() == 1 { "rank" } else { "ranks" };
    format!("{word} {}", ranges(ranks))
}
