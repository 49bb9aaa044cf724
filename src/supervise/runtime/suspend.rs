//! The loop's part in Ctrl-Z: the whole job stops, and nvlaunch with it.

use std::time::Instant;

use rustix::process::Signal;

use super::Runtime;
use crate::host::process;
use crate::supervise::signals::Incoming;

impl Runtime<'_> {
    /// Stops the job and then nvlaunch; returns when it is continued.
    pub(super) fn suspend(&mut self) {
        let stopped = Instant::now();
        self.signal_everything(Signal::STOP);
        // Whoever took the stop back already will not do so again. One that comes between this
        // look and the stop is lost: the kernel has no "stop unless continued".
        let mut came = self.signals.take();
        if !came.contains(&Incoming::Continued) {
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
            came.extend(self.signals.take());
        }
        self.clock.suspended += stopped.elapsed();
        // The SIGCONT that woke nvlaunch is accounted for; whatever else came is looked at next.
        self.backlog.extend(came.into_iter().filter(|came| *came != Incoming::Continued));
    }

    pub(super) fn signal_everything(&self, signal: Signal) {
        for rank in self.ranks.unreaped() {
            self.ranks.signal_group(rank, signal);
            // A descendant in another group belongs to the job too.
            let below = self.ranks.pid(rank).map(process::children).unwrap_or_default();
            for process in process::with_descendants(below) {
                process::signal_if_same(&process, signal);
            }
        }
        let template = self.warm.pid().into_iter().collect();
        for process in process::with_descendants(template) {
            process::signal_if_same(&process, signal);
        }
        self.family.signal_all(signal);
    }
}
