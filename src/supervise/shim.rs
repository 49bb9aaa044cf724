//! The shim: `nvlaunch __rank ORDER PROGRAM ARGS…` makes itself ready and becomes the rank (S2).
//!
//! Rust offers no safe way to run code between fork and exec, so the program executes itself and
//! does those steps as an ordinary process:
//!
//! 1. make sure the parent is still nvlaunch, and that the kernel kills this process with it;
//! 2. lead a session of its own, so that the terminal's Ctrl-C reaches nvlaunch alone and a
//!    background job may still read the terminal;
//! 3. carry the run's mark, the caller's limit on files, the planned CPUs;
//! 4. execute the program. Where that fails, the reason goes to nvlaunch through the status pipe.
//!
//! `PR_SET_PDEATHSIG` follows the parent *thread* (prctl(2)): only the main thread starts shims.

use std::ffi::{CString, OsString};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{self, Pid};

use super::mark;
use crate::exit_code;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "__rank";

/// What the shim has to do before it becomes the rank.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Order {
    /// Local rank, for the status pipe.
    pub rank: u32,
    /// nvlaunch's process id.
    pub parent: i32,
    /// Inherited write end of the status pipe.
    pub status_fd: RawFd,
    /// Value of the run's mark.
    pub mark: Option<u64>,
    /// The caller's soft limit on open files, where nvlaunch raised its own.
    pub open_files: Option<u64>,
    /// CPUs to run on; empty for all.
    pub cpus: Vec<u32>,
}

impl Order {
    /// One word of the shim's command line.
    pub fn to_word(&self) -> String {
        let mut word = format!("{}:{}:{}", self.rank, self.parent, self.status_fd);
        let number = |n: Option<u64>| n.map_or(String::new(), |n| n.to_string());
        let cpus: Vec<String> = self.cpus.iter().map(u32::to_string).collect();
        let _ =
            write!(word, ":{}:{}:{}", number(self.mark), number(self.open_files), cpus.join(","));
        word
    }

    /// The reverse of [`Order::to_word`].
    pub fn from_word(word: &str) -> Option<Self> {
        let mut parts = word.split(':');
        let mut next = || parts.next();
        let optional = |part: &str| match part {
            "" => Some(None),
            digits => digits.parse().ok().map(Some),
        };
        let order = Self {
            rank: next()?.parse().ok()?,
            parent: next()?.parse().ok()?,
            status_fd: next()?.parse().ok()?,
            mark: optional(next()?)?,
            open_files: optional(next()?)?,
            cpus: match next()? {
                "" => Vec::new(),
                list => list.split(',').map(|cpu| cpu.parse().ok()).collect::<Option<_>>()?,
            },
        };
        parts.next().is_none().then_some(order)
    }
}

/// A message on the status pipe: the rank, and the error number of the failed step.
///
/// Fixed size and far below `PIPE_BUF`, so that messages of several shims never mix.
pub const STATUS_LEN: usize = 8;

/// Reads the messages in `bytes`.
pub fn read_status(bytes: &[u8]) -> Vec<(u32, io::Error)> {
    let word = |b: &[u8]| [b[0], b[1], b[2], b[3]];
    let messages = bytes.chunks_exact(STATUS_LEN);
    messages
        .map(|m| {
            let errno = i32::from_ne_bytes(word(&m[4..]));
            (u32::from_ne_bytes(word(m)), io::Error::from_raw_os_error(errno))
        })
        .collect()
}

/// Becomes the rank. Returns only where that failed, with the exit code.
///
/// `args` are the words after [`SUBCOMMAND`].
pub fn run(mut args: impl Iterator<Item = OsString>) -> u8 {
    let order = args.next().and_then(|word| Order::from_word(word.to_str()?));
    let (Some(order), Some(program)) = (order, args.next()) else {
        return exit_code::USAGE;
    };
    // Reopened, so that it closes by itself when the program is executed: the number that was
    // inherited would stay open in the rank.
    let status = std::fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/self/fd/{}", order.status_fd))
        .and_then(|file| {
            unistd::close(order.status_fd)?;
            Ok(file)
        });
    let error = match prepare(&order) {
        Ok(()) if is_foreign(Path::new(&program)) => execute_as_it_is(&program, args),
        Ok(()) => Command::new(&program).arg0(&program).args(args).exec(),
        Err(errno) => errno.into(),
    };
    let errno = error.raw_os_error().unwrap_or_default();
    let mut message = [0u8; STATUS_LEN];
    message[..4].copy_from_slice(&order.rank.to_ne_bytes());
    message[4..].copy_from_slice(&errno.to_ne_bytes());
    if let Ok(mut status) = status {
        // Where nvlaunch is gone nobody is left to be told.
        let _ = status.write_all(&message);
    }
    exit_code::NOT_EXECUTABLE
}

