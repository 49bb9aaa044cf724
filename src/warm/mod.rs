//! Warm start: ranks that are forked from an interpreter which has imported their modules.
//!
//! One *template* process imports the modules, once, and is forked into the ranks of an attempt.
//! It is started exactly as a rank is, `python -u script.py args`, with a module `sitecustomize`
//! before the environment's own ([`archive`], `template.py`). That module runs before the
//! interpreter looks at the script; it never ends in the template, and ends in a forked rank. So a
//! rank's script is found, run and ended by the interpreter itself, as in a cold rank: no frame, no
//! `__main__` and no exit of ours is in between.
//!
//! - W1: the ranks are forked by a process in between that ends: the kernel gives them to
//!   nvlaunch, a child subreaper, as its own children. What watches and ends cold ranks does the
//!   same with them.
//! - W2: a rank's script runs only after nvlaunch has seen every rank of the attempt as a child of
//!   its own ([`candidates`]). Until then a forked process is nobody: whatever goes wrong, all are
//!   ended and cold ranks are started, with one line.
//! - W3: a template that opened a device, kept a thread or a process, or read a variable that
//!   differs from rank to rank is not used ([`decide`] says what is known before it is started).
//! - W4: nothing waits without a bound: the imports have `--warm-timeout`, the forks a limit.

pub mod archive;
pub mod candidates;
pub mod decide;
pub mod protocol;
pub mod request;
pub mod template;

pub use decide::{WarmPlan, Warmth, decide};
