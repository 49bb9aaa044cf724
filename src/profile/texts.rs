//! What every key is for, in words: for the reference page and for editors.
//!
//! The texts of what a launch can be told are the comments of `launch-profiles/default.yaml`. What a
//! file says of itself has no default there; its texts stand here.

use super::keys::Key;
use crate::settings::defaults;

/// The keys that say something of the file, and the conditions of `match`.
pub static OF_FILE: &[(&str, &str)] = &[
    ("version", "The version of this format, 1. Every profile has it."),
    ("description", "What the profile is for, in one sentence."),
    (
        "extends",
        "The profile that this one builds on: a name, or a path as seen from this file's folder.",
    ),
    (
        "match",
        "Where the profile is chosen by itself. Every condition that is given must hold, and of a \
         list one entry; entries are patterns with * and ?, compared without regard to case.",
    ),
    ("match.hostname", "The host's name, with or without its domain."),
    ("match.vendor", "Accelerators of this vendor are here, by a name that --nproc knows."),
    ("match.slurm-cluster", "The name of the Slurm cluster."),
    ("match.slurm-partition", "The Slurm partition of the job."),
    ("match.env", "Environment variables by name, each with a pattern."),
];

/// What a key, a section or a map is for.
pub fn of(path: &str) -> String {
    let own = OF_FILE.iter().find(|(known, _)| *known == path);
    own.map(|(_, text)| (*text).to_owned()).or_else(|| defaults::comment(path)).unwrap_or_default()
}

/// The same for a key, without its option, which the comment begins with.
pub fn of_key(key: &Key) -> String {
    let text = of(key.path);
    let rest = key.option.and_then(|option| text.strip_prefix(option)?.strip_prefix(": "));
    rest.map(str::to_owned).unwrap_or(text)
}

/// The variables that say the same as a key, the strongest first.
pub fn variables(key: &Key) -> Vec<String> {
    let name = key.option.map(|option| option[2..].replace('-', "_").to_uppercase());
    let own = name.iter().map(|name| format!("NVLAUNCH_{name}"));
    let pet = name.iter().filter(|_| key.torchrun).map(|name| format!("PET_{name}"));
    own.chain(pet).chain(key.variable.map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::keys;

    #[test]
    fn every_key_has_a_text_that_is_a_sentence() {
        let of_keys = keys::ALL.iter().map(|key| (key.path, of_key(key)));
        let others = keys::HEADER.iter().chain(keys::MAPS).map(|path| (*path, of(path)));
        for (path, text) in of_keys.chain(others) {
            assert!(text.ends_with('.') && !text.starts_with("--n-"), "{path}: `{text}`");
        }
        assert_eq!(of_key(&keys::NNODES), "nodes of the job; one is all there is today.");
        let variables = variables(&keys::SHUTDOWN_TIMEOUT);
        let expected =
            ["NVLAUNCH_SHUTDOWN_TIMEOUT", "PET_SHUTDOWN_TIMEOUT", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"];
        assert_eq!(variables, expected);
    }
}
