//! The launch profiles that are in the program: every file of `launch-profiles/` but the defaults.
//!
//! - B1: none of them is chosen by itself: what holds for a site is for the site to say.

use std::sync::Arc;

use super::source::Source;

/// A profile in the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltIn {
    /// Its name.
    pub name: &'static str,
    /// The file as it is.
    pub text: &'static str,
}

/// A row of [`ALL`]: the file of that name, without its end.
macro_rules! built_in {
    ($name:literal) => {
        BuiltIn {
            name: $name,
            text: include_str!(concat!("../../launch-profiles/", $name, ".yaml")),
        }
    };
}

/// The name of the defaults, which are below every profile and none themselves.
pub const DEFAULT: &str = "default";

/// All of them, by name.
pub static ALL: &[BuiltIn] = &[
    built_in!("a100-ethernet"),
    built_in!("cpu-ci"),
    built_in!("gcu-t20"),
    built_in!("h100-ib-slurm"),
    built_in!("h200-kubernetes"),
    built_in!("workstation"),
];

/// The defaults, as a file.
pub static DEFAULTS: BuiltIn = built_in!("default");

impl BuiltIn {
    /// The profile of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|profile| profile.name == name)
    }

    /// Its text, under the name by which origins call it.
    pub fn source(&self) -> Source {
        let name: Arc<str> = format!("built-in {}.yaml", self.name).into();
        Source { name, text: self.text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::source;

    #[test]
    fn every_file_is_in_the_program_and_right() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/launch-profiles");
        let entries = std::fs::read_dir(folder).expect("the folder is there");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut files: Vec<String> = names
            .filter_map(|name| name.to_str()?.strip_suffix(".yaml").map(str::to_owned))
            .filter(|name| name != DEFAULT)
            .collect();
        files.sort();
        let known: Vec<&str> = ALL.iter().map(|profile| profile.name).collect();
        assert_eq!(known, files, "the table names the files of {folder}");
        for profile in ALL.iter().chain([&DEFAULTS]) {
            let document = source::parse(&profile.source())
                .unwrap_or_else(|error| panic!("{}: {error}", profile.name));
            assert!(document.matching.is_none(), "B1: {}", profile.name);
            let is_described = profile.name == DEFAULT || document.description.is_some();
            assert!(is_described, "{} has no description", profile.name);
        }
    }
}
