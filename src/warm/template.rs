//! The template's process and the sockets to it: starting, asking, reading, ending. Decides nothing.
//!
//! The process is started by the shim (`__rank`), as a rank is: parent-death signal, a session of
//! its own, the run's mark, the limits. Its standard input is a packet socket to nvlaunch; its
//! output is a pipe, so that what modules print while they are imported is shown line by line.
//! First a check of a few lines runs in the same interpreter (`check.py`): whether modules in
//! `PYTHONPATH` would be seen at all. Were they not, the interpreter would run the script, as a
//! rank that nobody asked for.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair,
};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::archive;
use super::decide::WarmPlan;
use super::protocol::{Message, Packet};
use crate::env_vars;
use crate::plan::{Plan, RankPlan};
use crate::supervise::shim::{self, Order};

/// What runs before the template's program, as the value of `-c`.
const CHECK: &str = include_str!("check.py");

/// Room for one message; only lines of text make it long.
const MESSAGE: usize = 4096;

/// Our end of a packet socket.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// A pair: ours, and the other process'.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self(ours), theirs))
    }

    /// For epoll.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Sends a packet with these descriptors. Never waits: without room it is an error.
    pub fn send(&self, packet: &Packet, fds: &[RawFd]) -> io::Result<()> {
        let rights = [ControlMessage::ScmRights(fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(packet.bytes())], rights, flags, None)?;
        Ok(())
    }

    /// The next message.
    pub fn receive(&self) -> Received {
        let mut bytes = [0; MESSAGE];
        let mut came = recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT);
        if came == Err(Errno::ECONNRESET) {
            // It ended without reading all that it was sent. The kernel says so once, before what
            // it had said itself.
            came = recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT);
        }
        match came {
            Ok(0) => Received::End,
            Ok(len) => Message::read(&bytes[..len]).map_or(Received::Unclear, Received::Message),
            Err(Errno::EAGAIN | Errno::EINTR) => Received::Nothing,
            Err(_) => Received::End,
        }
    }
}

/// What came from the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// This.
    Message(Message),
    /// Something that nobody understands.
    Unclear,
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    End,
}

/// The template's process.
#[derive(Debug)]
pub struct Template {
    child: Child,
    pidfd: Option<OwnedFd>,
    socket: Socket,
    output: File,
}

impl Template {
    /// Starts it. Called from the main thread.
    pub fn start(
        order: &Order,
        plan: &Plan,
        warm: &WarmPlan,
        run_dir: Option<&Path>,
    ) -> io::Result<Self> {
        let rank = plan.ranks.first().ok_or(io::ErrorKind::InvalidInput)?;
        let (socket, theirs) = Socket::pair()?;
        let (output, prints) = output_pipe()?;
        let python_path = python_path(warm);
        socket.send(&setup(rank, warm, order.parent, python_path.as_deref()), &[])?;
        // Inherited, and closed by the template's program; no other process is started meanwhile.
        let memory = memfd_create("nvlaunch-template", MemfdFlags::empty())?;
        let mut memory = File::from(memory);
        memory.write_all(&archive::archive())?;
        let mut path = OsString::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
        if let Some(others) = python_path.as_ref().filter(|others| !others.is_empty()) {
            path.push(":");
            path.push(others);
        }
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0(env!("CARGO_PKG_NAME"))
            .arg(shim::SUBCOMMAND)
            .arg(order.to_word())
            .arg(&rank.program)
            .args(["-u", "-c", CHECK])
            .arg(&rank.program)
            .args(&rank.args)
            .stdin(theirs)
            .stdout(prints.try_clone()?)
            .stderr(prints);
        for name in plan.removed_env() {
            command.env_remove(name);
        }
        command.envs(warm.env.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = run_dir {
            command.env(env_vars::RUN_DIR, folder);
        }
        let child = command.env(env_vars::PYTHONPATH, path).spawn()?;
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok();
        Ok(Self { child, pidfd, socket, output })
    }

    /// Its process id, which is its session too.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id fits")
    }

    /// Readable once it has ended; `None` before Linux 5.3.
    pub fn pidfd(&self) -> Option<&OwnedFd> {
        self.pidfd.as_ref()
    }

    /// Where it answers.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Where what it prints comes.
    pub fn output(&self) -> &File {
        &self.output
    }

    /// What it has printed since the last call; `None` where nobody can print any more.
    pub fn printed(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        match (&mut self.output).take(MAX_PRINTED).read_to_end(&mut bytes) {
            Ok(_) if bytes.is_empty() => None,
            // The end comes with the next call.
            _ => Some(bytes),
        }
    }

    /// Asks for so many ranks, each of which is described over `channel` and goes by `gate`.
    pub fn ask(&self, ranks: u32, channel: &OwnedFd, gate: &OwnedFd) -> io::Result<()> {
        let packet = Packet::default().one(ranks.to_string());
        self.socket.send(&packet, &[channel.as_raw_fd(), gate.as_raw_fd()])
    }

    /// Whether it has ended, and how; reaps it.
    pub fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(format!("it ended with {status}")),
            Err(error) => Some(format!("it is gone: {error}")),
        }
    }

    /// Ends it; [`Template::ended`] reaps it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }
}

/// What is read of its output at a time.
const MAX_PRINTED: u64 = 64 * 1024;

fn output_pipe() -> io::Result<(File, OwnedFd)> {
    let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((File::from(ours), theirs))
}

/// `PYTHONPATH` as a rank has it, where that is set.
fn python_path(warm: &WarmPlan) -> Option<OsString> {
    let planned = warm.env.iter().find(|(name, _)| name == env_vars::PYTHONPATH);
    let value = planned.map(|(_, value)| value.clone());
    value.or_else(|| std::env::var_os(env_vars::PYTHONPATH))
}

/// What the template is told before it runs.
fn setup(rank: &RankPlan, warm: &WarmPlan, me: i32, python_path: Option<&OsStr>) -> Packet {
    Packet::default()
        .one("setup")
        .many(argv(rank))
        .one(me.to_string())
        .many(&warm.modules)
        .many(&warm.own_names)
        .many(&warm.devices)
        .many(python_path)
}

/// `sys.argv` before the script is looked for.
fn argv(rank: &RankPlan) -> impl Iterator<Item = &OsStr> {
    let is_module = is_module(&rank.args);
    let first = is_module.then_some(OsStr::new("-m"));
    first.into_iter().chain(rank.args.iter().skip(if is_module { 3 } else { 1 }).map(AsRef::as_ref))
}

/// The script's own arguments among those of its interpreter: those behind `-u SCRIPT` or
/// `-u -m MODULE`.
pub fn script_args(args: &[OsString]) -> &[OsString] {
    args.get(if is_module(args) { 3 } else { 2 }..).unwrap_or_default()
}

/// A script of that name has a path before it (see [`crate::plan`]).
fn is_module(args: &[OsString]) -> bool {
    args.get(1).is_some_and(|word| word == "-m")
}
