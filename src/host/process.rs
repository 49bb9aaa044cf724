//! Processes as `/proc` shows them.
//!
//! Every answer may be stale by the time it is read; a caller that signals by it opens a pidfd
//! first and looks again ([`signal_if_same`]). Facts: proc(5); `children` needs
//! `CONFIG_PROC_CHILDREN` and may miss a child while another one ends, so an empty answer counts
//! only when it is given twice.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

/// One process at the moment it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Process group.
    pub group: i32,
    /// Session.
    pub session: i32,
    /// `R`, `S`, `D`, `T`, `Z`, …
    pub state: char,
    /// When it began, in clock ticks since boot: with the pid it names one process for ever.
    pub start_ticks: u64,
    /// The kernel's short name, at most 15 bytes.
    pub name: String,
}

impl Process {
    /// Whether it has ended and waits to be reaped.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Looks at one process; `None` where it is gone.
pub fn look(pid: i32) -> Option<Process> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads a line of `/proc/PID/stat`; the name stands in brackets and may contain any byte.
fn parse_stat(line: &[u8]) -> Option<Process> {
    let line = String::from_utf8_lossy(line);
    let (pid, rest) = line.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Process {
        pid: pid.parse().ok()?,
        name: name.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

/// All process ids that `/proc` lists.
pub fn all_pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// The children of a process, of all its threads.
pub fn children(pid: i32) -> Vec<i32> {
    children_by_thread(pid).unwrap_or_else(|| {
        all_pids().into_iter().filter(|&p| look(p).is_some_and(|p| p.parent == pid)).collect()
    })
}

/// The children of a process' main thread: one file instead of one for each thread. Where the
/// kernel does not offer the file, those of all threads.
pub fn children_of_main_thread(pid: i32) -> Vec<i32> {
    match fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")) {
        Ok(list) => list.split_ascii_whitespace().flat_map(str::parse).collect(),
        Err(_) => children(pid),
    }
}

/// `None` where the kernel does not offer the file.
fn children_by_thread(pid: i32) -> Option<Vec<i32>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        match fs::read_to_string(task.path().join("children")) {
            Ok(list) => found.extend(list.split_ascii_whitespace().flat_map(str::parse::<i32>)),
            // A thread that ended meanwhile is no reason to doubt the file.
            Err(_) if !task.path().exists() => {}
            Err(_) => return None,
        }
    }
    Some(found)
}

/// These processes and all below them, parents first; what is gone is left out.
pub fn with_descendants(pids: Vec<i32>) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    let mut open = pids;
    while let Some(pid) = open.pop() {
        if found.iter().any(|p| p.pid == pid) {
            continue;
        }
        if let Some(process) = look(pid) {
            found.push(process);
            open.extend(children(pid));
        }
    }
    found
}

/// The words of its command line, or its name in brackets.
pub fn command_line(process: &Process) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let words: Vec<String> = bytes
        .split(|&b| b == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).chars().map(printable).collect())
        .collect();
    if words.is_empty() { vec![format!("[{}]", process.name)] } else { words }
}

/// The soft limit on file locks of a process (the mark of a run, see `supervise::mark`).
pub fn lock_limit(pid: i32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|l| l.strip_prefix("Max file locks"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// A variable of the environment a process was started with, where that can be read.
pub fn environment_variable(pid: i32, name: &str) -> Option<OsString> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = environ.split(|&b| b == 0).find_map(|entry| {
        entry.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
    })?;
    Some(OsString::from_vec(value.to_vec()))
}

/// What a process does with signals: one bit each, signal n at bit n - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dispositions {
    /// `SigBlk`, of the main thread.
    pub blocked: u64,
    /// `SigIgn`
    pub ignored: u64,
    /// `SigCgt`
    pub caught: u64,
}

impl Dispositions {
    /// Of a process (`"self"` for the own one); `None` where it is gone.
    pub fn of(pid: &str) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let mask = |key: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(key))?;
            u64::from_str_radix(line.trim(), 16).ok()
        };
        Some(Self {
            blocked: mask("SigBlk:")?,
            ignored: mask("SigIgn:")?,
            caught: mask("SigCgt:")?,
        })
    }

    /// Whether the signal would take its default effect.
    pub fn is_default(self, signal: i32) -> bool {
        let bit = 1u64 << (signal - 1);
        (self.blocked | self.ignored | self.caught) & bit == 0
    }

    /// Whether the signal is ignored.
    pub fn ignores(self, signal: i32) -> bool {
        self.ignored & (1u64 << (signal - 1)) != 0
    }
}

/// The kernel function a process sleeps in, where the kernel says so.
pub fn waits_in(pid: i32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/wchan")).ok()?;
    (!name.is_empty() && name != "0").then_some(name)
}

/// Signals a process, if it still is the one that was looked at. Says whether it was sent.
pub fn signal_if_same(process: &Process, signal: Signal) -> bool {
    let Some(pid) = Pid::from_raw(process.pid) else { return false };
    let is_same = || look(process.pid).is_some_and(|p| p.start_ticks == process.start_ticks);
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => is_same() && pidfd_send_signal(&pidfd, signal).is_ok(),
        // Before Linux 5.3 the moment between the look and the signal cannot be closed.
        Err(Errno::NOSYS | Errno::PERM) => is_same() && kill_process(pid, signal).is_ok(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_is_read_whole() {
        let line = b"42 (a) b (c)) S 7 42 40 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 2";
        let process = parse_stat(line).unwrap();
        assert_eq!(process.name, "a) b (c)");
        assert_eq!((process.pid, process.parent, process.group, process.session), (42, 7, 42, 40));
        assert_eq!((process.state, process.start_ticks), ('S', 987_654));
    }

    #[test]
    fn a_torn_line_is_no_process() {
        for line in [&b""[..], b"42", b"42 (name", b"42 (name) S 1", b"x (name) S 1 1 1"] {
            assert_eq!(parse_stat(line), None);
        }
    }

    #[test]
    fn the_test_itself_is_found_by_its_parent() {
        let me = look(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(children(me.parent).contains(&me.pid));
        assert!(!command_line(&me).is_empty());
        assert_eq!(environment_variable(me.pid, "NO_SUCH_NAME_HERE"), None);
    }
}
