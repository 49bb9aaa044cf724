//! What preflight says to people: [`launch`] before a job starts, [`whole`] when asked by itself.
//!
//! Pure; nothing is said by colour alone.
//!
//! - T1: a healthy machine is one line.
//! - T2: a refusal is [`LAUNCH_LINES`] lines at most: one cause, what it rests on, what helps first.
//!   What follows from the cause is one line, other causes are one more.
//! - T3: a command is never cut or broken: it is there to be copied.

mod brief;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::catalogue::code;
use super::finding::{Code, Finding, Mitigation, Remedy, Severity};
use super::{Judgement, Verdict};
use crate::host::facts::HostFacts;
use crate::layout::{WIDTH, cut, hang, plain};
use crate::report::text::{counted, seconds};

/// The most lines that a launch says about the machine.
pub const LAUNCH_LINES: usize = 12;
/// Of these, what the cause rests on.
const EVIDENCE_LINES: usize = 4;
/// Warnings that a launch names one by one.
const NAMED_WARNINGS: usize = 4;

/// How it is said.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// Whether colours may be used.
    pub colour: bool,
    /// Whether the launch goes on in spite of a refusal.
    pub force: bool,
    /// How long preflight took.
    pub took: Duration,
}

/// What a launch says before it starts its ranks, or instead.
pub fn launch(judgement: &Judgement, facts: &HostFacts, manner: Manner) -> String {
    match judgement.verdict {
        Verdict::Ok => headline(judgement, facts, manner),
        Verdict::Degraded => degraded(judgement, facts, manner),
        Verdict::Refused => refused(judgement, facts, manner),
    }
}

/// `nvlaunch: preflight: cpu, gloo (no accelerator); 3 ms`
fn headline(judgement: &Judgement, facts: &HostFacts, manner: Manner) -> String {
    let warnings = causes(judgement).filter(|finding| finding.severity >= Severity::Warning);
    let warnings = match warnings.count() {
        0 => String::new(),
        count => format!("; {}", counted(count as u64, "warning", "warnings")),
    };
    let end = format!("{warnings}; {}", seconds(manner.took.as_secs_f64()));
    let (vendor, backend) = (&judgement.vendor, &judgement.backend.name);
    let start = format!("nvlaunch: preflight: {vendor}, {backend} (");
    let room = WIDTH.saturating_sub(start.chars().count() + end.chars().count() + 1);
    let (devices, driver) = brief::devices(judgement, facts);
    let with_driver = format!("{devices}{driver}");
    let fits = with_driver.chars().count() <= room;
    format!("{start}{}){end}\n", cut(if fits { &with_driver } else { &devices }, room))
}

fn degraded(judgement: &Judgement, facts: &HostFacts, manner: Manner) -> String {
    let mut text = headline(judgement, facts, manner);
    let worth: Vec<&Finding> =
        causes(judgement).filter(|finding| finding.severity >= Severity::Warning).collect();
    for finding in worth.iter().take(NAMED_WARNINGS) {
        let what = match &finding.mitigation {
            Some(mitigation) if mitigation.cures => {
                format!("{}; {}", finding.summary, done(mitigation))
            }
            _ => finding.summary.clone(),
        };
        let first = format!("  {} ", finding.code);
        let mut lines = hang(&first, "    ", &plain(&what));
        shorten(&mut lines, 2);
        push(&mut text, lines);
    }
    if let Some(first) = worth.first() {
        let more = worth.len().saturating_sub(NAMED_WARNINGS);
        let more = if more > 0 {
            format!("`nvlaunch preflight` shows {more} more; ")
        } else {
            String::new()
        };
        let _ = writeln!(text, "  {more}`nvlaunch explain {}` says what helps", first.code);
    }
    text
}

