//! Facts built by hand, and the findings that they have to give, exactly.

mod build;
mod cases;
mod mismatch;
mod properties;
mod remedies;
mod surroundings;

pub use build::*;
