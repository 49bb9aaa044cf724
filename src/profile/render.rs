//! How problems of a file are shown: to people with the line itself and a caret, to programs as
//! JSON. Pure.
//!
//! - R1: what is shown of a file is safe on a terminal: no control character gets through, a long
//!   line is cut around the caret.
//! - R2: the value of a secret is never shown ([`super::mask`]).

use std::fmt::Write as _;
use std::path::Path;

use annotate_snippets::{AnnotationKind, Group, Level as Label, Origin, Renderer, Snippet};
use serde::Serialize;

use super::mask;
use super::problem::{Level, Problem, Span};
use super::source::Source;
use crate::diagnose::secrets::scrub;

/// The most problems of a file that people are shown; the rest is counted.
const MOST_SHOWN: usize = 50;

/// How a text for people looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// Whether there are colours.
    pub colour: bool,
    /// Columns of the terminal.
    pub width: usize,
}

impl Manner {
    /// For files, pipes and error messages.
    pub const PLAIN: Self = Self { colour: false, width: 80 };
}

/// A path as it is shown.
pub fn shown(path: &Path) -> String {
    safe(&path.display().to_string())
}

/// The problems, sorted by place, with an empty line between two; a last line counts them.
pub fn whole(source: &Source, problems: &[Problem], manner: Manner) -> String {
    format!("{}\n{}", blocks(source, problems, manner), Counts::of(problems).text())
}

/// The problems alone.
pub fn blocks(source: &Source, problems: &[Problem], manner: Manner) -> String {
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort();
    let text = mask::without_secrets(&source.text);
    let mut blocks = String::new();
    for problem in sorted.iter().take(MOST_SHOWN) {
        blocks.push_str(&block(&source.name, &text, problem, manner));
        blocks.push_str("\n\n");
    }
    if let Some(more) = sorted.len().checked_sub(MOST_SHOWN).filter(|more| *more > 0) {
        let _ = write!(blocks, "and {more} more\n\n");
    }
    blocks.pop();
    blocks
}

/// How many of each there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Errors.
    pub errors: usize,
    /// Warnings.
    pub warnings: usize,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.errors += more.errors;
        self.warnings += more.warnings;
    }
}

impl Counts {
    /// Of some problems.
    pub fn of(problems: &[Problem]) -> Self {
        let errors = problems.iter().filter(|problem| problem.level == Level::Error).count();
        Self { errors, warnings: problems.len() - errors }
    }

    /// As in `2 errors and 1 warning`.
    pub fn text(self) -> String {
        let some = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        match (self.errors, self.warnings) {
            (errors, 0) => some(errors, "error"),
            (0, warnings) => some(warnings, "warning"),
            (errors, warnings) => {
                format!("{} and {}", some(errors, "error"), some(warnings, "warning"))
            }
        }
    }
}

/// One line for the notes of a launch: place, what, hint.
pub fn line(source: &Source, problem: &Problem) -> String {
    let (line, column) = problem.span.place(&source.text);
    let hint = problem.hint.as_ref().map_or(String::new(), |hint| format!("; {}", safe(hint)));
    format!("{}:{line}:{column}: {}{hint}", source.name, safe(&problem.what))
}

/// A problem as `--format json` prints it. Lines and columns are from 1, columns in characters; the
/// end is behind the last character.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The file, as it was named.
    pub file: String,
    /// Absent where the file cannot be read.
    pub line: Option<u32>,
    /// Absent where the file cannot be read.
    pub column: Option<u32>,
    /// Absent where the file cannot be read.
    pub end_line: Option<u32>,
    /// Absent where the file cannot be read.
    pub end_column: Option<u32>,
    /// `error` or `warning`.
    pub severity: &'static str,
    /// What is wrong.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
}

/// The problems for programs, sorted by place.
pub fn entries(source: &Source, problems: &[Problem]) -> Vec<Entry> {
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort();
    let entry = |problem: &&Problem| {
        let (line, column) = problem.span.place(&source.text);
        let (end_line, end_column) = problem.span.end_place(&source.text);
        Entry {
            file: source.name.to_string(),
            line: Some(line),
            column: Some(column),
            end_line: Some(end_line),
            end_column: Some(end_column),
            severity: problem.level.name(),
            message: safe(&problem.what),
            hint: problem.hint.as_deref().map(safe),
        }
    };
    sorted.iter().map(entry).collect()
}

