//! What one file says.

use std::collections::BTreeMap;

use super::layer::{Layer, Placed};

/// One file, read and checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// What it is for, in one sentence (`description`).
    pub description: Option<String>,
    /// The profile it builds on (`extends`): a name, or a path as seen from its folder.
    pub extends: Option<Placed<String>>,
    /// Where it is chosen by itself (`match`).
    pub matching: Option<Placed<Match>>,
    /// Its values.
    pub values: Layer,
    /// What may be wrong, one line each with its place, for the notes of a launch.
    pub notes: Vec<String>,
}

/// Where a profile is chosen by itself: every condition that is given must hold, and of a list one
/// entry. Entries are glob patterns (`*` and `?`), compared without regard to case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// The host's name, with or without its domain.
    pub hostname: Vec<String>,
    /// Accelerators of this vendor are here, by the names of the vendor table.
    pub vendor: Vec<String>,
    /// The name of the Slurm cluster.
    pub slurm_cluster: Vec<String>,
    /// The Slurm partition of the job.
    pub slurm_partition: Vec<String>,
    /// Variables, by name.
    pub env: BTreeMap<String, String>,
}
