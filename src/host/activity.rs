//! What a process is doing, from two looks at `/proc` some time apart.
//!
//! A look is four small files; what follows from two of them is decided by [`describe`]. Facts:
//! proc(5): `stat` has the state and the CPU time of all threads, in ticks of 1/100 s (`USER_HZ`,
//! the same on every Linux); `wchan` and `syscall` may be kept from other users and read as nothing
//! then.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

/// Ticks in a second of CPU time, as `/proc` counts it.
const TICKS: f64 = 100.0;
/// From this share of a CPU on, in percent, a process is called busy.
const BUSY: f64 = 20.0;

/// A process at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    /// `R`, `S`, `D`, `T`, `t`, `Z`, …, of the main thread.
    pub state: char,
    /// CPU time of all threads, user and system, in ticks.
    pub ticks: u64,
    /// When it began, in clock ticks since boot: with the pid it names one process for ever.
    pub start_ticks: u64,
    /// The kernel function the main thread sleeps in, where the kernel says so.
    pub wchan: Option<String>,
    /// The number of the system call the main thread is in, where the kernel says so.
    pub syscall: Option<u32>,
    /// Who traces it.
    pub tracer: Option<u32>,
}

/// What a process does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// It computes.
    Busy {
        /// In percent of one CPU; more than 100 with several threads.
        percent: u32,
    },
    /// It sleeps.
    Asleep {
        /// The system call or the kernel function, where known.
        r#in: Option<String>,
    },
    /// It is stopped by a signal.
    Stopped,
    /// It is held by a debugger.
    Traced,
    /// It waits for a device or a file system and cannot be interrupted.
    DiskWait {
        /// The kernel function, where known.
        r#in: Option<String>,
    },
    /// It has ended and was not reaped.
    Zombie,
    /// It is gone.
    Gone,
}

/// Looks at a process; `None` where it is gone. `root` is `/`; tests hand in another folder.
pub fn sample(root: &Path, pid: i32) -> Option<Activity> {
    let dir = root.join(format!("proc/{pid}"));
    let text = |name: &str| fs::read(dir.join(name)).ok();
    let stat = String::from_utf8_lossy(&text("stat")?).into_owned();
    // The name stands in brackets and may contain any byte.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let count = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let lossy = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    let status = text("status").map(lossy).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    Some(Activity {
        state: fields.first()?.chars().next()?,
        ticks: count(11)?.saturating_add(count(12)?),
        start_ticks: count(19)?,
        wchan: text("wchan").map(lossy).filter(|name| is_name(name)),
        syscall: text("syscall").map(lossy).and_then(|line| line.split(' ').next()?.parse().ok()),
        tracer: tracer.and_then(|pid| pid.trim().parse().ok()).filter(|&pid| pid != 0),
    })
}

/// Whether it is the name of a function; `0` stands for none.
fn is_name(text: &str) -> bool {
    text != "0" && !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic())
}