fn refused(judgement: &Judgement, facts: &HostFacts, manner: Manner) -> String {
    let errors = || causes(judgement).filter(|finding| finding.severity == Severity::Error);
    let Some(cause) = errors().next().or_else(|| causes(judgement).next()) else {
        return headline(judgement, facts, manner);
    };
    let start = if manner.force {
        format!("nvlaunch: preflight would refuse this without --force: {} ", cause.code)
    } else {
        format!("nvlaunch: preflight refuses the launch: {} ", cause.code)
    };
    let mut lines = hang(&start, "  ", &plain(&cause.summary));
    shorten(&mut lines, 3);
    paint_in(&mut lines[0], "preflight", error_style(), manner);
    let mut last = Vec::new();
    let mut follows = follow_ups(judgement, &cause.code);
    // Who did it, and when, is what somebody asks first whose machine worked yesterday.
    let upgrade = follows.iter().position(|f| f.code == code::MISMATCH_CAUSED_BY_UPGRADE);
    if let Some(upgrade) = upgrade.map(|at| follows.remove(at)) {
        let mut why = hang("  since: ", "    ", &plain(&upgrade.summary));
        shorten(&mut why, 3);
        lines.extend(why);
    }
    if !follows.is_empty() {
        last.push(cut(&format!("  from this follow: {}", codes(&follows)), WIDTH));
    }
    let others: Vec<&Finding> = errors()
        .chain(causes(judgement).filter(|finding| finding.severity == Severity::Warning))
        .filter(|finding| finding.code != cause.code)
        .collect();
    if !others.is_empty() {
        let line = format!("  besides: {} (`nvlaunch preflight` shows them)", codes(&others));
        last.push(cut(&line, WIDTH));
    }
    let also = if manner.force { "" } else { "; --force starts all the same" };
    last.push(format!("hint: `nvlaunch explain {}` says more{also}", cause.code));

    let mut mitigation = match &cause.mitigation {
        // What does not cure it is no news to somebody whose job was just refused.
        Some(mitigation) if mitigation.cures => hang("  ", "    ", &plain(&done(mitigation))),
        _ => Vec::new(),
    };
    shorten(&mut mitigation, 2);
    // A remedy and its command have room in any case.
    let taken = lines.len() + last.len() + mitigation.len() + 2;
    let mut room = EVIDENCE_LINES.min(LAUNCH_LINES.saturating_sub(taken));
    for evidence in &cause.evidence {
        let source = format!("  {}: ", plain(&evidence.source));
        let mut said = hang(&source, "    ", &plain(&evidence.value));
        shorten(&mut said, room.min(2));
        room -= said.len();
        lines.extend(said.into_iter().map(|line| cut(&line, WIDTH)));
    }
    lines.extend(mitigation);
    let mut room = LAUNCH_LINES.saturating_sub(lines.len() + last.len());
    for (index, remedy) in cause.remedies.iter().enumerate() {
        let start = if index == 0 { "  what helps: " } else { "  or: " };
        let mut said = remedy_lines(start, "    ", remedy);
        // Half a recipe helps nobody; its first line alone still says what to look for.
        if said.len() > room {
            said.truncate(usize::from(index == 0));
        }
        if said.is_empty() || said.len() > room {
            break;
        }
        room -= said.len();
        lines.extend(said);
    }
    lines.extend(last);
    let mut text = String::new();
    push(&mut text, lines);
    text
}

/// Everything: the machine in brief, every finding with its evidence and every way out.
pub fn whole(judgement: &Judgement, facts: &HostFacts, manner: Manner) -> String {
    let (word, style) = match judgement.verdict {
        Verdict::Ok => ("ok", AnsiColor::Green.on_default()),
        Verdict::Degraded => ("degraded", AnsiColor::Yellow.on_default()),
        Verdict::Refused => ("refused", error_style()),
    };
    let means = match judgement.verdict {
        Verdict::Ok => "a launch starts",
        Verdict::Degraded => "a launch starts, and something is lost",
        Verdict::Refused => "a launch is refused without --force",
    };
    let mut text = format!("preflight: {}: {means}\n\n", painted(word, style, manner));
    for (name, value) in brief::table(judgement, facts) {
        push(&mut text, hang(&format!("  {name:<12}"), &" ".repeat(14), &plain(&value)));
    }
    for finding in causes(judgement) {
        text.push('\n');
        one(&mut text, finding, "", manner);
        for follow_up in follow_ups(judgement, &finding.code) {
            one(&mut text, follow_up, "  ", manner);
        }
    }
    let first = causes(judgement).next().map(|finding| &finding.code);
    if let Some(code) = first {
        let _ = writeln!(text, "\n`nvlaunch explain {code}` says more.");
    }
    let took = seconds(manner.took.as_secs_f64());
    let count = judgement.findings.len() as u64;
    let found = if count == 0 { "nothing".into() } else { counted(count, "finding", "findings") };
    let _ = writeln!(text, "\n{found}{} in {took}", if count == 0 { " found" } else { "" });
    text
}