/// A problem of a file whose text is not shown.
pub fn without_text(entry: &Entry, manner: Manner) -> String {
    let renderer = if manner.colour { Renderer::styled() } else { Renderer::plain() };
    let title = wrapped(&entry.message, manner.width.saturating_sub("error: ".len()));
    let mut group = Group::with_title(Label::ERROR.primary_title(title));
    if let (Some(line), Some(column)) = (entry.line, entry.column) {
        let origin = Origin::path(&entry.file).line(line as usize).char_column(column as usize);
        group = group.element(origin);
    }
    if let Some(hint) = &entry.hint {
        let hint = wrapped(hint, manner.width.saturating_sub("  = hint: ".len()));
        group = group.element(Label::HELP.with_name("hint").message(hint));
    }
    renderer.render(&[group]) + "\n"
}

/// One problem: what, place, line, caret, hint. `text` is without secrets.
fn block(file: &str, text: &str, problem: &Problem, manner: Manner) -> String {
    let label = match problem.level {
        Level::Error => Label::ERROR,
        Level::Warning => Label::WARNING,
    };
    let renderer = if manner.colour { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.term_width(manner.width);
    let before = problem.level.name().len() + ": ".len();
    let what = wrapped(&safe(&problem.what), manner.width.saturating_sub(before));
    let title = label.primary_title(what);
    let mut last_line = problem.span.line(text);
    let primary = snippet(text, problem.span, manner, AnnotationKind::Primary, None).path(file);
    let mut group = match problem.also {
        None => title.element(primary),
        Some((span, what)) => {
            let is_same_line = span.line(text) == last_line;
            last_line = last_line.max(span.line(text));
            let kind = AnnotationKind::Context;
            if is_same_line {
                let (_, mark) = marked(text, span, manner.width);
                // What lies right of the mark may be cut off.
                let mark = Some(mark).filter(|_| span < problem.span);
                let mark = mark.map(|mark| kind.span(mark).label(what));
                title.element(primary.annotations(mark))
            } else {
                let second = snippet(text, span, manner, kind, Some(what)).path(file);
                title.element(primary).element(second)
            }
        }
    };
    if let Some(hint) = &problem.hint {
        let before = last_line.to_string().len() + " = hint: ".len();
        let hint = wrapped(&safe(hint), manner.width.saturating_sub(before));
        group = group.element(Label::HELP.with_name("hint").message(hint));
    }
    renderer.render(&[group])
}

/// The line of a span with a mark below it; of several lines the first.
fn snippet<'a>(
    text: &str,
    span: Span,
    manner: Manner,
    kind: AnnotationKind,
    label: Option<&'static str>,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let (shown, at) = marked(text, span, manner.width);
    let number = span.line(text) as usize;
    Snippet::source(shown).line_start(number).annotation(kind.span(at).label(label))
}

/// The first line of a span, and where the span lies in it.
fn marked(text: &str, span: Span, width: usize) -> (String, std::ops::Range<usize>) {
    let start = span.start.min(text.len());
    let from = text[..start].rfind('\n').map_or(0, |end| end + 1);
    let to = text[start..].find('\n').map_or(text.len(), |end| start + end);
    let end = span.end.clamp(start, to);
    around(&text[from..to], start - from, end - from, width)
}

/// A line that is safe to print, and where the span lies in it. What is left of the span stays, for
/// the column; the renderer cuts it to the width.
fn around(line: &str, start: usize, end: usize, width: usize) -> (String, std::ops::Range<usize>) {
    let forth = |from: usize, most: usize| {
        line[from..].char_indices().nth(most).map_or(line.len(), |(at, _)| from + at)
    };
    // A mark that is wider than the terminal says no more than one that fills half of it.
    let end = end.min(forth(start, width / 2));
    let before = safe_line(&line[..start]);
    let marked = safe_line(&line[start..end]);
    let at = before.len()..before.len() + marked.len();
    (before + &marked + &safe_line(&line[end..forth(end, width)]), at)
}

/// A part of a line as a terminal may get it; tabs stay.
fn safe_line(text: &str) -> String {
    text.chars().map(|c| if c == '\t' { c } else { safe_char(c) }).collect()
}

/// A message as a terminal may get it.
fn safe(text: &str) -> String {
    let text = scrub(text);
    // A value may be as long as the file.
    let most = 300;
    let mut shown: String = text.chars().take(most).map(safe_char).collect();
    if text.chars().nth(most).is_some() {
        shown.push('…');
    }
    shown
}

/// Control characters, and those that turn the direction of what follows.
fn safe_char(c: char) -> char {
    let turns = matches!(c,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    if c.is_control() || turns { char::REPLACEMENT_CHARACTER } else { c }
}

/// Lines of at most `width` characters, cut between words.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            lines.push('\n');
            used = 0;
        } else if used > 0 {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += length;
    }
    lines
}
