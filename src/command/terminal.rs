//! The terminal as it was before a rank had it.
//!
//! A rank that has the terminal itself (`breakpoint()`, a progress bar, a pager) may be killed while
//! it has switched echo or line editing off. A shell would repair that for its own children; here
//! nvlaunch stands between.

use std::io::stdin;

use rustix::process::getpgrp;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

/// The settings of the terminal on standard input.
pub(super) struct Terminal(Termios);

impl Terminal {
    /// Remembers them; `None` where standard input is no terminal.
    pub(super) fn remember() -> Option<Self> {
        tcgetattr(stdin()).ok().map(Self)
    }

    /// Puts them back, where the terminal is still ours to change: a background job must not.
    pub(super) fn restore(&self) {
        if tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp()) {
            // Where it is gone nothing needs repair.
            let _ = tcsetattr(stdin(), OptionalActions::Drain, &self.0);
        }
    }
}
