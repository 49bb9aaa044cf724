//! What a file says, by key, and how layers are joined. Pure.

use std::collections::BTreeMap;

use crate::diagnose::class::{Class, Remedy};
use crate::preflight::finding::{Code, Severity};
use crate::settings::{Origin, SettingsError, defaults};

/// A value and where it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub origin: Origin,
}

/// What a profile says of one variable of the ranks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variable {
    /// The value it gets; `None` takes it away.
    pub value: Option<String>,
    /// Why.
    pub why: Option<String>,
}

/// The values of one file, or of several joined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layer {
    /// By path, as `geometry.nproc`; written as on the command line.
    pub texts: BTreeMap<&'static str, Placed<String>>,
    /// `env`, by name.
    pub env: BTreeMap<String, Placed<Variable>>,
    /// `preflight.severity`, by code.
    pub severity: BTreeMap<Code, Placed<Severity>>,
    /// `restart.policy`, by class.
    pub remedies: BTreeMap<Class, Placed<Remedy>>,
}

impl Layer {
    /// This layer with another above it, whose values win. Associative; the empty layer changes
    /// nothing.
    #[must_use]
    pub fn below(mut self, above: Self) -> Self {
        self.texts.extend(above.texts);
        self.env.extend(above.env);
        self.severity.extend(above.severity);
        self.remedies.extend(above.remedies);
        self
    }
}

/// The layers of files, joined, and the profile among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Everything from the embedded defaults to the profile.
    pub values: Layer,
    /// The profile, where one was chosen.
    pub profile: Option<Used>,
    /// One line each for the user.
    pub notes: Vec<String>,
}

impl Files {
    /// The embedded defaults alone.
    pub fn embedded() -> Result<Self, SettingsError> {
        Ok(Self { values: defaults::layer()?, ..Self::default() })
    }
}

/// The profile that a launch uses.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Used {
    /// Its name.
    pub name: String,
    /// The file, as it is shown; `built-in` for those in the program.
    pub file: String,
    /// Why this one, as one clause: `--profile`, `hostname is gpu-17`.
    pub why: String,
    /// What it extends, nearest first.
    pub extends: Vec<String>,
}
