//! What is wrong where a text is no YAML, in words that say what to do. Pure.

use super::node::too_deep;
use super::problem::{Problem, Span};

/// What the parser says, where a word of it is found; what we say; the next step.
const SAID: &[(&str, &str, Option<&str>)] = &[
    ("unexpected end of stream", "this quote is not closed", Some("close it before the line ends")),
    (
        "unexpected document indicator",
        "a line `---` or `...` stands within quotes",
        Some("close the quote before it"),
    ),
    (
        "trailing content after double-quoted",
        "something follows the closing quote",
        Some("a quote within quotes is written `\\\"`"),
    ),
    (
        "unknown escape character",
        "`\\` and this letter mean nothing within double quotes",
        Some("write `\\\\` for a backslash, or use single quotes"),
    ),
    ("hexadecimal number", "`\\x`, `\\u` and `\\U` need hexadecimal digits", None),
    ("invalid Unicode character escape", "no character has this number", None),
    (
        "mapping values are not allowed",
        "a second `: ` in one value, or a key that is indented wrongly",
        Some("quote a value that holds `: `; keys of one map begin in one column"),
    ),
    ("mapping keys are not allowed", "a `? ` cannot stand here", Some("write `key: value`")),
    ("illegal placement of ':'", "a `:` cannot stand here", Some("quote a value that holds `:`")),
    (
        "simple key expect",
        "a key without `: ` and a value",
        Some("write `key: value`; keys of one map begin in one column"),
    ),
    (
        "did not find expected key",
        "neither a key nor the end of the map",
        Some("keys of one map begin in one column"),
    ),
    (
        "did not find expected '-'",
        "neither `- ` nor the end of the list",
        Some("entries of one list begin in one column"),
    ),
    (
        "block sequence entries are not allowed",
        "a list cannot begin here",
        Some("begin each entry on a line of its own, or write `[a, b]`"),
    ),
    (
        "flow mapping",
        "`,` or `}` is missing",
        Some("close the `{`, or put a comma between entries"),
    ),
    (
        "flow sequence",
        "`,` or `]` is missing",
        Some("close the `[`, or put a comma between entries"),
    ),
    (
        "indentation in flow construct",
        "what stands in brackets is not indented",
        Some("indent it deeper than its key, or close the bracket"),
    ),
    (
        "indentation in quoted scalar",
        "what stands in quotes is not indented",
        Some("indent it deeper than its key, or close the quote"),
    ),
    ("misplaced bracket", "a bracket is closed that is not open", Some("remove it")),
    ("unknown anchor", "an alias of what is not known", Some("quote a value that begins with `*`")),
    (
        "anchor or alias, did not find",
        "`&` and `*` need a name",
        Some("quote a value that begins with `&` or `*`"),
    ),
    ("the handle wasn't declared", "a tag has no meaning in a profile", Some("remove it")),
    ("tag", "a tag has no meaning in a profile", Some("quote a value that begins with `!`")),
    ("directive", "a line that begins with `%` has no meaning in a profile", Some("remove it")),
    (
        "incompatible YAML",
        "a line that begins with `%` has no meaning in a profile",
        Some("remove it"),
    ),
    ("document start", "something stands before `---`", Some("a profile is one document")),
    ("document-start", "something stands before `---`", Some("a profile is one document")),
    ("document end marker", "something follows `...`", Some("a profile is one document")),
    ("byte order mark", "a byte order mark in the middle of the text", Some("remove it")),
    ("unprintable character", "a control character, which YAML does not allow", Some("remove it")),
    ("block scalar", "`|` and `>` end their line, and their text begins on the next", None),
    ("comment intercepting", "a comment in the middle of a value", Some("put it above the key")),
    ("unexpected character", "no value can begin with this character", Some("quote the value")),
    ("plain scalar", "no value can look like this without quotes", Some("quote the value")),
    ("expected node content", "a value is missing", Some("write `\"\"` for an empty text")),
    ("unexpected eof", "the text ends too early", None),
];

/// The problem at a place where the parser stopped, `said` being what it says. `open` are the
/// places of the lists and maps around it, outermost first.
pub(super) fn problem(text: &str, at: usize, said: &str, open: &[Span]) -> Problem {
    let span = mark(text, at);
    if said.contains("recursion limit") {
        return too_deep(span);
    }
    if said.contains("tab")
        && let Some(span) = tabs(text, at)
    {
        return Problem::new(span, "a tab cannot indent").hint("use spaces");
    }
    let known = SAID.iter().find(|(word, ..)| said.contains(word));
    let Some((_, what, hint)) = known else {
        return Problem::new(span, format!("no YAML: {said}"));
    };
    let mut problem = Problem::new(span, *what);
    problem.hint = hint.map(str::to_owned);
    let bracket = open.iter().rev().find(|open| text[open.start..].starts_with(['[', '{']));
    match bracket {
        Some(bracket) => problem.also(*bracket, "opened here"),
        _ => problem,
    }
}

/// The character at a place; at the end of the text, or of a line, nothing.
fn mark(text: &str, at: usize) -> Span {
    let length = text[at..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
    Span { start: at, end: at + length }
}

/// The tabs at the place, or the first on its line before it.
fn tabs(text: &str, at: usize) -> Option<Span> {
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
    let start = line + text[line..end].find('\t')?;
    let length = text[start..].len() - text[start..].trim_start_matches('\t').len();
    Some(Span { start, end: start + length })
}
