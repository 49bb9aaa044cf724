//! Why a profile cannot be used, as it is said to people.

use std::io;
use std::path::PathBuf;

use super::problem::{Level, Problem};
use super::render::{self, Counts, Entry, Manner, shown};
use super::source::{MAX_BYTES, Source};
use crate::error::Explain;
use crate::exit_code;

/// Why the file of a profile cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Nothing has that name.
    #[error("there is no file `{}`", shown(path))]
    Missing {
        /// As it was asked for.
        path: PathBuf,
        /// What may have been meant, or why nothing is there.
        hint: Option<String>,
    },
    /// A folder, a pipe, a device.
    #[error("`{}` is {what}, not a file", shown(path))]
    NotAFile {
        /// As it was asked for.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The system refuses to give it.
    #[error("cannot read the profile `{}`", shown(path))]
    Unreadable {
        /// As it was asked for.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// More than [`MAX_BYTES`].
    #[error("`{}` is larger than {} KiB, and no profile is", shown(path), MAX_BYTES >> 10)]
    TooLarge {
        /// As it was asked for.
        path: PathBuf,
    },
    /// Text, and not in UTF-8.
    #[error("`{}` is written in {encoding}, and a profile in UTF-8", shown(path))]
    Encoding {
        /// As it was asked for.
        path: PathBuf,
        /// Its name.
        encoding: &'static str,
    },
    /// A byte that no text has.
    #[error("{}:{line}:{column}: {what}", shown(path))]
    Byte {
        /// As it was asked for.
        path: PathBuf,
        /// From 1.
        line: u32,
        /// In characters, from 1.
        column: u32,
        /// Which byte, and what is wrong with it.
        what: String,
    },
    /// What it says is wrong.
    #[error(
        "the profile `{}` cannot be used\n\n{}",
        source_text.name,
        render::whole(source_text, problems, Manner::PLAIN)
    )]
    Problems {
        /// The text.
        source_text: Source,
        /// Everything that is wrong, by place; not empty.
        problems: Vec<Problem>,
    },
}

impl ProfileError {
    /// What is wrong, for programs.
    pub fn entries(&self) -> Vec<Entry> {
        let (path, place) = match self {
            Self::Problems { source_text, problems } => {
                return render::entries(source_text, problems);
            }
            Self::Byte { path, line, column, .. } => (path, Some((*line, *column))),
            Self::Missing { path, .. }
            | Self::NotAFile { path, .. }
            | Self::Unreadable { path, .. }
            | Self::TooLarge { path }
            | Self::Encoding { path, .. } => (path, None),
        };
        vec![Entry {
            file: shown(path),
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
            end_line: place.map(|(line, _)| line),
            end_column: place.map(|(_, column)| column),
            severity: Level::Error.name(),
            message: self.message(),
            hint: self.hint(),
        }]
    }

    /// What is wrong, for people, as [`render::blocks`] shows it.
    pub fn blocks(&self, manner: Manner) -> String {
        if let Self::Problems { source_text, problems } = self {
            return render::blocks(source_text, problems, manner);
        }
        let blocks = self.entries().into_iter().map(|entry| render::without_text(&entry, manner));
        blocks.collect()
    }

    /// How many there are.
    pub fn counts(&self) -> Counts {
        match self {
            Self::Problems { problems, .. } => Counts::of(problems),
            _ => Counts { errors: 1, warnings: 0 },
        }
    }

    /// The text without the place.
    fn message(&self) -> String {
        match self {
            Self::Byte { what, .. } => what.clone(),
            Self::Unreadable { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}

impl Explain for ProfileError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { hint, .. } => hint.clone(),
            Self::NotAFile { what: "a folder", .. } => {
                Some("name a file in it, as in FOLDER/cluster.yaml".to_owned())
            }
            Self::NotAFile { .. } => Some("write it to a file first".to_owned()),
            Self::TooLarge { .. } => Some("is it a profile, and not a log?".to_owned()),
            Self::Encoding { .. } => Some("save it as UTF-8".to_owned()),
            Self::Byte { .. } => Some("save it as UTF-8 text".to_owned()),
            // Each problem has its own; the system's words say the rest.
            Self::Unreadable { .. } | Self::Problems { .. } => None,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Missing { .. } | Self::NotAFile { .. } | Self::Unreadable { .. } => {
                exit_code::NO_INPUT
            }
            _ => exit_code::CONFIG,
        }
    }
}