fn one(text: &mut String, finding: &Finding, indent: &str, manner: Manner) {
    let (word, style) = match finding.severity {
        Severity::Note => ("note", Style::new()),
        Severity::Warning => ("warning", AnsiColor::Yellow.on_default()),
        Severity::Error => ("error", error_style()),
    };
    let inner = format!("{indent}  ");
    let follows = if indent.is_empty() { "" } else { "follows: " };
    let start = format!("{indent}{follows}{} {word}: ", finding.code);
    let mut lines = hang(&start, &inner, &plain(&finding.summary));
    paint_in(&mut lines[0], word, style, manner);
    for evidence in &finding.evidence {
        let source = format!("{inner}{}: ", plain(&evidence.source));
        let deeper = format!("{inner}  ");
        // The end of a log keeps its lines.
        let mut said = evidence.value.lines();
        lines.extend(hang(&source, &deeper, &plain(said.next().unwrap_or_default())));
        for line in said {
            lines.extend(hang(&deeper, &format!("{deeper}  "), &plain(line)));
        }
    }
    if let Some(mitigation) = &finding.mitigation {
        lines.extend(hang(&inner, &format!("{inner}  "), &plain(&done(mitigation))));
        for (name, value) in &mitigation.variables {
            lines.push(format!("{inner}  {}={}", plain(name), plain(value)));
        }
    }
    for (index, remedy) in finding.remedies.iter().enumerate() {
        let start = if index == 0 { "what helps: " } else { "or: " };
        lines.extend(remedy_lines(&format!("{inner}{start}"), &format!("{inner}  "), remedy));
    }
    push(text, lines);
}

/// The remedy and its commands, each on a line of its own.
fn remedy_lines(start: &str, rest: &str, remedy: &Remedy) -> Vec<String> {
    let root = if remedy.needs_root { " (as root)" } else { "" };
    let what = plain(&remedy.what);
    // A remedy may say itself that it is another way.
    let what = what.strip_prefix("or, ").or_else(|| what.strip_prefix("or ")).unwrap_or(&what);
    let mut lines = hang(start, rest, &format!("{what}{root}"));
    lines.extend(remedy.commands.iter().map(|command| format!("{rest}$ {}", plain(command))));
    lines
}

fn done(mitigation: &Mitigation) -> String {
    let cures = if mitigation.cures { "" } else { ", which does not cure it" };
    format!("nvlaunch: {}{cures}", mitigation.what)
}

/// The findings that follow from no other one that is there.
fn causes(judgement: &Judgement) -> impl Iterator<Item = &Finding> {
    let is_there = |code: &Code| judgement.findings.iter().any(|finding| finding.code == *code);
    judgement.findings.iter().filter(move |finding| {
        let cause = finding.consequence_of.as_ref();
        cause.is_none_or(|cause| *cause == finding.code || !is_there(cause))
    })
}

/// What follows from a cause, directly or through another finding, in the order of the findings.
fn follow_ups<'a>(judgement: &'a Judgement, cause: &Code) -> Vec<&'a Finding> {
    let mut from = vec![cause];
    let mut all = Vec::new();
    while let Some(code) = from.pop() {
        for finding in &judgement.findings {
            let follows = finding.consequence_of.as_ref() == Some(code) && finding.code != *cause;
            if follows && !all.iter().any(|known: &&Finding| std::ptr::eq(*known, finding)) {
                all.push(finding);
                from.push(&finding.code);
            }
        }
    }
    all
}

/// `NVL001, NVL008`, each once.
fn codes(findings: &[&Finding]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for finding in findings {
        if !names.contains(&&*finding.code.0) {
            names.push(&finding.code.0);
        }
    }
    names.join(", ")
}

/// Leaves the first `count` lines, the last of them marked where more was there.
fn shorten(lines: &mut Vec<String>, count: usize) {
    if lines.len() > count {
        lines.truncate(count);
        if let Some(last) = lines.last_mut() {
            *last = cut(&format!("{last} …"), WIDTH);
        }
    }
}

fn push(text: &mut String, lines: Vec<String>) {
    for line in lines {
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

fn error_style() -> Style {
    AnsiColor::Red.on_default().bold()
}

fn painted(word: &str, style: Style, manner: Manner) -> String {
    if manner.colour && style != Style::new() {
        format!("{style}{word}{style:#}")
    } else {
        word.to_owned()
    }
}

/// Paints the first `word` of a line.
fn paint_in(line: &mut String, word: &str, style: Style, manner: Manner) {
    if let Some(at) = line.find(word) {
        line.replace_range(at..at + word.len(), &painted(word, style, manner));
    }
}
