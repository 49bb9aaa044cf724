//! The result for people: a table on stdout, and the cause as a report has it.

use std::fmt::Write as _;

use super::document::About;
use super::judge::{Bandwidth, Cause, Judgement, Status, Verdict};
use crate::layout::{WIDTH, cut, hang, plain};
use crate::report::text::{counted, seconds};

/// Where the column after a check's name begins.
const NAME: usize = 26;
/// Columns of the longest bar.
const BAR: usize = 30;

/// How it is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Manner {
    /// Whether bars are drawn beside the numbers.
    pub bars: bool,
}

/// What was checked and measured; empty where no rank came so far.
pub fn render(judgement: &Judgement, about: &About, manner: Manner) -> String {
    let mut text = String::new();
    let ran = judgement
        .checks
        .iter()
        .any(|check| check.status != Status::NotRun && check.seconds.is_some());
    if ran {
        text.push_str(&cut(&headline(judgement, about), WIDTH));
        text.push_str("\n\n");
        times(judgement, &mut text);
        checks(judgement, &mut text);
        bandwidth(&judgement.bandwidth, manner, &mut text);
    }
    if judgement.verdict == Verdict::Passed {
        let passed = judgement.checks.iter().filter(|check| check.status == Status::Passed);
        let passed = counted(passed.count() as u64, "check", "checks");
        let ranks = counted(u64::from(about.ranks), "rank", "ranks");
        let took = seconds(about.seconds);
        let _ = writeln!(text, "smoke test passed: {passed} on {ranks} in {took}");
    }
    text
}

fn headline(judgement: &Judgement, about: &About) -> String {
    let mut words = vec![counted(u64::from(about.ranks), "rank", "ranks")];
    match (&about.backend, &about.device) {
        (Some(backend), Some(device)) => words.push(format!("{backend} on {device}")),
        (Some(backend), None) => words.push(backend.clone()),
        _ => {}
    }
    words.extend(judgement.torch.as_ref().map(|version| format!("PyTorch {}", plain(version))));
    words.extend(judgement.python.as_ref().map(|version| format!("Python {}", plain(version))));
    format!("smoke test: {}", words.join(", "))
}

fn times(judgement: &Judgement, text: &mut String) {
    let times = judgement.times;
    for (name, time) in [
        ("import", times.import),
        ("init_process_group", times.init),
        ("first collective", times.first_collective),
    ] {
        if let Some(time) = time {
            let _ = writeln!(text, "  {name:<NAME$}{}", short(time));
        }
    }
    text.push('\n');
}

fn checks(judgement: &Judgement, text: &mut String) {
    let (done, not_run): (Vec<_>, Vec<_>) =
        judgement.checks.iter().partition(|check| check.status != Status::NotRun);
    for check in done {
        let name = plain(&check.name);
        let line = match (check.status, check.seconds) {
            (Status::Passed, Some(seconds)) => {
                format!("  {name:<NAME$}{:<9}{}", "ok", short(seconds))
            }
            (Status::Passed, None) => format!("  {name:<NAME$}ok"),
            (Status::Failed, _) => format!("  {name:<NAME$}FAILED"),
            (Status::Skipped | Status::NotRun, _) => {
                let why = plain(check.message.as_deref().unwrap_or_default());
                format!("  {name:<NAME$}{:<9}{why}", "skipped")
            }
        };
        text.push_str(cut(&line, WIDTH).trim_end());
        text.push('\n');
    }
    if !not_run.is_empty() {
        let more = counted(not_run.len() as u64, "more check", "more checks");
        let _ = writeln!(text, "  {more:<NAME$}not run");
    }
    text.push('\n');
}

fn bandwidth(rows: &[Bandwidth], manner: Manner, text: &mut String) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(text, "  {:<12}{:>12}{:>16}", "all_reduce", "time", "bus bandwidth");
    let most = rows.iter().filter_map(|row| row.bus).fold(0.0, f64::max);
    for row in rows {
        let bus = row.bus.map_or_else(|| "-".to_owned(), rate);
        let bar = row.bus.filter(|_| manner.bars).map(|bus| bar(bus, most)).unwrap_or_default();
        let line = format!("  {:<12}{:>12}{bus:>16}  {bar}", size(row.bytes), short(row.seconds));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push('\n');
}

/// As long as its share of the most; something for everything.
fn bar(value: f64, most: f64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "30 columns")]
    let width = if most > 0.0 { value / most * BAR as f64 } else { 0.0 };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 30")]
    let width = (width.round().max(1.0) as usize).min(BAR);
    "█".repeat(width)
}

/// `4 B`, `64 KiB`
pub fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 30 && b % (1 << 30) == 0 => format!("{} GiB", b >> 30),
        b if b >= 1 << 20 && b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 && b % (1 << 10) == 0 => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}

/// `12.3 GB/s`, in powers of 1000 as links are sold.
fn rate(bytes: f64) -> String {
    let (value, unit) = match bytes {
        b if b >= 1e9 => (b / 1e9, "GB/s"),
        b if b >= 1e6 => (b / 1e6, "MB/s"),
        b => (b / 1e3, "kB/s"),
    };
    format!("{} {unit}", three(value))
}

/// A time with three digits that count, down to microseconds.
fn short(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "us"),
    };
    format!("{} {unit}", three(value))
}

fn three(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// Why it did not pass, for stderr; empty where it passed. In a file each thing stands on one line,
/// so that it is found again; on a terminal (`wraps`) no line is wider than that.
pub fn cause(judgement: &Judgement, about: &About, wraps: bool) -> String {
    let Some(cause) = &judgement.cause else { return String::new() };
    let word = match judgement.verdict {
        Verdict::Passed => return String::new(),
        Verdict::Failed => "smoke test failed",
        Verdict::Refused => "smoke test refused",
        Verdict::Interrupted => "smoke test not finished",
    };
    let mut text = String::new();
    let mut say = |first: &str, rest: &str, words: &str| {
        let words = plain(words);
        let whole = || vec![format!("{first}{words}")];
        let lines = if wraps { hang(first, rest, &words) } else { whole() };
        for line in lines {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    };
    say(&format!("nvlaunch: {word}: "), "  ", &cause.what);
    for line in grounds(cause) {
        let indent = line.len() - line.trim_start().len();
        let start = format!("  {}", " ".repeat(indent));
        say(&start, &format!("{start}  "), &line);
    }
    if let Some(dir) = &about.run_dir {
        say("  run folder: ", "    ", dir);
    }
    for hint in &cause.hints {
        say("hint: ", "  ", hint);
    }
    text
}

/// What a cause rests on, a line each; frames of a stack are indented.
pub fn grounds(cause: &Cause) -> Vec<String> {
    let mut lines = cause.lines.clone();
    for stack in &cause.stacks {
        lines.push(format!("rank {} is here, the innermost call first:", stack.rank));
        lines.extend(stack.frames.iter().map(|frame| format!("  {frame}")));
    }
    lines
}
