//! Why a profile cannot be used, as it is said to people.

use std::path::PathBuf;

use super::problem::Problem;
use super::source::Source;
use crate::error::Explain;
use crate::exit_code;

/// Why the file of a profile cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The system refuses to give it.
    #[error("cannot read the profile `{}`", path.display())]
    Unreadable {
        /// As it was asked for.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What it says is wrong.
    #[error("{}:{}: {}", source_text.name, problems[0].span.line(&source_text.text), problems[0].what)]
    Problems {
        /// The text.
        source_text: Source,
        /// Everything that is wrong, by place; not empty.
        problems: Vec<Problem>,
    },
}

impl Explain for ProfileError {
    fn exit_code(&self) -> u8 {
        exit_code::NO_INPUT
    }
}
