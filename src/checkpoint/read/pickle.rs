//! A pickle as data: protocols 0 to 5, nothing is imported and nothing is called.
//!
//! Python's unpickler is a machine whose instructions call whatever a file names. This one has the
//! same stack, marks and memo, and gives an inert value where Python would call. Sources: CPython's
//! `Lib/pickletools.py` and `Modules/_pickle.c`.
//!
//! - K1: what is not understood ends the reading; nothing is guessed.
//! - K2: a length in the file is compared with the bytes there are before anything is allocated.
//! - K3: every value lies once in one arena, and those that hold it know its number: a list that is
//!   doubled forty times, or holds itself, costs what its bytes cost. Nothing recurses, not even to
//!   drop.
//! - K4: values, places in containers and memo entries are counted against [`Limits::objects`].

use std::sync::Arc;

use super::pickle_machine::Machine;
pub use super::pickle_value::{Kind, Value};

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the pickle.
    pub bytes: usize,
    /// Containers that are open at once.
    pub depth: usize,
    /// Values, places in containers and memo entries together; one takes up to 32 bytes of memory.
    pub objects: usize,
}

impl Default for Limits {
    /// 64 MiB, as large an index as a checkpoint of 400,000 pieces has; Python's own recursion
    /// limit keeps honest pickles far from this depth.
    fn default() -> Self {
        Self { bytes: 64 << 20, depth: 10_000, objects: 12_000_000 }
    }
}

/// Why bytes are no pickle that is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// They end before it does.
    #[error("ends too early")]
    Short,
    /// They are none.
    #[error("is no pickle: byte {0} makes no sense")]
    Damaged(usize),
    /// Something follows its end.
    #[error("goes on after its end at byte {0}")]
    Trailing(usize),
    /// It needs something outside of it: an extension's code, a buffer.
    #[error("needs what is not in it (byte {0})")]
    Outside(usize),
    /// It is larger or deeper than [`Limits`] allow.
    #[error("is larger than is read here")]
    TooLarge,
}

/// The value that is pickled in these bytes, which must be nothing but the pickle.
pub fn read(bytes: &[u8], limits: &Limits) -> Result<Value, PickleError> {
    let (value, used) = read_prefix(bytes, limits)?;
    if used == bytes.len() { Ok(value) } else { Err(PickleError::Trailing(used)) }
}

/// The value of the pickle that the bytes begin with, and how many bytes that is.
pub fn read_prefix(bytes: &[u8], limits: &Limits) -> Result<(Value, usize), PickleError> {
    if bytes.len() > limits.bytes {
        return Err(PickleError::TooLarge);
    }
    let mut machine = Machine::new(bytes, *limits);
    let root = machine.run()?;
    let used = machine.at();
    Ok((Value::new(Arc::new(machine.into_arena()), root), used))
}
