//! The real program with real processes: one binary, every wait bounded.

mod behaviours;
mod harness;
mod launch;
mod parity;
