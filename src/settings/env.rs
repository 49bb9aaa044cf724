//! A snapshot of the environment, so that everything after `main` is a function of values.

use std::ffi::{OsStr, OsString};

/// The environment of nvlaunch at its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env(pub Vec<(OsString, OsString)>);

impl Env {
    /// The environment of this process.
    pub fn snapshot() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// The value of `name`; the last one where a name stands twice.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str())
    }

    /// The value of `name` where it is set to something.
    pub fn get_nonempty(&self, name: &str) -> Option<&OsStr> {
        self.get(name).filter(|value| !value.is_empty())
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}