/// Whether this is no text and no program for this kind of machine.
///
/// The C library hands to `/bin/sh` what the kernel does not execute (exec(3), `ENOEXEC`). That is
/// how a script without a first line runs; of a binary the shell would make nonsense.
fn is_foreign(program: &Path) -> bool {
    let head = |path: &Path| -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(128).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let (Ok(own), Ok(its)) = (head(Path::new("/proc/self/exe")), head(program)) else {
        return false;
    };
    // Class, byte order and machine of an ELF header.
    let kind = |bytes: &[u8]| Some((bytes.get(..6)?.to_vec(), bytes.get(18..20)?.to_vec()));
    its.contains(&0) && kind(&its) != kind(&own)
}

/// Executes without the C library's help. `SIGPIPE` stays ignored, which [`Command`] would undo;
/// only a program for another machine, run by an emulator, can notice.
fn execute_as_it_is(program: &OsString, args: impl Iterator<Item = OsString>) -> io::Error {
    let words = std::iter::once(program.clone()).chain(args);
    let words: Result<Vec<CString>, _> = words.map(|word| CString::new(word.into_vec())).collect();
    match words {
        Ok(words) => match unistd::execv(&words[0], &words) {
            Ok(never) => match never {},
            Err(errno) => errno.into(),
        },
        Err(nul) => nul.into(),
    }
}

fn prepare(order: &Order) -> nix::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have died before the line above took effect.
    if unistd::getppid() != Pid::from_raw(order.parent) {
        return Err(nix::errno::Errno::ESRCH);
    }
    unistd::setsid()?;
    if let Some(limit) = order.mark {
        mark::put_on_self(limit)?;
    }
    if let Some(soft) = order.open_files {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard)?;
    }
    if !order.cpus.is_empty() {
        let mut set = CpuSet::new();
        for &cpu in &order.cpus {
            set.set(cpu as usize)?;
        }
        sched_setaffinity(Pid::from_raw(0), &set)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_the_command_line() {
        let bare = Order { rank: 3, parent: 42, status_fd: 9, ..Order::default() };
        let full = Order {
            mark: Some(u64::MAX >> 2),
            open_files: Some(1024),
            cpus: vec![0, 2, 95],
            ..bare.clone()
        };
        for order in [bare, full] {
            assert_eq!(Order::from_word(&order.to_word()), Some(order));
        }
    }

    #[test]
    fn a_broken_order_is_refused() {
        for word in ["", "1:2", "1:2:3:4:5", "1:2:3:::x", "1:2:3:::1:", "a:2:3:::"] {
            assert_eq!(Order::from_word(word), None, "{word}");
        }
    }

    #[test]
    fn only_a_binary_of_another_kind_is_foreign() {
        let folder = tempfile::tempdir().unwrap();
        let own = std::fs::read("/proc/self/exe").unwrap();
        let mut other = own[..256].to_vec();
        other[18] ^= 0xff;
        for (bytes, foreign) in [
            (&own[..256], false),
            (&other, true),
            (b"\0\0", true),
            (b"#!/bin/sh\n", false),
            (b"echo no first line\n", false),
            (b"", false),
        ] {
            let path = folder.path().join("program");
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(is_foreign(&path), foreign, "{:?}", &bytes[..bytes.len().min(20)]);
        }
        assert!(!is_foreign(folder.path()));
    }

    #[test]
    fn status_messages_are_read_whole_or_not_at_all() {
        let mut bytes = 7u32.to_ne_bytes().to_vec();
        bytes.extend(2i32.to_ne_bytes());
        bytes.extend([1, 2, 3]);
        let read = read_status(&bytes);
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].0, read[0].1.kind()), (7, io::ErrorKind::NotFound));
    }
}
