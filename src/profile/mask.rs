//! Hides the values of secrets in a text of YAML that may be broken. Pure.
//!
//! - M1: the text keeps its length, in bytes and in characters, and its lines: every place in it
//!   stays what it was.
//! - M2: it rather hides too much: from the name of a secret to the end of its line, and what is
//!   indented below it.
//! - M3: what looks like a secret is hidden under every name, as in any other text
//!   ([`secrets::spans`]).

use crate::diagnose::secrets::{self, is_secret};

/// The text with every value of a secret replaced by stars.
pub fn without_secrets(text: &str) -> String {
    let text = without_spans(text);
    let mut shown = String::with_capacity(text.len());
    // The indentation of the secret whose lines these are.
    let mut below: Option<usize> = None;
    let mut is_next_hidden = false;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        let is_blank = line.trim().is_empty();
        if !is_blank && below.is_some_and(|of_name| indent <= of_name) {
            below = None;
        }
        let is_below = below.is_some();
        let hide_from = match value_of_secret(line) {
            Some(from) => {
                below.get_or_insert(indent);
                Some(from)
            }
            // A key below the name of a secret may be read: `value: ***`.
            None if is_below => Some(after_key(line).unwrap_or(indent)),
            None if is_next_hidden && !is_blank => Some(indent),
            None => None,
        };
        if !is_blank {
            is_next_hidden = hide_from.is_some_and(|from| line[from..].trim().is_empty());
        }
        let from = hide_from.unwrap_or(line.len());
        shown.push_str(&line[..from]);
        shown.extend(line[from..].chars().map(star));
    }
    shown
}

/// Where the value of a secret begins on a line: behind the colon or the `=` of its name.
fn value_of_secret(line: &str) -> Option<usize> {
    let marks = line.char_indices().filter(|(_, c)| matches!(c, ':' | '='));
    marks.map(|(at, _)| at).find_map(|at| {
        let name = line[..at].trim_end().trim_end_matches(['"', '\'']);
        let is_of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        let start = name.rfind(|c: char| !is_of_name(c));
        let name =
            &name[start.map_or(0, |at| at + name[at..].chars().next().map_or(1, char::len_utf8))..];
        is_secret(name).then_some(at + 1)
    })
}

/// Behind `key:`.
fn after_key(line: &str) -> Option<usize> {
    let (key, _) = line.split_once(':')?;
    let is_word =
        !key.trim().is_empty() && key.trim().bytes().all(|byte| byte.is_ascii_alphabetic());
    is_word.then_some(key.len() + 1)
}

/// Without what looks like a secret by itself (M3).
fn without_spans(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut done = 0;
    for span in secrets::spans(text) {
        shown.push_str(&text[done..span.start]);
        shown.extend(text[span.clone()].chars().map(star));
        done = span.end;
    }
    shown.push_str(&text[done..]);
    shown
}

/// A character of the same length in UTF-8 that says nothing (M1).
fn star(c: char) -> char {
    match c.len_utf8() {
        _ if c.is_whitespace() => c,
        1 => '*',
        2 => '·',
        3 => '•',
        _ => '🔒',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_places_stay() {
        for (text, expected) in [
            ("HF_TOKEN: abc\nx: y\n", "HF_TOKEN: ***\nx: y\n"),
            ("a: 1\n  API_KEY : \"a b\"", "a: 1\n  API_KEY : ** **"),
            ("'MY_SECRET': äb€🦀", "'MY_SECRET': ·*•🔒"),
            ("env: {A: 1, HF_TOKEN: ab, B: 2}", "env: {A: 1, HF_TOKEN: *** ** **"),
            ("T_TOKEN:\n  value: abc\n  abc\nx: y", "T_TOKEN:\n  value: ***\n  ***\nx: y"),
            ("T_TOKEN: |\n  a: b\n\n  c\nx: y", "T_TOKEN: *\n  a: *\n\n  *\nx: y"),
            ("{T_TOKEN:\n\nabc}\nx: y", "{T_TOKEN:\n\n****\nx: y"),
            ("p: http://me:pw@host/a:b", "p: http://me:**@host/a:b"),
            ("p: http://host:80/ x@y", "p: http://host:80/ x@y"),
            ("p: https://abcdef@host/x", "p: https://******@host/x"),
            ("p: http://me:p/w@host/x", "p: http://me:***@host/x"),
            ("- hf_abcdefghijklmno1p2", "- *********************"),
            ("# ghp_abcdefghijklmno1p2, old\nx: y", "# **********************, old\nx: y"),
            ("a: \"--r {path} --hf-token Abc\"\nx: y", "a: \"--r {path} --hf-token ***\"\nx: y"),
            (
                "a: |\n  -----BEGIN PRIVATE KEY-----\n  ab\n  -----END PRIVATE KEY-----\nx: y",
                "a: |\n  ********** ******* ********\n  **\n  ******** ******* ********\nx: y",
            ),
            ("max-tokens: 3\ntokenizer: x", "max-tokens: 3\ntokenizer: x"),
        ] {
            let shown = without_secrets(text);
            assert_eq!(shown, expected);
            assert_eq!(shown.len(), text.len());
        }
    }
}
