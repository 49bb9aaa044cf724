//! Threads beside the supervising one, which alone takes signals (S1).
//!
//! The kernel gives a signal for a process to any thread that does not block it: to another one where
//! the first has a signal waiting and does not run. On a busy machine that thread may run later than
//! the supervising one, which then sees a rank that Ctrl-C ended before it knows of Ctrl-C itself,
//! and calls it a failure.

use std::io;
use std::thread::{Builder, JoinHandle};

use nix::sys::signal::{SigSet, SigmaskHow};

/// Starts a thread that takes no signal; the caller's own mask stays what it was.
///
/// # Errors
///
/// Where the kernel has no room for a thread.
pub fn spawn<T: Send + 'static>(
    builder: Builder,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    // A thread begins with the mask of the one that made it: it never runs without.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    let thread = builder.spawn(work);
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    thread
}
