//! One variable of the ranks: what happens to it, why, and where that was said.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

/// What happens to a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvChange {
    /// It gets this value.
    Set(OsString),
    /// It has this value where nvlaunch starts, and keeps it.
    Keep(OsString),
    /// The ranks do not get it.
    Remove,
}

/// Who decided a variable, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// torchrun's contract with its ranks, and nvlaunch's own names.
    Contract,
    /// The environment that nvlaunch was started in.
    Caller,
    /// The launch profile and the files below it.
    Profile,
    /// What preflight chose.
    Preflight,
    /// What is done where nobody says anything.
    Default,
}

/// A decided variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: OsString,
    /// What happens to it.
    pub change: EnvChange,
    /// Who decided.
    pub layer: Layer,
    /// Where that was said, as people read it: `site.yaml:12`, `--role`, `your environment`.
    pub origin: String,
    /// Why, as one clause.
    pub reason: String,
}

impl Variable {
    pub(super) fn set(
        name: &str,
        value: impl Into<OsString>,
        layer: Layer,
        origin: String,
        reason: &str,
    ) -> Self {
        let change = EnvChange::Set(value.into());
        Self { name: name.into(), change, layer, origin, reason: reason.to_owned() }
    }

    pub(super) fn removed(name: &str, layer: Layer, origin: String, reason: &str) -> Self {
        let change = EnvChange::Remove;
        Self { name: name.into(), change, layer, origin, reason: reason.to_owned() }
    }

    /// Whether the ranks do not get it.
    pub fn is_removed(&self) -> bool {
        self.change == EnvChange::Remove
    }

    /// Name and value; `None` where nothing is set.
    pub(super) fn set_pair(&self) -> Option<(OsString, OsString)> {
        self.pair().filter(|_| matches!(self.change, EnvChange::Set(_)))
    }

    /// Name and value; `None` where it is taken away.
    pub fn pair(&self) -> Option<(OsString, OsString)> {
        match &self.change {
            EnvChange::Set(value) | EnvChange::Keep(value) => {
                Some((self.name.clone(), value.clone()))
            }
            EnvChange::Remove => None,
        }
    }
}
