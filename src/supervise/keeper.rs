//! The keeper: ends what is left of a run when nvlaunch itself was killed (S4).
//!
//! It is a child of nvlaunch in a session of its own, under a name of its own (`nvl-keeper`), so
//! that neither `pkill nvlaunch` nor a kill of the job's group takes both. It ignores every
//! signal that can be ignored, holds nothing open but the pipe from nvlaunch and stderr, and
//! sleeps in `poll`. An nvlaunch that ends in good order kills its keeper first; so the end of the
//! pipe, or of nvlaunch, means that it is dead or says that it had to leave something. Then the ranks die by their parent-death signal, and the
//! keeper kills everything that carries the run's mark until nothing does.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use super::mark::RunMark;
use crate::exit_code;
use crate::host::process::{self, Process};

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "__keeper";

/// The name it shows in `ps`.
const NAME: &std::ffi::CStr = c"nvl-keeper";

/// What nvlaunch says when it leaves something behind that does not end.
const LEFT: &str = "left";

/// How long the keeper tries to end what is left.
const LIMIT: Duration = Duration::from_secs(30);

/// nvlaunch's end of the pipe to its keeper.
#[derive(Debug)]
pub struct Keeper {
    child: Child,
    pipe: ChildStdin,
    pidfd: Option<OwnedFd>,
}

impl Keeper {
    /// Starts one. Called from the main thread, before the first rank.
    pub fn start(mark: &RunMark, keep_daemons: bool, run_dir: Option<&Path>) -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg0(NAME.to_str().expect("the name is ASCII"))
            .arg(SUBCOMMAND)
            .arg(mark.limit.map_or(String::new(), |limit| limit.to_string()))
            .arg(&mark.run_id)
            .arg(if keep_daemons { "keep" } else { "end" })
            .arg(run_dir.unwrap_or(Path::new("")))
            .arg(std::process::id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .current_dir("/")
            .spawn()?;
        let pipe = child.stdin.take().expect("stdin is a pipe");
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok();
        Ok(Self { child, pipe, pidfd })
    }

    /// Readable once it has ended; `None` before Linux 5.3.
    pub fn pidfd(&self) -> Option<&OwnedFd> {
        self.pidfd.as_ref()
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id fits")
    }

    /// Names a rank, so that the keeper knows which sessions are the job's.
    pub fn know(&mut self, rank_pid: i32) {
        // A keeper that is gone is replaced by the loop; the line is not worth an error.
        let _ = self.pipe.write_all(format!("{rank_pid}\n").as_bytes());
    }

    /// Whether it has ended; reaps it.
    pub fn is_gone(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Leaves it to end what nvlaunch could not: it goes on in silence, for a while.
    pub fn leave(mut self) {
        let _ = self.pipe.write_all(format!("{LEFT}\n").as_bytes());
    }

    /// Ends it: nvlaunch leaves in good order. Waits a second at most.
    pub fn dismiss(mut self) {
        let _ = self.child.kill();
        if let Some(pidfd) = &self.pidfd {
            let limit = PollTimeout::from(1000u16);
            let _ = poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], limit);
        }
        let _ = self.child.try_wait();
    }
}

