//! The ranks' processes: starting, watching, signalling, reaping.
//!
//! - R1: only the main thread starts ranks (S2: the parent-death signal follows the thread).
//! - R2: an exit is looked at without reaping; the unreaped leader keeps the group id (S3).
//! - R3: a stop is asked of the rank alone unless the scope says otherwise (S3).
//! - R4: a rank that was forked from a template is a child that the kernel gave to nvlaunch; from
//!   [`Ranks::adopt`] on it is a rank like any other.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, pidfd_open,
    waitid,
};

use super::family;
use super::shim::{self, Order};
use crate::diagnose::exit::Exit;
use crate::host::process::{self, Dispositions};
use crate::logs::{RankOutput, RankPipes};
use crate::plan::{AttemptEnv, Plan};
use crate::settings::spec::SignalScope;

/// In the order of a shim that becomes no rank.
const NO_RANK: u32 = u32::MAX;

/// A rank's process, from its start to its reaping.
#[derive(Debug)]
struct Running {
    pid: Pid,
    /// `None` before Linux 5.3.
    pidfd: Option<OwnedFd>,
}

/// The ranks of the current attempt.
#[derive(Debug)]
pub struct Ranks {
    running: Vec<Option<Running>>,
    scope: SignalScope,
    order: Order,
    status: std::fs::File,
    /// Inherited by the shims, closed by them.
    _status_write: OwnedFd,
}

impl Ranks {
    /// No ranks yet; opens the pipe on which shims say why they could not become a rank.
    pub fn new(scope: SignalScope, mark: Option<u64>, open_files: Option<u64>) -> io::Result<Self> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // The shims inherit this copy: it has no close-on-exec flag.
        let write = nix::unistd::dup(&write)?;
        fcntl(&write, FcntlArg::F_SETFL(OFlag::empty()))?;
        let order = Order {
            rank: 0,
            parent: nix::unistd::getpid().as_raw(),
            status_fd: write.as_raw_fd(),
            mark,
            open_files,
            cpus: Vec::new(),
        };
        let status = std::fs::File::from(read);
        Ok(Self { running: Vec::new(), scope, order, status, _status_write: write })
    }

    /// A new attempt with this many ranks to come.
    pub fn begin_attempt(&mut self, ranks: usize) {
        self.running = std::iter::repeat_with(|| None).take(ranks).collect();
    }

    /// Starts one rank; its process id.
    pub fn start(
        &mut self,
        plan: &Plan,
        rank: u32,
        env: &AttemptEnv,
        pipes: RankPipes,
    ) -> io::Result<i32> {
        let planned = &plan.ranks[rank as usize];
        let order =
            Order { rank, cpus: planned.cpus.clone().unwrap_or_default(), ..self.order.clone() };
        let stdin = if plan.stdin_rank == Some(rank) { Stdio::inherit() } else { Stdio::null() };
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0(env!("CARGO_PKG_NAME"))
            .arg(shim::SUBCOMMAND)
            .arg(order.to_word())
            .arg(&planned.program)
            .args(plan.rank_args(rank, env))
            .stdin(stdin)
            .stdout(stdio(pipes.stdout))
            .stderr(stdio(pipes.stderr));
        for name in plan.removed_env() {
            command.env_remove(name);
        }
        command.envs(plan.rank_env(rank, env));
        let child = command.spawn()?;
        let id = i32::try_from(child.id()).expect("a process id fits");
        self.adopt(rank, id);
        Ok(id)
    }

    /// Takes a child of nvlaunch for a rank.
    pub fn adopt(&mut self, rank: u32, id: i32) {
        let pid = Pid::from_raw(id).expect("a child's id is not 0");
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok();
        self.running[rank as usize] = Some(Running { pid, pidfd });
    }

    /// What a shim is told that becomes no rank, for all CPUs.
    pub fn order_for_template(&self) -> Order {
        Order { rank: NO_RANK, ..self.order.clone() }
    }

    /// Readable once the rank has ended.
    pub fn pidfd(&self, rank: u32) -> Option<&OwnedFd> {
        self.running.get(rank as usize)?.as_ref()?.pidfd.as_ref()
    }

    /// Local ranks that are not reaped.
    pub fn unreaped(&self) -> Vec<u32> {
        (0u32..).zip(&self.running).filter(|(_, r)| r.is_some()).map(|(rank, _)| rank).collect()
    }

    /// How a rank ended, where it has; it stays unreaped (R2).
    pub fn exit_of(&self, rank: u32) -> Option<Exit> {
        let running = self.running.get(rank as usize)?.as_ref()?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(running.pid), options).ok()??;
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Some(Exit::Code(code)),
            (None, Some(signal)) => Some(Exit::Signal(signal)),
            (None, None) => None,
        }
    }

    /// Ranks whose program could not be executed, since the last call.
    pub fn exec_failures(&mut self) -> Vec<(u32, io::Error)> {
        let mut bytes = Vec::new();
        // Ends with "would block": the write end stays open.
        let _ = self.status.read_to_end(&mut bytes);
        let mut failures = shim::read_status(&bytes);
        failures.retain(|(rank, _)| *rank != NO_RANK);
        failures
    }

    /// Sends a signal in the job's scope. Says whether it was sent: a notice that would kill
    /// (`unless_fatal`) is kept back.
    pub fn signal(&self, rank: u32, number: i32, unless_fatal: bool) -> bool {
        let Some(running) = self.running.get(rank as usize).and_then(Option::as_ref) else {
            return false;
        };
        let raw = running.pid.as_raw_nonzero().get();
        if unless_fatal && Dispositions::of(&raw.to_string()).is_none_or(|d| d.is_default(number)) {
            return false;
        }
        let to = |target: i32| {
            // nix's numbers include the real-time signals only as raw ones; none is passed on.
            nix::sys::signal::Signal::try_from(number)
                .and_then(|signal| {
                    nix::sys::signal::kill(nix::unistd::Pid::from_raw(target), signal)
                })
                .is_ok()
        };
        // Before the shim leads its session there is no group to signal.
        let sent = (self.scope == SignalScope::Group && to(-raw)) || to(raw);
        if !unless_fatal && process::look(raw).is_some_and(|p| matches!(p.state, 'T' | 't')) {
            // A stopped rank would not see it before it is continued.
            let _ = kill_process_group(running.pid, Signal::CONT);
        }
        sent
    }

    /// KILL for a rank and its group.
    pub fn kill(&self, rank: u32) {
        self.signal_group(rank, Signal::KILL);
        if let Some(Some(running)) = self.running.get(rank as usize) {
            let _ = kill_process(running.pid, Signal::KILL);
        }
    }

    /// Signals a rank's whole group, its ended but unreaped leader included.
    pub fn signal_group(&self, rank: u32, signal: Signal) {
        if let Some(Some(running)) = self.running.get(rank as usize) {
            let _ = kill_process_group(running.pid, signal);
        }
    }

    /// The rank's process id, as long as it is not reaped.
    pub fn pid(&self, rank: u32) -> Option<i32> {
        Some(self.running.get(rank as usize)?.as_ref()?.pid.as_raw_nonzero().get())
    }

    /// Reaps an ended rank: its ids are free.
    pub fn reap(&mut self, rank: u32) {
        if let Some(running) = self.running.get_mut(rank as usize).and_then(Option::take) {
            family::reap(running.pid.as_raw_nonzero().get());
        }
    }
}

fn stdio(output: RankOutput) -> Stdio {
    match output {
        RankOutput::Inherit => Stdio::inherit(),
        RankOutput::Pipe(fd) => Stdio::from(fd),
    }
}
