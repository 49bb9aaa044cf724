//! nvlaunch starts, watches and ends distributed `PyTorch` jobs.
//!
//! The way of a launch, left to right: what the user typed ([`cli`]) becomes what the user wants
//! ([`settings::spec::LaunchSpec`]); together with what is true on this machine ([`host`]) it
//! becomes what will be done ([`plan`]); [`supervise`] does it; [`report`] says what happened.
//! Left of each arrow the world is read, right of it values are computed. `ARCHITECTURE.md` has
//! the map and the invariants.

#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod cli;
pub mod command;
pub mod compat;
pub mod diagnose;
pub mod env_vars;
pub mod error;
pub mod exit_code;
pub mod generate;
pub mod host;
pub mod layout;
pub mod logs;
pub mod plan;
pub mod preflight;
pub mod probe;
pub mod profile;
pub mod report;
pub mod settings;
pub mod smoke;
pub mod store;
pub mod supervise;
pub mod thread;
pub mod warm;
