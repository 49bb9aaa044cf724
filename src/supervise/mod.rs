//! Starts the ranks, watches them, ends them (rules S1 to S9 of `ARCHITECTURE.md`).

pub mod announce;
pub mod core;
pub mod event;
pub mod family;
pub mod init_watch;
pub mod keeper;
pub mod mark;
pub mod meeting;
pub mod port;
pub mod ranks;
pub mod record;
pub mod restart;
pub mod roll_call;
pub mod runtime;
pub mod shim;
pub mod signals;
pub mod warm_start;
