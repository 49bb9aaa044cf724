//! The report as a person reads it: the one cause first, then its consequences, a line each.

use std::fmt::{self, Write as _};

use super::{Failure, Other, Report};
use crate::checkpoint::thousands;
use crate::diagnose::exit::signal_name;
use crate::diagnose::oom::Oom;
use crate::logs::fold::ranges;
use crate::logs::losses::{ConsoleLoss, Losses};
use crate::supervise::event::{Outcome, ResumePoint};

/// How many of the last lines are shown; the JSON report has them all.
const SHOWN_LINES: usize = 20;

/// How many leftovers are named one by one.
const SHOWN_LEFTOVERS: usize = 8;

/// Renders the report; empty where the run ended well and there is nothing to say.
///
/// `repeat_output` is false where the last lines stand right above, on the same terminal.
pub fn render(report: &Report, repeat_output: bool) -> String {
    let mut text = String::new();
    headline(report, &mut text);
    suspicious(report, &mut text);
    decision(report, &mut text);
    evidence(report, &mut text);
    missing(report, &mut text);
    past(report, &mut text);
    if repeat_output {
        last_lines(report, &mut text);
    }
    consequences(report, &mut text);
    leftovers(report, &mut text);
    refusals(report, &mut text);
    losses(report, &mut text);
    if !text.is_empty() {
        warm(report, &mut text);
    }
    if let Some(dir) = &report.run_dir
        && !text.is_empty()
    {
        let _ = writeln!(text, "  run folder: {}", dir.display());
    }
    for hint in &report.hints {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

fn headline(report: &Report, text: &mut String) {
    let _ = match (&report.outcome, &report.failure) {
        (Outcome::Completed, _) if report.past.is_empty() => Ok(()),
        (Outcome::Refused { why }, _) => writeln!(text, "nvlaunch: no rank was started: {why}"),
        (Outcome::Unfinished { why }, _) => {
            writeln!(text, "nvlaunch: every rank ended with 0, and the job was not done: {why}")
        }
        (Outcome::Preempted { signal, .. }, _) => {
            let from = report.asked.first().map(asked_by).unwrap_or_default();
            let (name, took) = (signal_name(*signal), seconds(report.seconds));
            let saved = match &report.saved {
                Some(point) => format!("{} was saved", point_words(point)),
                None => "nothing new was saved".to_owned(),
            };
            let _ = writeln!(text, "nvlaunch: preempted by {name}{from} after {took}: {saved}");
            match &report.failure {
                Some(failure) => failed_first(failure, text),
                None => Ok(()),
            }
        }
        (Outcome::Completed, _) => {
            let restarts = counted(report.past.len() as u64, "restart", "restarts");
            writeln!(text, "nvlaunch: completed after {restarts} and {}", seconds(report.seconds))
        }
        (Outcome::CannotStart { rank, reason, exec }, _) => {
            let what = if *exec { "cannot execute" } else { "cannot start" };
            let program = &report.program;
            writeln!(text, "nvlaunch: rank {rank} {what} `{program}`: {reason}")
        }
        (Outcome::Stopped { signal }, _) => {
            let from = report.asked.first().map(asked_by).unwrap_or_default();
            let name = signal_name(*signal);
            let took = seconds(report.seconds);
            writeln!(text, "nvlaunch: ended by {name}{from} after {took}")
        }
        (_, Some(failure)) => failed_first(failure, text),
        (_, None) => writeln!(text, "nvlaunch: the job did not end"),
    };
    for stuck in &report.stuck {
        let sleeps = stuck.waits_in.as_ref().map_or(String::new(), |f| format!(" in {f}"));
        let (rank, pid, state) = (stuck.rank, stuck.pid, stuck.state);
        let _ = writeln!(
            text,
            "nvlaunch: stuck: rank {rank} (pid {pid}) did not end after SIGKILL: state {state}{sleeps}"
        );
    }
    if let Outcome::Stuck { leftovers, .. } = report.outcome
        && leftovers > 0
    {
        let others = counted(u64::from(leftovers), "other process", "other processes");
        let _ = writeln!(text, "nvlaunch: stuck: {others} did not end");
    }
}

/// `nvlaunch: rank 1 failed first: exit code 3 (after 2 s, pid 7)`
fn failed_first(failure: &Failure, text: &mut String) -> fmt::Result {
    let pid = failure.pid.map_or(String::new(), |pid| format!(", pid {pid}"));
    let attempt = match failure.attempt {
        0 => String::new(),
        n => format!(", attempt {n}"),
    };
    writeln!(
        text,
        "nvlaunch: rank {} failed first: {} (after {}{attempt}{pid})",
        failure.rank,
        failure.words,
        seconds(failure.after),
    )
}

/// `/ckpt/step-40 (step 40)`
fn point_words(point: &ResumePoint) -> String {
    let step = point.step.map_or(String::new(), |step| format!(" (step {})", thousands(step)));
    format!("{}{step}", point.path)
}

/// A job that ended well, as far as the ranks say.
fn suspicious(report: &Report, text: &mut String) {
    if let (Outcome::Completed, Some(why)) = (&report.outcome, &report.suspicious) {
        let _ = writeln!(text, "nvlaunch: warning: every rank ended with 0, but {why}");
    }
}

/// Why the job is not started again.
fn decision(report: &Report, text: &mut String) {
    if matches!(report.outcome, Outcome::Completed) {
        return;
    }
    if let Some(decided) = report.decision.as_ref().filter(|decided| !decided.restart) {
        let _ = writeln!(text, "  not restarted: {}", decided.why);
    }
    if let Some(point) = &report.resumed_from {
        let _ = writeln!(text, "  it had resumed from {}", point_words(point));
    }
}

fn asked_by(asked: &super::AskedBy) -> String {
    match (asked.pid, &asked.name) {
        (Some(pid), Some(name)) => format!(" (from {name}, pid {pid})"),
        (Some(pid), None) => format!(" (from pid {pid})"),
        (None, _) => String::new(),
    }
}

fn evidence(report: &Report, text: &mut String) {
    match report.failure.as_ref().and_then(|failure| failure.oom.as_ref()) {
        Some(Oom::Logged { line }) => {
            let _ = writeln!(text, "  kernel log: {line}");
        }
        Some(Oom::Counted { kills }) => {
            let _ = writeln!(
                text,
                "  the job's memory cgroup counts {kills} OOM kills in this attempt"
            );
        }
        None => {}
    }
}

/// How long the warm ranks of the last attempt took.
fn warm(report: &Report, text: &mut String) {
    let Some(times) = report.warm.last() else { return };
    let known = times.fork_to_script.iter().flatten().copied();
    let least = known.clone().fold(f64::INFINITY, f64::min);
    let most = known.fold(0.0, f64::max);
    if most > 0.0 {
        let (least, most) = (seconds(least), seconds(most));
        let _ = writeln!(text, "  warm start: {least} to {most} from fork to script");
    }
}

/// Only where the run ended badly: a run that ended well waited for nobody in the end.
fn missing(report: &Report, text: &mut String) {
    if report.outcome == Outcome::Completed {
        return;
    }
    for line in report.missing.iter().flat_map(|account| &account.lines) {
        let _ = writeln!(text, "  {line}");
    }
}

/// Who was refused is no reason for a run to end, but what a full store kept from a rank may be.
fn refusals(report: &Report, text: &mut String) {
    let Some(refusals) = &report.refusals else { return };
    let all = counted(refusals.total(), "client", "clients");
    let _ = match refusals.examples.first() {
        Some(first) => writeln!(
            text,
            "nvlaunch: the store refused {all}; the first, {}: {}",
            first.peer, first.reason
        ),
        None => writeln!(text, "nvlaunch: the store was short of files for its clients"),
    };
}

fn past(report: &Report, text: &mut String) {
    for attempt in &report.past {
        let what = match attempt.rank {
            Some(rank) => format!("rank {rank} failed first: {}", attempt.words),
            None => "every rank ended with 0, too early".to_owned(),
        };
        let because = attempt.decision.as_ref().map_or("", |decided| &decided.because);
        let because = match because {
            "" => String::new(),
            words if *words == attempt.words => String::new(),
            words => format!(": {words}"),
        };
        let from = attempt.resumed_from.as_ref().and_then(|point| point.step);
        let from = from.map_or(String::new(), |step| format!(", from step {}", thousands(step)));
        let (number, after) = (attempt.attempt, seconds(attempt.after));
        let _ = writeln!(text, "  attempt {number}: {what} (after {after}{from}){because}");
    }
}

fn last_lines(report: &Report, text: &mut String) {
    let Some(failure) = &report.failure else { return };
    let traceback = failure.script_error.as_ref().map(|error| {
        let whole = error.traceback.as_deref().unwrap_or(&error.message);
        ("its error file says:", whole.lines().map(str::to_owned).collect::<Vec<_>>())
    });
    let (title, lines) = traceback.unwrap_or_else(|| {
        if failure.stderr.is_empty() {
            ("its last lines on stdout:", failure.stdout.clone())
        } else {
            ("its last lines on stderr:", failure.stderr.clone())
        }
    });
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "  {title}");
    let skipped = lines.len().saturating_sub(SHOWN_LINES);
    if skipped > 0 {
        let _ = writeln!(text, "    … {skipped} lines before");
    }
    for line in &lines[skipped..] {
        let printable = |c: &char| *c == '\t' || !c.is_control();
        let plain = anstream::adapter::strip_str(line).to_string();
        let line: String = plain.chars().filter(printable).collect();
        let _ = writeln!(text, "    {}", line.trim_end());
    }
}

/// One line for all ranks of which the same is to be said.
fn consequences(report: &Report, text: &mut String) {
    let quiet = matches!(
        report.outcome,
        Outcome::Completed
            | Outcome::CannotStart { .. }
            | Outcome::Unfinished { .. }
            | Outcome::Refused { .. }
    );
    if quiet || report.others.is_empty() {
        return;
    }
    let mut groups: Vec<(&str, Vec<&Other>)> = Vec::new();
    for other in &report.others {
        match groups.iter_mut().find(|(words, _)| *words == other.words) {
            Some((_, group)) => group.push(other),
            None => groups.push((&other.words, vec![other])),
        }
    }
    for (words, group) in groups {
        let ranks: Vec<u32> = group.iter().map(|other| other.rank).collect();
        let name = if ranks.len() == 1 { "rank" } else { "ranks" };
        let latest = group
            .iter()
            .filter_map(|other| other.later)
            .fold(None, |a: Option<f64>, b| Some(a.map_or(b, |a| a.max(b))));
        let when = latest.map_or(String::new(), |s| format!(", {} later", seconds(s)));
        let _ = writeln!(text, "  then {name} {}: {words}{when}", ranges(&ranks));
    }
}

fn leftovers(report: &Report, text: &mut String) {
    let count = report.leftovers.len();
    if count == 0 {
        return;
    }
    let what = counted(count as u64, "leftover process was", "leftover processes were");
    let start = if text.is_empty() { "nvlaunch: " } else { "  " };
    let _ = writeln!(text, "{start}{what} ended:");
    for leftover in report.leftovers.iter().take(SHOWN_LEFTOVERS) {
        let rank = leftover.rank.map_or(String::new(), |rank| format!(" of rank {rank}"));
        let command: String = leftover.command.chars().take(60).collect();
        let signal = signal_name(leftover.signal);
        let _ = writeln!(text, "    pid {}{rank}, {signal}: {command}", leftover.pid);
    }
    if count > SHOWN_LEFTOVERS {
        let _ = writeln!(text, "    … and {} more", count - SHOWN_LEFTOVERS);
    }
}

fn losses(report: &Report, text: &mut String) {
    for line in report.losses.iter().flat_map(loss_lines) {
        let start = if text.is_empty() { "nvlaunch: " } else { "  " };
        let _ = writeln!(text, "{start}{line}");
    }
}

/// What was lost, one line for each cause.
fn loss_lines(losses: &Losses) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, loss) in [("stdout", &losses.stdout), ("stderr", &losses.stderr)] {
        let ConsoleLoss { slow, closed, failed, error } = loss;
        let error = error.as_deref().unwrap_or("an error");
        for (amount, why) in [(slow, "it was too slow"), (closed, "it was closed"), (failed, error)]
        {
            if !amount.is_zero() {
                let count = counted(amount.lines, "line", "lines");
                let bytes = amount.bytes;
                lines.push(format!("{count} ({bytes} bytes) not shown on {name}: {why}"));
            }
        }
    }
    if losses.files.bytes > 0 {
        let first = losses.files.first.as_ref();
        let why = first.map_or(String::new(), |e| format!(": {}: {}", e.path.display(), e.reason));
        let count = counted(losses.files.bytes, "byte is", "bytes are");
        lines.push(format!("{count} missing in log files{why}"));
    }
    if losses.events > 0 {
        let count = counted(losses.events, "line is", "lines are");
        lines.push(format!("{count} missing in events.jsonl"));
    }
    if losses.incomplete {
        lines.push("the log writer did not answer in time: more output may be lost".to_owned());
    }
    lines
}

/// `1 line`, `2 lines`
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// `less than 1 ms`, `4 ms`, `1.2 s`, `3 min 20 s`, `5 h 2 min`
pub fn seconds(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded for eyes")]
    let whole = seconds.max(0.0).round() as u64;
    if seconds < 0.001 {
        "less than 1 ms".to_owned()
    } else if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else if whole < 60 {
        format!("{seconds:.1} s")
    } else if whole < 3600 {
        format!("{} min {} s", whole / 60, whole % 60)
    } else {
        format!("{} h {} min", whole / 3600, whole / 60 % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        for (value, words) in [
            (0.0, "less than 1 ms"),
            (0.0042, "4 ms"),
            (1.23, "1.2 s"),
            (59.4, "59.4 s"),
            (200.0, "3 min 20 s"),
            (18_130.0, "5 h 2 min"),
        ] {
            assert_eq!(seconds(value), words);
        }
    }
}
