//! The embedded defaults, `launch-profiles/default.yaml`.
//!
//! Values are texts, read by the same functions as those of the command line.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::SettingsError;
use crate::preflight::finding::{Code, Severity};

/// The file as it is.
pub const TEXT: &str = include_str!("../../launch-profiles/default.yaml");

/// The default of every option.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Defaults {
    /// How many ranks, and what they are called.
    pub geometry: Geometry,
    /// Where the ranks meet.
    pub store: Store,
    /// What happens after a rank failed.
    pub restart: Restart,
    /// How a job is ended.
    pub shutdown: Shutdown,
    /// What is looked at before a job starts.
    pub preflight: Preflight,
    /// Ranks that are forked from one interpreter.
    pub warm: Warm,
    /// What the ranks read.
    pub input: Input,
    /// What the ranks print.
    pub logs: Logs,
}

/// See `geometry` in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the file says what each key is")]
pub struct Geometry {
    pub nproc_per_node: String,
    pub role: String,
    pub master_addr: String,
    pub master_port: String,
    pub virtual_local_rank: bool,
}

/// See `store` in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the file says what each key is")]
pub struct Store {
    pub host: String,
    pub init_report_after: String,
}

/// See `restart` in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the file says what each key is")]
pub struct Restart {
    pub max_restarts: String,
}

/// See `shutdown` in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the file says what each key is")]
pub struct Shutdown {
    pub timeout: String,
    pub signal_scope: String,
    pub signals_to_handle: String,
    pub keep_daemons: bool,
}

/// See `preflight` in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the file says what each key is")]
pub struct Preflight {
    pub mode: String,
    pub deadline: String,
    pub deadline_without_persistence: String,
    pub severity: BTreeMap<Code, Severity>,
}

/// See `warm` in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the file says what each key is")]
pub struct Warm {
    pub modules: String,
    pub at: String,
    pub timeout: String,
}

/// See `input` in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the file says what each key is")]
pub struct Input {
    pub stdin: String,
}

/// See `logs` in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the file says what each key is")]
pub struct Logs {
    pub redirects: String,
    pub tee: String,
    pub fold: bool,
}

impl Defaults {
    /// Reads the embedded file.
    pub fn embedded() -> Result<Self, SettingsError> {
        serde_yaml::from_str(TEXT).map_err(SettingsError::Defaults)
    }
}
