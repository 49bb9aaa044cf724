//! How a framework is told where to resume, and the places in such arguments.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

/// What stands for the path, the path as a quoted string of Hydra's, the step, the path's last part
/// and the folder above it.
const PLACES: &[&str] = &["path", "quoted", "step", "name", "dir"];

/// The arguments of a framework's usual scripts. Sources: the resume conventions of each framework's
/// own command line (`HfArgumentParser` over `TrainingArguments`, `LightningCLI`, torchtitan's
/// `JobConfig`, Megatron-LM's `arguments.py`, `tools/train.py` of the `MMEngine` family, the
/// examples of Accelerate and `DeepSpeed`). `NeMo`'s names have `=` in them, which Hydra reads in
/// quotes alone, and not all of its configurations have both keys: `++` sets what is there and what
/// is not.
pub fn words(style: &str) -> Vec<String> {
    let words: &[&str] = match style {
        "hf" | "accelerate" => &["--resume_from_checkpoint", "{path}"],
        "lightning" => &["--ckpt_path", "{path}"],
        "torchtitan" => &["--checkpoint.load_step", "{step}"],
        "megatron" => &["--load", "{dir}", "--ckpt-step", "{step}"],
        "deepspeed" => &["--load_dir", "{dir}", "--ckpt_id", "{name}"],
        "mmengine" => &["--resume", "{path}"],
        "nemo" => &[
            "++exp_manager.resume_if_exists=true",
            "++exp_manager.resume_from_checkpoint={quoted}",
        ],
        "composer" => &["load_path={path}"],
        _ => &[],
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Whether these are Megatron-LM's arguments, which leave something to its tracker.
pub fn is_megatron(words: &[String]) -> bool {
    words.iter().any(|word| word == "--ckpt-step" || word.starts_with("--ckpt-step="))
}

/// The first `{word}` of an argument that stands for nothing; braces of JSON are left alone.
pub fn unknown_place(word: &str) -> Option<&str> {
    word.split('{').skip(1).find_map(|rest| {
        let (name, _) = rest.split_once('}')?;
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic());
        (is_name && !PLACES.contains(&name)).then_some(name)
    })
}

/// The arguments for one checkpoint. A word that needs a step that nobody knows gives `None`.
pub fn fill(words: &[String], path: &Path, step: Option<u64>) -> Option<Vec<OsString>> {
    words.iter().map(|word| fill_word(word, path, step)).collect()
}

fn fill_word(word: &str, path: &Path, step: Option<u64>) -> Option<OsString> {
    let mut filled = Vec::new();
    let mut rest = word;
    while let Some(at) = rest.find('{') {
        filled.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        let place = PLACES
            .iter()
            .find(|name| rest[1..].strip_prefix(**name).is_some_and(|rest| rest.starts_with('}')));
        let Some(name) = place else {
            filled.push(b'{');
            rest = &rest[1..];
            continue;
        };
        rest = &rest[name.len() + 2..];
        match *name {
            "path" => filled.extend_from_slice(path.as_os_str().as_bytes()),
            "quoted" => filled.extend(quoted(path.as_os_str().as_bytes())),
            "name" => filled.extend_from_slice(path.file_name()?.as_bytes()),
            "dir" => {
                let dir = path.parent().map_or(OsStr::new("/"), Path::as_os_str);
                filled.extend_from_slice(dir.as_bytes());
            }
            _ => filled.extend_from_slice(step?.to_string().as_bytes()),
        }
    }
    filled.extend_from_slice(rest.as_bytes());
    Some(OsString::from_vec(filled))
}

/// In double quotes, as the command line of Hydra 1.1 and later takes it: there a backslash is one,
/// except before a quote. Source: `ParsedType`'s quoted strings in Hydra's
/// `core/override_parser/overrides_visitor.py`.
fn quoted(text: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    let mut backslashes = 0;
    for &byte in text {
        if byte == b'"' {
            quoted.extend(std::iter::repeat_n(b'\\', backslashes + 1));
        }
        backslashes = if byte == b'\\' { backslashes + 1 } else { 0 };
        quoted.push(byte);
    }
    quoted.extend(std::iter::repeat_n(b'\\', backslashes));
    quoted.push(b'"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(words: &[&str], step: Option<u64>) -> Option<Vec<String>> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let filled = fill(&words, Path::new("/ckpt/step-7"), step)?;
        Some(filled.into_iter().map(|word| word.into_string().unwrap()).collect())
    }

    #[test]
    fn places_are_filled_and_other_braces_stay() {
        let words = ["--resume={path}", "{name}:{step}", "{\"a\": {step}}", "{dir}", "{", "a}"];
        let expected = ["--resume=/ckpt/step-7", "step-7:7", "{\"a\": 7}", "/ckpt", "{", "a}"];
        assert_eq!(filled(&words, Some(7)).unwrap(), expected);
        assert_eq!(filled(&["{step}"], None), None, "no step is known");
        assert_eq!(unknown_place("{pth}"), Some("pth"));
        assert_eq!(unknown_place("{\"a\": 1}{path}"), None);
    }

    /// Each of these was read back by Hydra 1.3.8 as the path that it stands for.
    #[test]
    fn hydra_reads_a_quoted_path_back() {
        for (path, text) in [
            ("/c/a--val_loss=0.40-step=20-last", r#""/c/a--val_loss=0.40-step=20-last""#),
            ("/c/a b,c{d}[e]:", r#""/c/a b,c{d}[e]:""#),
            (r"/c/a\b", r#""/c/a\b""#),
            (r#"/c/a"b="#, r#""/c/a\"b=""#),
            (r#"/c/a\"b"#, r#""/c/a\\\"b""#),
            (r"/c/end\", r#""/c/end\\""#),
        ] {
            let filled = fill(&["k={quoted}".to_owned()], Path::new(path), None).unwrap();
            assert_eq!(filled, [OsString::from(format!("k={text}"))]);
        }
        let nemo = fill(&words("nemo"), Path::new("/c/a-step=2"), Some(2)).unwrap();
        assert_eq!(nemo[1], r#"++exp_manager.resume_from_checkpoint="/c/a-step=2""#);
    }

    #[test]
    fn megatrons_arguments_are_known() {
        for style in crate::settings::values::RESUME_STYLES {
            assert_eq!(is_megatron(&words(style)), *style == "megatron", "{style}");
        }
        assert!(is_megatron(&["--ckpt-step={step}".to_owned()]));
    }

    #[test]
    fn every_style_says_where() {
        for style in crate::settings::values::RESUME_STYLES {
            let words = words(style);
            assert!(words.iter().all(|word| unknown_place(word).is_none()), "{style}");
            let names_it = words.iter().any(|word| word.contains('{'));
            assert_eq!(names_it, *style != "none", "{style}");
        }
    }
}
