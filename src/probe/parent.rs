//! nvlaunch's side: starts the child, reads what it says, and leaves it at the deadline.
//!
//! Nothing here blocks beyond the deadline and [`GRACE`]: the pipes are read without waiting, and
//! a child is reaped only once it has ended. One that the kernel does not give back is left to a
//! thread that reaps it should it ever end; it is no reason to stay for, and the supervisor takes
//! it for a process that was there before the first rank.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};
use serde::de::DeserializeOwned;

use super::protocol::{Message, Reader};
use crate::diagnose::exit::Exit;
use crate::host::facts::nvidia::{Death, Hang, Probe};
use crate::host::process;

/// How long a killed child is looked at.
const GRACE: Duration = Duration::from_millis(50);

/// How long to wait between two looks where the kernel has no pidfds.
const TICK: Duration = Duration::from_millis(1);

/// How much of stderr is kept, in bytes and in lines.
const STDERR_BYTES: usize = 4096;
const STDERR_LINES: usize = 10;

/// Starts the child and waits for its answer, until the deadline at the latest.
///
/// `first_stage` is what it does before it says anything.
pub fn ask<T: DeserializeOwned>(
    mut command: Command,
    first_stage: &str,
    deadline: Duration,
) -> Probe<T> {
    let since = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = match command.spawn().and_then(Asked::new) {
        Ok(child) => child,
        Err(error) => {
            let exit = format!("could not be started: {error}");
            let stage = first_stage.to_owned();
            return Probe::Died(Death { stage, exit, stderr: Vec::new() });
        }
    };
    child.listen(first_stage, since, deadline)
}

/// A child that is asked.
struct Asked {
    child: Child,
    pidfd: Option<OwnedFd>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    said: Vec<u8>,
}

/// What a look at the child's end found.
enum End {
    NotYet,
    /// `None`: somebody else has reaped it.
    Ended(Option<ExitStatus>),
}

impl Asked {
    fn new(mut child: Child) -> io::Result<Self> {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok();
        let asked = Self { child, pidfd, stdout, stderr, said: Vec::new() };
        for pipe in asked.pipes() {
            rustix::fs::fcntl_setfl(pipe, OFlags::NONBLOCK)?;
        }
        Ok(asked)
    }

    fn pipes(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let stdout = self.stdout.as_ref().map(AsFd::as_fd);
        stdout.into_iter().chain(self.stderr.as_ref().map(AsFd::as_fd))
    }

    fn listen<T: DeserializeOwned>(
        mut self,
        first_stage: &str,
        since: Instant,
        deadline: Duration,
    ) -> Probe<T> {
        let mut stage = first_stage.to_owned();
        let mut reader = Reader::default();
        loop {
            // Looked at before the last read: what it said before its end is all there then.
            let end = self.look();
            for message in self.hear(&mut reader) {
                match message {
                    Message::Stage(next) => stage = next,
                    Message::Answer(answer) => {
                        self.leave();
                        return Probe::Answered(answer);
                    }
                }
            }
            if let End::Ended(status) = end {
                return Probe::Died(self.died(stage, status));
            }
            let left = deadline.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Probe::Hung(self.hung(stage, since.elapsed()));
            }
            self.wait(left);
        }
    }

    /// Waits for something to read, for the end, or so long.
    fn wait(&self, limit: Duration) {
        let limit = if self.pidfd.is_none() && self.stdout.is_none() { TICK } else { limit };
        let fds = self.pipes().chain(self.pidfd.as_ref().map(AsFd::as_fd));
        let mut fds: Vec<PollFd> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // Rounded up, so that the last wait does not spin. An error is a signal that came.
        let millis = u16::try_from(limit.as_millis() + 1).unwrap_or(u16::MAX);
        let _ = poll(&mut fds, PollTimeout::from(millis));
    }

    fn look(&mut self) -> End {
        match self.child.try_wait() {
            Ok(None) => End::NotYet,
            Ok(Some(status)) => End::Ended(Some(status)),
            Err(_) => End::Ended(None),
        }
    }

    /// Reads what is there; a pipe at its end is closed.
    fn hear<T: DeserializeOwned>(&mut self, reader: &mut Reader) -> Vec<Message<T>> {
        let mut messages = Vec::new();
        read_some(&mut self.stdout, |bytes| messages.extend(reader.read(bytes)));
        read_some(&mut self.stderr, |bytes| {
            self.said.extend_from_slice(bytes);
            self.said.drain(..self.said.len().saturating_sub(STDERR_BYTES));
        });
        messages
    }

    fn died(self, stage: String, status: Option<ExitStatus>) -> Death {
        let exit = status.and_then(|status| match (status.code(), status.signal()) {
            (Some(code), _) => Some(Exit::Code(code)),
            (None, signal) => signal.map(Exit::Signal),
        });
        let exit = exit.map_or_else(|| "ended, nobody knows how".to_owned(), |e| e.to_string());
        Death { stage, exit, stderr: last_lines(&self.said) }
    }

    fn hung(self, stage: String, after: Duration) -> Hang {
        let pid = i32::try_from(self.child.id()).expect("a process id fits");
        let before = (process::look(pid), process::waits_in(pid));
        let survived_kill = !self.leave();
        // What does not die of KILL shows by then where it is stuck.
        let (seen, waits_in) =
            if survived_kill { (process::look(pid), process::waits_in(pid)) } else { before };
        Hang {
            stage,
            after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
            process_state: seen.map(|process| process.state),
            waits_in,
            survived_kill,
        }
    }

    /// Kills it with what it started, and reaps it if it ends soon; whether it did.
    fn leave(mut self) -> bool {
        if matches!(self.look(), End::Ended(_)) {
            return true;
        }
        let pid = Pid::from_child(&self.child);
        // Its group is its own once it leads a session; before, there is no such group.
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = kill_process(pid, Signal::KILL);
        // A full pipe nobody reads is no reason to end later.
        (self.stdout, self.stderr) = (None, None);
        let since = Instant::now();
        while since.elapsed() < GRACE {
            if matches!(self.look(), End::Ended(_)) {
                return true;
            }
            self.wait(GRACE.saturating_sub(since.elapsed()));
        }
        if matches!(self.look(), End::Ended(_)) {
            return true;
        }
        let mut child = self.child;
        let reaper = std::thread::Builder::new().name("probe-reaper".to_owned());
        // Without a thread it stays a zombie until nvlaunch ends.
        let _ = crate::thread::spawn(reaper, move || child.wait());
        false
    }
}

