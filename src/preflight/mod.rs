//! Preflight: whether this machine can train, and why not.
//!
//! [`crate::host::survey`] reads the facts; everything here is pure and works on values.
//!
//! - [`catalogue`]: every finding there is, with its code, name, severity and long text.
//! - [`vendor`]: whose accelerators the ranks will use.
//! - [`judge`]: from facts to findings.
//! - [`decide`]: from facts and findings to backend, variables and verdict.
//! - [`text`] and [`document`]: what people and machines are told.
//! - [`explain`]: the text of `nvlaunch explain`.
//! - [`output`]: which finding the ranks' last words point to.

pub mod catalogue;
pub mod decide;
pub mod document;
pub mod explain;
pub mod finding;
pub mod judge;
pub mod output;
pub mod text;
pub mod vendor;
pub mod version;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use finding::{Code, Evidence, Finding, Severity};

use crate::compat;
use crate::host::vendors;
use crate::settings::spec::CompatChoice;

/// What the launch wants, as far as preflight's judgement depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Intent {
    /// Ranks on this node; `None` is not known (`nvlaunch preflight` without a job).
    pub nproc: Option<u32>,
    /// Nodes of the job.
    pub nnodes: u32,
    /// `--backend`, where given.
    pub backend: Option<String>,
    /// Severities that a profile sets, by code.
    pub severity: BTreeMap<Code, Severity>,
    /// What is done about scripts that insist on CUDA.
    pub compat: CompatChoice,
}

/// What preflight found and decided.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// Whether a launch may start.
    pub verdict: Verdict,
    /// The vendor's name in the vendor table, or `cpu`.
    pub vendor: String,
    /// The backend, and why.
    pub backend: BackendChoice,
    /// What was found, causes first, each followed by its consequences.
    pub findings: Vec<Finding>,
    /// The variables that the ranks get, and why.
    pub variables: Vec<VariableChoice>,
    /// The name for `--compat` that would help a script which insists on CUDA; `None` where that is
    /// on already, shall not be spoken of, or CUDA is here.
    #[serde(skip)]
    pub compat: Option<&'static str>,
    /// What is known of the ranks' Python environment.
    #[serde(skip)]
    pub python: compat::Python,
}

impl Judgement {
    /// Whether the ranks' devices are those that `PyTorch` calls `cuda`.
    pub fn is_for_cuda(&self) -> bool {
        vendors::find(&self.vendor).is_some_and(|vendor| vendor.torch_device == "cuda")
    }
}

/// Whether a launch may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing stands against it.
    Ok,
    /// It may start, and something is lost.
    Degraded,
    /// It may not start without `--force`.
    Refused,
}

/// The backend of the default process group, for `NVLAUNCH_BACKEND`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendChoice {
    /// `nccl`, `gloo`, `eccl`, …
    pub name: String,
    /// Why this one, as one clause.
    pub reason: String,
    /// What the reason rests on.
    pub evidence: Vec<Evidence>,
}

/// What happens to one variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariableChoice {
    /// Its name.
    pub name: String,
    /// The value that the ranks get; `None` where it is taken away.
    pub value: Option<String>,
    /// Whether it is the user's own, kept as it was.
    pub is_users: bool,
    /// Why, as one clause.
    pub reason: String,
    /// What the reason rests on.
    pub evidence: Vec<Evidence>,
}
