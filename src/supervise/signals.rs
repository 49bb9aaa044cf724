//! Signals to nvlaunch, as events (S1).
//!
//! They come through signal-hook's self-pipe, never through a blocked mask: the ranks would
//! inherit that and be deaf to TERM. A signal that was ignored when nvlaunch started stays ignored
//! (`nohup` ignores HUP; a shell without job control ignores INT and QUIT for what it starts in
//! the background), except TERM, which is how every scheduler asks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts as s;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;

use super::event::Event;
use crate::host::process::Dispositions;

/// What came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// For the core.
    Event(Event),
    /// A child changed.
    Child,
    /// nvlaunch itself was continued.
    Continued,
}

/// The signals nvlaunch listens to.
#[derive(Debug)]
pub struct Signals {
    delivery: SignalDelivery<UnixStream, WithOrigin>,
    ends: Vec<i32>,
}

/// The signals that end the job, and all that are listened to.
///
/// `extra` comes from `--signals-to-handle`.
pub fn choose(extra: &[i32], at_start: Dispositions) -> (Vec<i32>, Vec<i32>) {
    let mut ends = vec![s::SIGTERM];
    for signal in [s::SIGINT, s::SIGHUP, s::SIGQUIT] {
        if !at_start.ignores(signal) {
            ends.push(signal);
        }
    }
    for &signal in extra {
        if !ends.contains(&signal) && !at_start.ignores(signal) {
            ends.push(signal);
        }
    }
    let mut all = ends.clone();
    for signal in [s::SIGUSR1, s::SIGUSR2, s::SIGCHLD, s::SIGCONT, s::SIGTSTP] {
        let keep_ignored = signal == s::SIGTSTP && at_start.ignores(signal);
        if !all.contains(&signal) && !keep_ignored {
            all.push(signal);
        }
    }
    (ends, all)
}

impl Signals {
    /// Begins to listen.
    pub fn listen(extra: &[i32], at_start: Dispositions) -> io::Result<Self> {
        let (ends, all) = choose(extra, at_start);
        let (read, write) = UnixStream::pair()?;
        let delivery = SignalDelivery::with_pipe(read, write, WithOrigin::default(), &all)?;
        // A caller may have blocked them; then they would never come.
        let mut mask = nix::sys::signal::SigSet::empty();
        all.iter().filter_map(|&n| n.try_into().ok()).for_each(|signal| mask.add(signal));
        mask.thread_unblock()?;
        Ok(Self { delivery, ends })
    }

    /// Readable when something came in.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }

    /// Takes what came in.
    pub fn take(&mut self) -> Vec<Incoming> {
        let ends = &self.ends;
        let incoming = |origin: signal_hook::low_level::siginfo::Origin| {
            let signal = origin.signal;
            let from = origin.process.map(|p| p.pid).filter(|&pid| pid > 0);
            match signal {
                _ if ends.contains(&signal) => Incoming::Event(Event::Asked { signal, from }),
                s::SIGCHLD => Incoming::Child,
                s::SIGCONT => Incoming::Continued,
                s::SIGTSTP => Incoming::Event(Event::Suspend),
                _ => Incoming::Event(Event::Passed { signal }),
            }
        };
        self.delivery.pending().map(incoming).collect()
    }

    /// Whether this signal asks nvlaunch to end.
    pub fn is_end(&self, signal: i32) -> bool {
        self.ends.contains(&signal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignoring(signals: &[i32]) -> Dispositions {
        let ignored = signals.iter().fold(0, |mask, n| mask | 1 << (n - 1));
        Dispositions { ignored, ..Dispositions::default() }
    }

    #[test]
    fn what_was_ignored_at_start_stays_ignored_but_for_term() {
        let (ends, all) = choose(&[], ignoring(&[s::SIGHUP, s::SIGTERM, s::SIGTSTP]));
        assert_eq!(ends, [s::SIGTERM, s::SIGINT, s::SIGQUIT]);
        assert!(!all.contains(&s::SIGHUP) && !all.contains(&s::SIGTSTP));
    }

    #[test]
    fn a_signal_named_by_the_user_ends_and_is_not_passed_on() {
        let (ends, all) = choose(&[s::SIGUSR1, s::SIGTERM], Dispositions::default());
        assert_eq!(ends, [s::SIGTERM, s::SIGINT, s::SIGHUP, s::SIGQUIT, s::SIGUSR1]);
        assert_eq!(all.iter().filter(|&&n| n == s::SIGUSR1).count(), 1);
        assert!(all.contains(&s::SIGUSR2));
    }
}
