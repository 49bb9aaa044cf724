//! What can be wrong with the options.

use super::Origin;
use crate::error::Explain;
use crate::exit_code;

/// What is wrong with a value, whoever gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The value and what it is not.
    pub what: String,
    /// What could stand there.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem with a next step.
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: Some(hint.into()) }
    }
}

/// Why the options make no launch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A value cannot be used.
    #[error("{origin}: {}", problem.what)]
    Value {
        /// Where it was given.
        origin: Origin,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A value that has to be text is not.
    #[error("{origin}: the value is not valid UTF-8")]
    NotText {
        /// Where it was given.
        origin: Origin,
    },
    /// Both ways to run something else than a script.
    #[error("-m and --no-python exclude each other")]
    ModuleWithoutPython,
    /// `nvlaunch ""`.
    #[error("the name of the script is empty")]
    EmptyScript,
    /// `nvlaunch -`.
    #[error("a script cannot be read from the standard input")]
    ScriptFromStdin,
    /// More than one node.
    #[error("{origin}: a job of several nodes is not built yet, and {asked} were asked for")]
    SeveralNodes {
        /// Where it was given.
        origin: Origin,
        /// As typed.
        asked: String,
    },
    /// A node rank other than 0.
    #[error("{origin}: there is no node {asked} in a job of one node")]
    NodeRank {
        /// Where it was given.
        origin: Origin,
        /// As typed.
        asked: i64,
    },
    /// The embedded defaults cannot be read.
    #[error("internal error: the embedded defaults cannot be read: {0}")]
    Defaults(String),
}

impl Explain for SettingsError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Value { problem, .. } => problem.hint.clone(),
            Self::NotText { .. } | Self::EmptyScript => None,
            Self::ModuleWithoutPython => {
                Some("-m starts Python with a module, --no-python starts no Python".to_owned())
            }
            Self::ScriptFromStdin => {
                Some("write it to a file: every rank has to read it".to_owned())
            }
            Self::SeveralNodes { .. } => Some("start it with --nnodes 1".to_owned()),
            Self::NodeRank { .. } => Some("leave --node-rank out".to_owned()),
            Self::Defaults(_) => Some("please report this".to_owned()),
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Defaults(_) => exit_code::INTERNAL,
            _ => exit_code::USAGE,
        }
    }
}
