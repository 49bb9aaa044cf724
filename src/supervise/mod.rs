//! Starts the ranks, watches them, ends them (rules S1 to S8 of `ARCHITECTURE.md`).
