//! The real program with real processes: one binary, every wait bounded.

mod doubles;
mod harness;
mod launch;
mod orphans;
mod pty;
mod signals;
mod suspend;
