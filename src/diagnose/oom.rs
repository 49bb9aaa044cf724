//! Whether the kernel's OOM killer ended a rank: said only where the kernel says so.
//!
//! Two witnesses. The kernel log names the process (`Killed process 4242 (python3) …`, the same
//! words for the whole machine and for a memory cgroup; `mm/oom_kill.c`); its process ids are those
//! of the first PID namespace, so it is heard only there. The `oom_kill` counter of the memory
//! cgroup (v2 `memory.events`, v1 `memory.oom_control`) proves that some process of the group was
//! killed since the attempt began, not which; what was killed before says nothing of a KILL now.

use std::cell::Cell;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::exit::Exit;

/// The inode of the first PID namespace (`PROC_PID_INIT_INO` in `include/linux/proc_ns.h`).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// The most that is read of the kernel log.
const MAX_RECORDS: usize = 100_000;

/// What is known about an OOM kill.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Oom {
    /// The kernel log names this process.
    Logged {
        /// The line.
        line: String,
    },
    /// This many processes of the job's memory cgroup were killed while the attempt ran.
    Counted {
        /// How many.
        kills: u64,
    },
}

/// Remembers the counters at the start of an attempt.
#[derive(Debug, Clone, Default)]
pub struct OomWatch {
    counter: Option<(PathBuf, Cell<u64>)>,
}

impl OomWatch {
    /// Finds this process' memory cgroup below `root` (`/`).
    pub fn begin(root: &Path) -> Self {
        let memberships = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let counter = counter_files(root, &memberships)
            .into_iter()
            .find_map(|file| Some((read_counter(&file)?, file)))
            .map(|(count, file)| (file, Cell::new(count)));
        Self { counter }
    }

    /// Another attempt begins: what was killed in the one before says nothing about it.
    pub fn begin_attempt(&self) {
        if let Some((file, before)) = &self.counter
            && let Some(count) = read_counter(file)
        {
            before.set(count);
        }
    }

    /// What the kernel says about a rank that failed first. It is asked only about a KILL that
    /// nvlaunch did not send: of the rank itself, which was alive before nvlaunch did anything, or
    /// of a worker that it complains of in `stderr`.
    pub fn of_rank(&self, pid: Option<i32>, exit: Exit, stderr: &[Vec<u8>]) -> Option<Oom> {
        let victim = match exit {
            Exit::Signal(nix::libc::SIGKILL) => pid?,
            _ => killed_worker(stderr)?,
        };
        self.ask(victim)
    }

    /// What the kernel says about a process that ended by KILL which nvlaunch did not send.
    pub fn ask(&self, pid: i32) -> Option<Oom> {
        if in_first_pid_namespace()
            && let Some(line) = find_kill(&kernel_log(), pid)
        {
            return Some(Oom::Logged { line });
        }
        let (file, before) = self.counter.as_ref()?;
        let kills = read_counter(file)?.checked_sub(before.get())?;
        (kills > 0).then_some(Oom::Counted { kills })
    }
}

/// The worker of which a rank says that it was killed, in the words of torch's `DataLoader`:
/// `DataLoader worker (pid 4242) is killed by signal: Killed.`
pub fn killed_worker(lines: &[Vec<u8>]) -> Option<i32> {
    lines.iter().rev().find_map(|line| {
        let line = String::from_utf8_lossy(line);
        let (_, rest) = line.split_once("DataLoader worker (pid ")?;
        let (pid, rest) = rest.split_once(')')?;
        rest.starts_with(" is killed by signal: Killed").then(|| pid.parse().ok())?
    })
}

/// Where the counter may be, by the lines of `/proc/self/cgroup`; the best place first.
fn counter_files(root: &Path, memberships: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in memberships.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let path = path.trim_start_matches('/');
        let (mounts, file): (&[&str], _) = if controllers.is_empty() {
            (&["sys/fs/cgroup", "sys/fs/cgroup/unified"], "memory.events")
        } else if controllers.split(',').any(|c| c == "memory") {
            (&["sys/fs/cgroup/memory"], "memory.oom_control")
        } else {
            continue;
        };
        for mount in mounts {
            files.push(root.join(mount).join(path).join(file));
            // In a container without a cgroup namespace the path is the host's.
            files.push(root.join(mount).join(file));
        }
    }
    files
}

