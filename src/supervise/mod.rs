//! Starts the ranks, watches them, ends them (rules S1 to S8 of `ARCHITECTURE.md`).

pub mod announce;
pub mod core;
pub mod event;
pub mod family;
pub mod keeper;
pub mod mark;
pub mod port;
pub mod ranks;
pub mod record;
pub mod runtime;
pub mod shim;
pub mod signals;
