//! The entry of the fuzzer for profiles: any bytes, from the reader to what is shown.
//!
//! - Z1: nothing panics, and nothing takes longer or more memory than a small file may.
//! - Z2: every place lies in the text, and what is shown has no control character.
//! - Z3: what is right stays right: the same text gives the same document again.

use std::path::Path;
use std::sync::Arc;

use super::error::ProfileError;
use super::problem::Problem;
use super::render::{self, Manner};
use super::source::{self, Source};

/// What `profile_read` of `cargo fuzz` calls.
pub fn read(data: &[u8]) {
    let text = match source::text(Path::new("fuzz.yaml"), data.to_vec()) {
        Ok(text) => text,
        Err(error) => return shown(&error),
    };
    let name: Arc<str> = "fuzz.yaml".into();
    let source = Source { name, text };
    let (document, problems) = source::judge(&source);
    let places = problems
        .iter()
        .flat_map(|Problem { span, also, .. }| also.iter().map(|(span, _)| *span).chain([*span]));
    for span in places {
        assert!(source.text.get(span.start..span.end).is_some(), "{span:?}");
    }
    let again = source::judge(&source);
    assert_eq!((document, &problems), (again.0, &again.1));
    for manner in [Manner::PLAIN, Manner { colour: true, width: 40 }] {
        let text = render::whole(&source, &problems, manner);
        assert!(text.ends_with('s') || text.ends_with('r') || text.ends_with('g'), "{text}");
    }
    shown(&ProfileError::Problems { source_text: source, problems });
}

fn shown(error: &ProfileError) {
    let text = error.to_string() + &error.blocks(Manner::PLAIN);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    for entry in error.entries() {
        assert!(!entry.message.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use crate::host::fuzz;
    use crate::settings::defaults;

    const SAMPLES: &[&str] = &[
        defaults::TEXT,
        "version: 1\nextends: a\nmatch:\n  hostname: [gpu*, 'a?']\n  env: {A: b}\n  vendor: cuda\n",
        "version: 1\nenv:\n  NCCL_IB_HCA: {value: mlx5, why: 'the others are storage'}\n  A: {unset: true}\n  HF_TOKEN: x\n",
        "restart:\n  max: 3\n  policy: {import: retry, oom: never}\n",
        "preflight:\n  severity:\n    NVL073: error\n    NVL042: note\n  deadline: 5s\n",
        "a: &a [x, y]\nb: *a\n<<: *a\nc: {d: [1, {e: f}], \"g\\u00e9\": 'h''i'}\n",
        "a: |\n  text\n   more\n\nb: >-\n  folded\n  text\n? key\n: value\n",
        "%YAML 1.2\n---\n!!str a: !x b\n...\n---\nb: @\n\tc: d\r\n",
        "\u{feff}rôle: größe\n日本: \u{202e}x\u{7f}\n",
        "[[[[[[[[[[[[[[[[{{{{{{{{{{{{{{{{",
        "- - - - - - - - - - - - - - - - - - - - - - - - ",
    ];

    #[test]
    fn any_bytes_are_read_checked_and_shown() {
        fuzz::run("profile", SAMPLES, super::read);
    }
}