/// What the keeper was told on its command line.
struct Task {
    mark: RunMark,
    keep_daemons: bool,
    run_dir: Option<PathBuf>,
    /// nvlaunch's process id.
    parent: i32,
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Option<Task> {
    let limit = args.next()?.into_string().ok()?;
    let limit = if limit.is_empty() { None } else { Some(limit.parse().ok()?) };
    let run_id = args.next()?.into_string().ok()?;
    let keep_daemons = args.next()? == "keep";
    let run_dir = Some(args.next()?).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let parent = args.next()?.to_str()?.parse().ok()?;
    Some(Task { mark: RunMark { limit, run_id }, keep_daemons, run_dir, parent })
}

/// Runs the keeper until nvlaunch ends; `args` are the words after [`SUBCOMMAND`].
pub fn run(args: impl Iterator<Item = OsString>) -> u8 {
    let Some(task) = parse(args) else { return exit_code::USAGE };
    // None of these can fail in a way that the keeper could help.
    let _ = nix::unistd::setsid();
    let _ = nix::sys::prctl::set_name(NAME);
    let stop = ignore_signals();
    let mut sessions = Vec::new();
    let mut is_left = false;
    for line in listen(task.parent).lines() {
        match line {
            LEFT => is_left = true,
            pid => sessions.extend(pid.parse::<i32>()),
        }
    }
    if is_left {
        // nvlaunch has said it all, and whoever reads its stderr shall not wait for the keeper.
        if let Ok(null) = File::options().write(true).open("/dev/null") {
            let _ = nix::unistd::dup2_stderr(null);
        }
        // It still lives, writes its report, and carries the mark too.
        end_all(&task, &sessions, Some(task.parent));
        return exit_code::OK;
    }
    let ended = end_all(&task, &sessions, None);
    drop(stop);
    tell(&task, &ended);
    exit_code::OK
}

/// What nvlaunch said until it died.
///
/// The end of the pipe alone does not say so: a process between fork and exec of nvlaunch holds a
/// copy of its end, for ever if somebody stopped it just then.
fn listen(parent: i32) -> String {
    let pidfd = Pid::from_raw(parent).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let mut said = Vec::new();
    let mut is_dead = nix::unistd::getppid().as_raw() != parent;
    let mut stdin = io::stdin().lock();
    loop {
        let mut fds = vec![PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        fds.extend(pidfd.iter().map(|pidfd| PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)));
        let limit = if is_dead { PollTimeout::ZERO } else { PollTimeout::NONE };
        // An error is a signal that came: looked at again.
        let _ = poll(&mut fds, limit);
        let is_ready = |n: usize| fds.get(n).and_then(PollFd::any).unwrap_or(false);
        let (can_read, died) = (is_ready(0), is_ready(1));
        drop(fds);
        if can_read {
            let len = stdin.fill_buf().map_or(0, |bytes| {
                said.extend_from_slice(bytes);
                bytes.len()
            });
            stdin.consume(len);
            if len == 0 {
                break;
            }
        } else if is_dead {
            break;
        }
        is_dead |= died;
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// Takes every catchable signal that would end the keeper, for as long as the value lives.
fn ignore_signals() -> Option<signal_hook::iterator::SignalsInfo> {
    use signal_hook::consts as s;
    let signals = [
        s::SIGHUP,
        s::SIGINT,
        s::SIGQUIT,
        s::SIGTERM,
        s::SIGUSR1,
        s::SIGUSR2,
        s::SIGALRM,
        s::SIGTSTP,
        s::SIGTTIN,
        s::SIGTTOU,
        s::SIGXCPU,
        s::SIGVTALRM,
        s::SIGPROF,
        s::SIGIO,
    ];
    signal_hook::iterator::SignalsInfo::new(signals).ok()
}

/// What the keeper ended, and what it could not end.
#[derive(Default)]
struct Ended {
    count: usize,
    stuck: Vec<i32>,
}

/// Kills whatever carries the mark, but for `spared`, until two looks in a row find nothing.
fn end_all(task: &Task, sessions: &[i32], spared: Option<i32>) -> Ended {
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    let give_up = Instant::now() + LIMIT;
    let mut known: Vec<(i32, u64)> = Vec::new();
    let mut quiet = 0;
    loop {
        let found: Vec<Process> = process::all_pids()
            .into_iter()
            .filter(|&pid| pid != me && Some(pid) != spared && task.mark.is_on(pid))
            .filter_map(process::look)
            .filter(|p| !p.is_zombie())
            .filter(|p| !task.keep_daemons || sessions.contains(&p.session))
            .collect();
        quiet = if found.is_empty() { quiet + 1 } else { 0 };
        if quiet == 2 {
            return Ended { count: known.len(), stuck: Vec::new() };
        }
        if Instant::now() >= give_up {
            let stuck = found.iter().map(|p| p.pid).collect();
            return Ended { count: known.len(), stuck };
        }
        for process in &found {
            if process::signal_if_same(process, Signal::KILL)
                && !known.contains(&(process.pid, process.start_ticks))
            {
                known.push((process.pid, process.start_ticks));
            }
        }
        if !found.is_empty() {
            // The kernel needs a moment to take them down; their pages, not ours.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Says on stderr and in `events.jsonl` what happened: nvlaunch cannot any more.
fn tell(task: &Task, ended: &Ended) {
    let parent = task.parent;
    let mut text = format!("nvlaunch: the launcher (pid {parent}) was killed; its ranks ended");
    if ended.count > 0 {
        let _ = write!(text, " and {} of their processes were killed", ended.count);
    }
    if !ended.stuck.is_empty() {
        let _ = write!(text, "; still there: {:?}", ended.stuck);
    }
    if let Some(dir) = &task.run_dir {
        let _ = write!(text, "; run folder: {}", dir.display());
    }
    text.push('\n');
    let _ = io::stderr().write_all(text.as_bytes());
    if let Some(mut events) = task.run_dir.as_deref().and_then(open_events) {
        let line = serde_json::json!({
            "supervisor_lost": { "pid": parent, "killed": ended.count, "stuck": ended.stuck }
        });
        let _ = writeln!(events, "{line}");
    }
}

fn open_events(run_dir: &Path) -> Option<File> {
    let flags = nix::libc::O_NOFOLLOW;
    OpenOptions::new().append(true).custom_flags(flags).open(run_dir.join("events.jsonl")).ok()
}
