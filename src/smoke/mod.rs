//! The smoke test: whether `init_process_group` and the collectives work on this machine.
//!
//! nvlaunch carries a small Python program ([`PROGRAM`]) and starts it as the ranks of a job. Each
//! rank writes what it does into a file of its own, before and after each step. What follows from
//! these files is decided here and nowhere else; nothing here starts, waits, reads or writes.
//!
//! - Q1: values are checked, not only that a collective comes back.
//! - Q2: one cause is named: a rank that ended before one that stands still, that before one that
//!   is behind the others, and that before a wrong value.
//! - Q3: what a backend does not have is said, and never a failure.
//! - Q4: who hangs follows from what the ranks said of their steps, from where the store saw them,
//!   from the state of their processes and from their Python stacks, in this order.

mod cause;
pub mod document;
pub mod judge;
pub mod junit;
pub mod stack;
pub mod table;
#[cfg(test)]
mod tests;
pub mod track;

use serde::Serialize;

/// The program of the ranks.
pub const PROGRAM: &str = include_str!("program.py");

/// The name of its file.
pub const SCRIPT: &str = "smoke.py";

/// The steps of [`PROGRAM`], in its order.
pub const STEPS: &[&str] = &[
    IMPORT,
    "device",
    INIT,
    FIRST_COLLECTIVE,
    "all_reduce sum float32",
    "all_reduce sum bfloat16",
    "all_reduce sum int64",
    "all_reduce max float32",
    "all_reduce max bfloat16",
    "all_reduce max int64",
    "broadcast",
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "ring",
    "bandwidth",
];

/// The step that imports `PyTorch`.
pub const IMPORT: &str = "import";
/// The step that calls `init_process_group`.
pub const INIT: &str = "init";
/// The step with the first collective.
pub const FIRST_COLLECTIVE: &str = "barrier";

/// The sizes that are measured where nobody says otherwise, in bytes.
pub const SIZES: &[u64] = &[4, 64 << 10, 4 << 20, 64 << 20];
/// The largest size that can be asked for, in bytes.
pub const MOST_BYTES: u64 = 16 << 30;

/// What a rank is told, as JSON in its only argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Order<'a> {
    /// The folder of its files, which exists.
    pub folder: &'a str,
    /// The backend of its process group.
    pub backend: &'a str,
    /// The `torch.device` of its tensors.
    pub device: &'a str,
    /// Modules that teach `PyTorch` about the device.
    pub modules: &'a [String],
    /// The sizes to measure, in bytes.
    pub sizes: &'a [u64],
    /// How long `PyTorch` itself waits for a peer, in seconds: longer than nvlaunch does.
    pub patience: u64,
}

/// Reads sizes such as `4,64k,4M`; k, M and G are powers of 1024.
///
/// # Errors
/// The entry that is none.
pub fn sizes(text: &str) -> Result<Vec<u64>, String> {
    let one = |entry: &str| {
        let digits = entry.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match entry[digits.len()..].to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            _ => return None,
        };
        let bytes = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
        (4..=MOST_BYTES).contains(&bytes).then_some(bytes)
    };
    let entries = text.split(',').map(str::trim);
    entries.map(|entry| one(entry).ok_or_else(|| entry.to_owned())).collect()
}
