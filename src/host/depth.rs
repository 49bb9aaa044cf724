//! How much of a machine is read.

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// What a launch has to know; what is costly is read only where a sign makes it matter.
    Launch,
    /// Everything.
    Full,
}