fn read_counter(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

fn in_first_pid_namespace() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|m| m.ino() == FIRST_PID_NAMESPACE)
}

/// The records of the kernel log, where this user may read them; never waits.
fn kernel_log() -> Vec<String> {
    let flags = nix::libc::O_NONBLOCK;
    let Ok(mut log) = fs::OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg")
    else {
        return Vec::new();
    };
    let mut records = Vec::new();
    let mut buffer = vec![0u8; 8192];
    while records.len() < MAX_RECORDS {
        match log.read(&mut buffer) {
            Ok(0) => break,
            // One read is one record (Documentation/ABI/testing/dev-kmsg).
            Ok(len) => records.push(String::from_utf8_lossy(&buffer[..len]).into_owned()),
            // The ring moved on under the reader.
            Err(error) if error.raw_os_error() == Some(nix::libc::EPIPE) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    records
}

/// The newest record that says this process was killed for want of memory.
fn find_kill(records: &[String], pid: i32) -> Option<String> {
    let needle = format!("Killed process {pid} (");
    records.iter().rev().find_map(|record| {
        let message = record.split_once(';')?.1.lines().next()?;
        message.contains(&needle).then(|| message.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_searched_for_exactly_that_process() {
        let records: Vec<String> = [
            "6,1,1,-;Memory cgroup out of memory: Killed process 42 (python3) total-vm:1kB",
            "6,2,2,-;Out of memory: Killed process 4242 (python3) total-vm:2kB\n SUBSYSTEM=x",
            "6,3,3,-;process 42 (python3) is fine",
        ]
        .map(str::to_owned)
        .to_vec();
        let found = find_kill(&records, 4242).unwrap();
        assert_eq!(found, "Out of memory: Killed process 4242 (python3) total-vm:2kB");
        assert!(find_kill(&records, 42).unwrap().starts_with("Memory cgroup"));
        assert_eq!(find_kill(&records, 2), None);
    }

    #[test]
    fn a_counter_that_rose_is_a_witness_of_either_version() {
        for (membership, file) in [
            ("0::/job", "sys/fs/cgroup/job/memory.events"),
            ("4:memory:/job", "sys/fs/cgroup/memory/job/memory.oom_control"),
            ("0::/host/path", "sys/fs/cgroup/memory.events"),
        ] {
            let root = tempfile::tempdir().unwrap();
            let write = |name: &str, text: &str| {
                let path = root.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            };
            write("proc/self/cgroup", membership);
            write(file, "oom 3\noom_kill 3\n");
            let watch = OomWatch::begin(root.path());
            assert_eq!(watch.ask(1), None, "{file}");
            write(file, "oom 9\noom_kill 5\n");
            assert_eq!(watch.ask(1), Some(Oom::Counted { kills: 2 }), "{file}");
            // A counter that cannot be read changes nothing.
            fs::remove_file(root.path().join(file)).unwrap();
            watch.begin_attempt();
            write(file, "oom 9\noom_kill 5\n");
            assert_eq!(watch.ask(1), Some(Oom::Counted { kills: 2 }), "{file}");
            // What was killed in one attempt was not killed in the next.
            watch.begin_attempt();
            assert_eq!(watch.ask(1), None, "{file}");
            write(file, "oom 9\noom_kill 6\n");
            assert_eq!(watch.ask(1), Some(Oom::Counted { kills: 1 }), "{file}");
        }
    }

    #[test]
    fn a_worker_is_found_only_where_it_was_killed() {
        let lines = |text: &str| vec![b"x".to_vec(), text.as_bytes().to_vec(), b"y".to_vec()];
        let killed = "RuntimeError: DataLoader worker (pid 4242) is killed by signal: Killed. ";
        assert_eq!(killed_worker(&lines(killed)), Some(4242));
        let aborted = "RuntimeError: DataLoader worker (pid 4242) is killed by signal: Aborted. ";
        assert_eq!(killed_worker(&lines(aborted)), None);
        assert_eq!(killed_worker(&[]), None);
    }

    #[test]
    fn no_cgroup_is_no_witness() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(OomWatch::begin(root.path()).ask(1), None);
    }
}
