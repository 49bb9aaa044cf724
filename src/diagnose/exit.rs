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

/// What a signal usually means for a training process; `None` for the rest.
pub fn signal_meaning(signal: i32) -> Option<&'static str> {
    Some(match Signal::try_from(signal).ok()? {
        Signal::SIGSEGV => "invalid memory access",
        Signal::SIGABRT => "the program aborted itself",
        Signal::SIGBUS => "bus error",
        Signal::SIGILL => "illegal instruction",
        Signal::SIGFPE => "arithmetic error",
        Signal::SIGPIPE => "wrote to a closed pipe",
        Signal::SIGXCPU => "CPU time limit",
        _ => return None,
    })
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => {
                f.write_str(&signal_name(signal))?;
                signal_meaning(signal).map_or(Ok(()), |meaning| write!(f, " ({meaning})"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_said_in_words() {
        for (exit, words, code) in [
            (Exit::Code(0), "exit code 0", 0),
            (Exit::Code(3), "exit code 3", 3),
            (Exit::Signal(9), "SIGKILL", 137),
            (Exit::Signal(11), "SIGSEGV (invalid memory access)", 139),
            (Exit::Signal(40), "signal 40", 168),
        ] {
            assert_eq!(exit.to_string(), words);
            assert_eq!(exit.as_exit_code(), code);
        }
    }
}
