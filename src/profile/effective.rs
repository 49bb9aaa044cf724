//! The text of `nvlaunch profile show NAME --effective`: every key with what holds of it, and where
//! that was given, as a profile again. Pure.
//!
//! - E1: the text is a profile in which nothing is wrong, and whose values are those it shows, but
//!   for secrets: these are hidden.

use std::fmt::Write as _;

use super::keys::{self, Key, Kind};
use super::layer::{Files, Placed, Variable};
use crate::diagnose::secrets;
use crate::layout::plain;
use crate::preflight::finding::Severity;
use crate::settings::Origin;

/// Every key of a profile and of what stands below it.
pub fn render(files: &Files, description: Option<&str>) -> String {
    let mut text = String::new();
    if let Some(used) = &files.profile {
        let extends = if used.extends.is_empty() {
            String::new()
        } else {
            format!(", which extends {}", secrets::scrub(&used.extends.join(", ")))
        };
        let _ = writeln!(text, "# What holds with {} ({}){extends}.", used.name, used.file);
        text.push_str("# Variables and the command line stand above it.\n");
    }
    let _ = writeln!(text, "version: {}", super::check::VERSION);
    if let Some(description) = description {
        let _ = writeln!(text, "description: {}", quoted(&secrets::scrub(description)));
    }
    let mut section = None;
    for key in keys::ALL {
        let Some(placed) = files.values.texts.get(key.path) else { continue };
        let (of_key, name) = key.parts();
        if of_key != section {
            text.push('\n');
            if let Some(of_key) = of_key {
                let _ = writeln!(text, "{of_key}:");
            }
            section = of_key;
        }
        let indent = if of_key.is_some() { "  " } else { "" };
        line(&mut text, indent, name, &value(key, &placed.value), &placed.origin);
        if key.path == keys::DEADLINE_WITHOUT_PERSISTENCE.path {
            severities(&mut text, files);
        }
        if key.path == keys::ON_SUSPICIOUS_SUCCESS.path {
            policies(&mut text, files);
        }
        if key.path == keys::BACKEND.path {
            variables(&mut text, files);
        }
    }
    text
}

fn severities(text: &mut String, files: &Files) {
    if files.values.severity.is_empty() {
        text.push_str("  severity: {}\n");
        return;
    }
    text.push_str("  severity:\n");
    for (code, Placed { value, origin }) in &files.values.severity {
        let word = match value {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        line(text, "    ", &code.0, word, origin);
    }
}

fn policies(text: &mut String, files: &Files) {
    if files.values.remedies.is_empty() {
        text.push_str("  policy: {}\n");
        return;
    }
    text.push_str("  policy:\n");
    for (class, Placed { value, origin }) in &files.values.remedies {
        line(text, "    ", class.name(), value.name(), origin);
    }
}

fn variables(text: &mut String, files: &Files) {
    if files.values.env.is_empty() {
        text.push_str("\nenv: {}\n");
        return;
    }
    text.push_str("\nenv:\n");
    for (name, Placed { value: Variable { value, why }, origin }) in &files.values.env {
        let mut said = match value {
            Some(value) => format!("{{value: {}", quoted(&secrets::shown(name, value))),
            None => "{unset: true".to_owned(),
        };
        if let Some(why) = why {
            let _ = write!(said, ", why: {}", quoted(&secrets::scrub(why)));
        }
        said.push('}');
        line(text, "  ", &quoted(name), &said, origin);
    }
}

fn line(text: &mut String, indent: &str, name: &str, value: &str, origin: &Origin) {
    let origin = match origin {
        Origin::Default(_) => "default".to_owned(),
        origin => plain(&origin.to_string()),
    };
    let _ = writeln!(text, "{indent}{name}: {value}  # {origin}");
}

fn value(key: &Key, text: &str) -> String {
    match key.kind {
        Kind::List(_) if key.unset != Some(text) => {
            let entries: Vec<String> = text
                .split(',')
                .map(|entry| quoted(&secrets::shown(key.path, entry.trim())))
                .collect();
            format!("[{}]", entries.join(", "))
        }
        _ => quoted(&secrets::shown(key.path, text)),
    }
}

/// A text as one scalar on one line: as it is where YAML reads it so, else in quotation marks, in
/// which JSON is YAML too.
pub fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ' ');
    let is_null = matches!(text.to_ascii_lowercase().as_str(), "" | "null");
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    if starts_well && !text.ends_with(' ') && !is_null && text.chars().all(is_plain) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    for letter in serde_json::Value::from(text).to_string().chars() {
        // JSON leaves these as they are, YAML does not take them.
        if matches!(
            letter,
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        ) {
            let _ = write!(quoted, "\\u{:04x}", u32::from(letter));
        } else {
            quoted.push(letter);
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::diagnose::class::{Class, Remedy};
    use crate::profile::layer::Layer;
    use crate::profile::source::{self, Source};

    fn read(text: &str) -> Layer {
        let source = Source { name: "shown.yaml".into(), text: text.to_owned() };
        source::parse(&source).unwrap_or_else(|error| panic!("{error}\n{text}")).values
    }

    #[test]
    fn the_text_is_a_profile_that_says_the_same() {
        let given = "version: 1\ngeometry: {nproc: 8, role: \"a: b # c\"}\nlogs:\n  local-ranks: \
                     [0, 1]\n  prefix: ''\nrendezvous:\n  id: 'null'\nenv:\n  A: {value: \"1\\n2\", why: 'it: is'}\n  B: {unset: true}\n  \
                     HF_TOKEN: hf_abc\n  PROXY: http://me:pw@host/x\npreflight:\n  severity: {NVL073: error}\nrestart:\n  policy: {import: retry}\n";
        let mut files = Files::embedded().expect("the defaults are right");
        files.values = files.values.below(read(given));
        let text = render(&files, Some("for: tests"));
        assert!(!text.contains("hf_abc") && !text.contains(":pw@"), "{text}");
        let again = read(&text);
        let texts = |layer: &Layer| {
            let texts = layer.texts.iter().map(|(key, placed)| (*key, placed.value.clone()));
            texts.collect::<Vec<_>>()
        };
        assert_eq!(texts(&again), texts(&files.values), "{text}");
        let value = |name: &str| again.env[name].value.clone();
        assert_eq!(value("A"), files.values.env["A"].value);
        assert_eq!(value("B"), files.values.env["B"].value);
        assert_eq!(
            again.severity.values().map(|placed| placed.value).collect::<Vec<_>>(),
            [Severity::Error]
        );
        assert_eq!(again.remedies[&Class::Import].value, Remedy::Retry);
        for line in [
            "    import: retry  # shown.yaml:16",
            "  nproc: 8  # shown.yaml:2",
            "  role: \"a: b # c\"  # shown.yaml:2",
            "  nnodes: 1  # default",
            "    NVL073: error  # shown.yaml:14",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        for key in keys::ALL {
            assert!(text.contains(&format!("{}:", key.parts().1)), "{}", key.path);
        }
    }

    proptest! {
        /// E1
        #[test]
        fn any_text_comes_back(value in any::<String>(), name in "[A-Z_]{1,6}[0-9]") {
            let yaml = format!("version: 1\nenv:\n  X{name}: {{value: {}}}\n", quoted(&value));
            // What no file can hold is refused by its reader.
            let layer = read(&yaml);
            let back = layer.env[&format!("X{name}")].value.value.clone();
            prop_assert_eq!(back, Some(value));
        }
    }
}
