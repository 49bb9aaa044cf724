//! The text of `nvlaunch explain`. Pure.

use std::fmt::Write as _;

use super::catalogue::{ALL, Entry, find};
use super::finding::Severity;

/// Columns of a line.
const WIDTH: usize = 80;

/// A severity in one word.
pub fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

/// The entry that is meant: a code or a name, in any case, with or without leading zeros or prefix.
pub fn resolve(text: &str) -> Option<&'static Entry> {
    let upper = text.trim().to_ascii_uppercase().replace('-', "_");
    let digits = upper.strip_prefix("NVL").unwrap_or(&upper).trim_start_matches('_');
    let is_number =
        !digits.is_empty() && digits.len() <= 6 && digits.bytes().all(|b| b.is_ascii_digit());
    if is_number {
        let number: u32 = digits.parse().ok()?;
        return find(&format!("NVL{number:03}"));
    }
    ALL.iter().find(|entry| entry.name == upper)
}

/// The entry that may be meant by something that is none.
pub fn suggest(text: &str) -> Option<&'static Entry> {
    if let Some(entry) = resolve(text) {
        return Some(entry);
    }
    let upper = text.trim().to_ascii_uppercase().replace('-', "_");
    // The distance of long texts costs their product.
    if upper.is_empty() || upper.len() > 100 {
        return None;
    }
    let begins = |entry: &&Entry| upper.len() >= 4 && entry.name.contains(upper.as_str());
    if let Some(entry) = ALL.iter().find(begins) {
        return Some(entry);
    }
    let distance = |entry: &Entry| {
        let of_code = strsim::damerau_levenshtein(&upper, &entry.code.0);
        let of_name = strsim::damerau_levenshtein(&upper, entry.name);
        let is_like_name = of_name * 3 <= entry.name.len();
        if is_like_name { of_name.min(of_code) } else { of_code }
    };
    let nearest = ALL.iter().map(|entry| (distance(entry), entry)).min_by_key(|(d, _)| *d)?;
    let is_like_code = nearest.0 <= 1;
    let is_like_name =
        strsim::damerau_levenshtein(&upper, nearest.1.name) * 3 <= nearest.1.name.len();
    (is_like_code || is_like_name).then_some(nearest.1)
}

/// All of `explain CODE`: title, section by section.
pub fn explain(entry: &Entry) -> String {
    let mut text =
        format!("{}  {}  ({} by default)\n", entry.code, entry.name, word(entry.severity));
    wrap_into(&mut text, &capital(entry.summary), 0);
    text.push('\n');
    text.push_str(entry.text);
    text
}

/// All of `explain --list`: code, severity and title of each.
pub fn list() -> String {
    const TITLE: usize = 17;
    let mut text = String::new();
    for entry in ALL {
        let mut title = String::new();
        wrap_into(&mut title, entry.summary, TITLE);
        let _ = write!(text, "{:<8}{:<9}{}", entry.code.0, word(entry.severity), &title[TITLE..]);
    }
    text
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    // Names such as libcuda and /dev/shm keep their spelling.
    match chars.next() {
        Some(first) if !text.starts_with("lib") && !text.starts_with("gloo") => {
            first.to_uppercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

/// Writes words, broken before column 80, each line indented.
fn wrap_into(out: &mut String, text: &str, indent: usize) {
    let mut column = 0;
    for word in text.split_whitespace() {
        if column == 0 || column + 1 + word.len() > WIDTH {
            if column > 0 {
                out.push('\n');
            }
            out.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_however_it_is_written() {
        let table = [
            ("NVL001", "NVL001"),
            ("nvl001", "NVL001"),
            ("nvl1", "NVL001"),
            ("NVL-1", "NVL001"),
            (" 41 ", "NVL041"),
            ("GPU_OFF_BUS", "NVL041"),
            ("gpu-off-bus", "NVL041"),
        ];
        for (text, code) in table {
            assert_eq!(resolve(text).map(|entry| &*entry.code.0), Some(code), "{text}");
        }
        for text in ["", "NVL", "NVL999", "nvl99999999999", "off the bus", "é"] {
            assert!(resolve(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_slip_leads_to_the_nearest() {
        let table = [
            ("nvl1", Some("NVL001")),
            ("NLV001", Some("NVL001")),
            ("GPU_OF_BUS", Some("NVL041")),
            ("nouveau", Some("NVL023")),
            ("PERSISTENCE", Some("NVL049")),
            ("hello world", None),
            ("", None),
        ];
        for (text, code) in table {
            assert_eq!(suggest(text).map(|entry| &*entry.code.0), code, "{text}");
        }
        assert!(suggest(&"x".repeat(10_000)).is_none());
    }

    #[test]
    fn texts_fit_the_terminal() {
        let list = list();
        assert_eq!(list.lines().filter(|line| line.starts_with("NVL")).count(), ALL.len());
        assert!(list.starts_with("NVL001  error    the driver's libraries are newer"), "{list}");
        for entry in ALL {
            let text = explain(entry);
            assert!(text.starts_with(&*entry.code.0) && text.contains("What helps\n"), "{text}");
            for line in text.lines().chain(list.lines()) {
                assert!(line.chars().count() <= WIDTH, "{line}");
            }
        }
    }
}
