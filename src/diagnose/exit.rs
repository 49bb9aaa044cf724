//! How a process ended, and the words for it.

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It called `exit` with this status, 0 to 255.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// Whether the process ended with status 0.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }

    /// The exit code nvlaunch takes over: the status, or 128 + n for signal n.
    pub fn as_exit_code(self) -> u8 {
        match self {
            Self::Code(code) => u8::try_from(code).unwrap_or(u8::MAX),
            Self::Signal(signal) => crate::exit_code::of_signal(signal),
        }
    }
}

/// `SIGSEGV` for 11, `signal 40` for one without a name.
pub fn signal_name(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |s| s.as_str().to_owned())
}
