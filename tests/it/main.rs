//! The real program with real processes: one binary, every wait bounded.

#![expect(clippy::print_stdout, reason = "what was measured, and why something was skipped")]

mod bad_input;
mod behaviours;
mod cgroup;
mod doubles;
mod first_failure;
mod harness;
mod launch;
mod oom;
mod orphans;
mod parity;
mod pty;
mod signals;
mod streams;
mod stuck;
mod suspend;
