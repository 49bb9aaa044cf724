//! A finding: one cause, its evidence, what helps.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The stable code of a finding: `NVL001`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(pub Cow<'static, str>);

impl Code {
    /// A code of the catalogue.
    pub const fn new(code: &'static str) -> Self {
        Self(Cow::Borrowed(code))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; the job is not worse for it now.
    Note,
    /// The job runs, and something is lost.
    Warning,
    /// The job cannot work: no rank is started without `--force`.
    Error,
}

/// What a finding rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The file, the call, or the variable.
    pub source: String,
    /// What it says.
    pub value: String,
}

/// One way out, most helpful first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// What it does, as an imperative clause: `reload the kernel module without a reboot`.
    pub what: String,
    /// Commands for this machine, with its package names and versions; may be empty.
    pub commands: Vec<String>,
    /// Whether root is needed.
    pub needs_root: bool,
}

/// What nvlaunch does about it by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mitigation {
    /// What is done, as a clause.
    pub what: String,
    /// Variables that are set for it.
    pub variables: Vec<(String, String)>,
    /// Whether it cures the cause, as far as is known; `false` is said as plainly.
    pub cures: bool,
}

/// One thing that is wrong, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its code.
    pub code: Code,
    /// Its name, as `DRIVER_LIB_MISMATCH_NEWER_USERSPACE`.
    pub name: String,
    /// How bad it is, here.
    pub severity: Severity,
    /// One line, with this machine's values.
    pub summary: String,
    /// What it rests on; never empty.
    pub evidence: Vec<Evidence>,
    /// What helps, most helpful first.
    pub remedies: Vec<Remedy>,
    /// What nvlaunch does by itself.
    pub mitigation: Option<Mitigation>,
    /// The finding that this one follows from.
    pub consequence_of: Option<Code>,
}
