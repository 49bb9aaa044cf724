//! The real program with real processes: one binary, every wait bounded.

#![expect(clippy::print_stdout, reason = "what was measured, and why something was skipped")]

mod answers;
mod bad_input;
mod behaviours;
mod cgroup;
mod checkpoints;
mod classes;
mod compat;
mod doubles;
mod first_failure;
mod generate;
mod harness;
mod hosts;
mod inspect;
mod kills;
mod kills_real;
mod launch;
mod machine;
mod missing;
mod nvml;
mod oom;
mod orphans;
mod parity;
mod plan;
mod preemption;
mod preflight;
mod profile_errors;
mod profiles;
mod pty;
mod restarts;
mod resume;
mod secrets;
mod shipped;
mod signals;
mod smoke;
mod store;
mod streams;
mod stuck;
mod suspend;
mod warm;
