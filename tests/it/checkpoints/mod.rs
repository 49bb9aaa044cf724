//! Checkpoints: what is chosen from real ones.

mod matrix;
mod readers;