/// Hands on what can be read without waiting, at most 1 MiB; closes the pipe at its end.
fn read_some(pipe: &mut Option<impl Read>, mut take: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 << 10];
    for _ in 0..64 {
        let Some(open) = pipe else { return };
        match open.read(&mut buffer) {
            Ok(0) => *pipe = None,
            Ok(len) => take(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => *pipe = None,
        }
    }
}

fn last_lines(said: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(said);
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.chars().map(printable).collect::<String>().trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(STDERR_LINES)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn shell(script: &str, deadline: Duration) -> Probe<u32> {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        ask(command, "first", deadline)
    }

    #[test]
    fn the_answer_is_taken_and_nothing_waited_for() {
        let since = Instant::now();
        let answer = shell("echo noise; echo '{\"answer\":7}'; exec sleep 60", LIMIT);
        assert_eq!(answer, Probe::Answered(7));
        assert!(since.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn no_zombie_is_left_of_one_that_ends() {
        let script = "echo \"{\\\"answer\\\":$$}\"; exec sleep 60";
        let Probe::Answered(pid) = shell(script, LIMIT) else { panic!("it answers") };
        assert_eq!(process::look(i32::try_from(pid).unwrap()), None);
    }

    #[test]
    fn a_death_names_the_stage_the_exit_and_the_last_words() {
        let script = "echo '{\"stage\":\"a(1)\"}'; seq 20 >&2; printf '\\033[1mlast' >&2; exit 3";
        let Probe::Died(death) = shell(script, LIMIT) else { panic!("it died") };
        assert_eq!((death.stage.as_str(), death.exit.as_str()), ("a(1)", "exit code 3"));
        assert_eq!((death.stderr.len(), death.stderr[9].as_str()), (10, "[1mlast"));
        let Probe::Died(death) = shell("kill -SEGV $$", LIMIT) else { panic!("it died") };
        assert_eq!(death.stage, "first");
        assert!(death.exit.starts_with("SIGSEGV"), "{}", death.exit);
    }

    #[test]
    fn what_was_said_right_before_the_end_counts() {
        for _ in 0..50 {
            assert_eq!(shell("echo '{\"answer\":7}'", LIMIT), Probe::Answered(7));
        }
    }

    #[test]
    fn a_flood_on_stderr_holds_nobody() {
        let answer = shell("yes x | head -c 3000000 >&2; echo '{\"answer\":7}'", LIMIT);
        assert_eq!(answer, Probe::Answered(7));
    }

    #[test]
    fn a_child_that_closed_its_pipes_is_waited_for_until_the_deadline() {
        let limit = Duration::from_millis(200);
        let Probe::Hung(hang) = shell("exec >&- 2>&-; exec sleep 60", limit) else {
            panic!("it hung")
        };
        assert_eq!((hang.stage.as_str(), hang.survived_kill), ("first", false));
        assert!((200..5_000).contains(&hang.after_ms), "{}", hang.after_ms);
        assert_eq!(hang.process_state, Some('S'));
    }

    #[test]
    fn what_cannot_be_started_is_said() {
        let answer: Probe<u32> = ask(Command::new("/nowhere/nvlaunch"), "first", LIMIT);
        assert!(
            matches!(answer, Probe::Died(death) if death.exit.contains("could not be started"))
        );
    }
}