/// What a process did between two looks `elapsed` apart; `None` is a look that found nothing.
pub fn describe(before: Option<&Activity>, after: Option<&Activity>, elapsed: Duration) -> Doing {
    let Some(after) = after else { return Doing::Gone };
    let place =
        || after.syscall.and_then(syscall_name).map(str::to_owned).or_else(|| after.wchan.clone());
    match after.state {
        'Z' | 'X' | 'x' => return Doing::Zombie,
        't' => return Doing::Traced,
        'T' if after.tracer.is_some() => return Doing::Traced,
        'T' => return Doing::Stopped,
        _ => {}
    }
    // A pid that was given to another process meanwhile has no time in between.
    let before = before.filter(|before| before.start_ticks == after.start_ticks);
    let ticks = before.map_or(0, |before| after.ticks.saturating_sub(before.ticks));
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 ticks in an interval")]
    let percent = match elapsed.as_secs_f64() {
        seconds if seconds > 0.0 => 100.0 * ticks as f64 / TICKS / seconds,
        _ => 0.0,
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded for eyes")]
    let rounded = percent.round() as u32;
    match after.state {
        _ if percent >= BUSY => Doing::Busy { percent: rounded },
        'D' => Doing::DiskWait { r#in: after.wchan.clone() },
        'R' => Doing::Busy { percent: rounded },
        _ => Doing::Asleep { r#in: place() },
    }
}

/// The system calls that a rank which waits is commonly in (`asm/unistd_64.h`; `asm-generic`).
fn syscall_name(number: u32) -> Option<&'static str> {
    let table: &[(u32, &str)] = if cfg!(target_arch = "x86_64") {
        &[
            (0, "read"),
            (1, "write"),
            (7, "poll"),
            (20, "writev"),
            (23, "select"),
            (34, "pause"),
            (35, "nanosleep"),
            (42, "connect"),
            (43, "accept"),
            (45, "recvfrom"),
            (47, "recvmsg"),
            (61, "wait4"),
            (72, "fcntl"),
            (73, "flock"),
            (202, "futex"),
            (230, "clock_nanosleep"),
            (232, "epoll_wait"),
            (247, "waitid"),
            (270, "pselect6"),
            (271, "ppoll"),
            (281, "epoll_pwait"),
        ]
    } else if cfg!(target_arch = "aarch64") {
        &[
            (22, "epoll_pwait"),
            (25, "fcntl"),
            (32, "flock"),
            (63, "read"),
            (64, "write"),
            (66, "writev"),
            (72, "pselect6"),
            (73, "ppoll"),
            (95, "waitid"),
            (98, "futex"),
            (101, "nanosleep"),
            (115, "clock_nanosleep"),
            (202, "accept"),
            (203, "connect"),
            (207, "recvfrom"),
            (212, "recvmsg"),
            (260, "wait4"),
        ]
    } else {
        &[]
    };
    table.iter().find(|(n, _)| *n == number).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(state: char, ticks: u64) -> Activity {
        let wchan = Some("do_wait".to_owned());
        Activity { state, ticks, start_ticks: 7, wchan, syscall: None, tracer: None }
    }

    fn after_ten_seconds(before: &Activity, after: &Activity) -> Doing {
        describe(Some(before), Some(after), Duration::from_secs(10))
    }

    #[test]
    fn two_looks_say_what_a_process_does() {
        let doing = |state, ticks| after_ten_seconds(&seen('S', 500), &seen(state, ticks));
        let place = Some("do_wait".to_owned());
        assert_eq!(doing('S', 1480), Doing::Busy { percent: 98 });
        assert_eq!(doing('R', 500), Doing::Busy { percent: 0 });
        assert_eq!(doing('S', 500 + 8 * 1000), Doing::Busy { percent: 800 });
        assert_eq!(doing('S', 510), Doing::Asleep { r#in: place.clone() });
        assert_eq!(doing('D', 510), Doing::DiskWait { r#in: place });
        assert_eq!(doing('T', 500), Doing::Stopped);
        assert_eq!(doing('t', 500), Doing::Traced);
        assert_eq!(doing('Z', 500), Doing::Zombie);
        assert_eq!(describe(Some(&seen('S', 1)), None, Duration::ZERO), Doing::Gone);
        let traced = Activity { tracer: Some(9), ..seen('T', 500) };
        assert_eq!(after_ten_seconds(&seen('S', 500), &traced), Doing::Traced);
    }

    #[test]
    fn a_pid_that_was_given_away_is_not_called_busy() {
        let other = Activity { start_ticks: 8, ..seen('S', 9_000) };
        assert!(matches!(after_ten_seconds(&seen('S', 0), &other), Doing::Asleep { .. }));
        let now = describe(None, Some(&seen('S', 9_000)), Duration::ZERO);
        assert!(matches!(now, Doing::Asleep { .. }), "one look says nothing about its CPU time");
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_system_call_is_named_before_a_kernel_function() {
        let asleep = |number| {
            let now = Activity { syscall: Some(number), ..seen('S', 0) };
            describe(None, Some(&now), Duration::ZERO)
        };
        assert_eq!(asleep(61), Doing::Asleep { r#in: Some("wait4".to_owned()) });
        assert_eq!(asleep(9999), Doing::Asleep { r#in: Some("do_wait".to_owned()) });
    }

    #[test]
    fn the_files_of_the_kernel_are_read_below_a_root() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("proc/42");
        fs::create_dir_all(&dir).unwrap();
        assert_eq!(sample(root.path(), 42), None, "no stat");
        let stat = "42 (a) S (b)) T 7 42 40 0 -1 4194304 1 0 0 0 30 12 0 0 20 0 1 0 987654 1 2";
        fs::write(dir.join("stat"), stat).unwrap();
        let bare = sample(root.path(), 42).unwrap();
        assert_eq!((bare.state, bare.ticks, bare.start_ticks), ('T', 42, 987_654));
        assert_eq!((bare.wchan, bare.syscall, bare.tracer), (None, None, None));
        fs::write(dir.join("wchan"), "do_signal_stop").unwrap();
        fs::write(dir.join("syscall"), "202 0x1 0x2\n").unwrap();
        fs::write(dir.join("status"), "Name:\ta\nTracerPid:\t99\n").unwrap();
        let full = sample(root.path(), 42).unwrap();
        assert_eq!(full.wchan.as_deref(), Some("do_signal_stop"));
        assert_eq!((full.syscall, full.tracer), (Some(202), Some(99)));
        fs::write(dir.join("wchan"), "0").unwrap();
        fs::write(dir.join("syscall"), "running\n").unwrap();
        let running = sample(root.path(), 42).unwrap();
        assert_eq!((running.wchan, running.syscall), (None, None));
        for torn in ["", "42 (a", "42 (a) ", "42 (a) S 1 2", "42 (a) S x x x x x x x x x x x x x"] {
            fs::write(dir.join("stat"), torn).unwrap();
            assert_eq!(sample(root.path(), 42), None, "{torn:?}");
        }
    }

    #[test]
    fn a_real_process_sleeps_stops_and_goes() {
        use std::process::{Command, Stdio};
        use std::time::Instant;

        use rustix::process::{Pid, Signal, kill_process};

        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let now = || {
            let look = sample(Path::new("/"), pid.as_raw_nonzero().get());
            describe(look.as_ref(), look.as_ref(), Duration::from_secs(1))
        };
        let wait_for = |is: &dyn Fn(&Doing) -> bool, what: &str| {
            let end = Instant::now() + Duration::from_secs(10);
            while !is(&now()) {
                assert!(Instant::now() < end, "not {what} but {:?}", now());
                std::thread::yield_now();
            }
        };
        wait_for(&|doing| matches!(doing, Doing::Asleep { .. }), "asleep");
        kill_process(pid, Signal::STOP).unwrap();
        wait_for(&|doing| *doing == Doing::Stopped, "stopped");
        kill_process(pid, Signal::KILL).unwrap();
        wait_for(&|doing| *doing == Doing::Zombie, "a zombie");
        child.wait().unwrap();
        assert_eq!(now(), Doing::Gone);
    }

    #[test]
    fn the_test_itself_is_seen() {
        let me = i32::try_from(std::process::id()).unwrap();
        let now = sample(Path::new("/"), me).unwrap();
        assert!(matches!(now.state, 'R' | 'S' | 'D'), "{now:?}");
        assert_eq!(sample(Path::new("/"), i32::MAX), None);
    }
}
