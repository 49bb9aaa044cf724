//! How a framework is told where to resume, and the places in such arguments.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

/// What stands for the step, the path, its last part and the folder above it.
const PLACES: &[&str] = &["path", "step", "name", "dir"];

/// The arguments of a framework's usual scripts. Sources: the resume conventions of each framework's
/// own command line (`HfArgumentParser` over `TrainingArguments`, `LightningCLI`, torchtitan's
/// `JobConfig`, Megatron-LM's `arguments.py`, `tools/train.py` of the `MMEngine` family, the
/// examples of Accelerate and `DeepSpeed`).
pub fn words(style: &str) -> Vec<String> {
    let words: &[&str] = match style {
        "hf" | "accelerate" => &["--resume_from_checkpoint", "{path}"],
        "lightning" => &["--ckpt_path", "{path}"],
        "torchtitan" => &["--checkpoint.load_step", "{step}"],
        "megatron" => &["--load", "{dir}", "--ckpt-step", "{step}"],
        "deepspeed" => &["--load_dir", "{dir}", "--ckpt_id", "{name}"],
        "mmengine" => &["--resume", "{path}"],
        "nemo" => {
            &["exp_manager.resume_if_exists=true", "exp_manager.resume_from_checkpoint={path}"]
        }
        "composer" => &["load_path={path}"],
        _ => &[],
    };
    words.iter().map(|word| (*word).to_owned()).collect()
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
