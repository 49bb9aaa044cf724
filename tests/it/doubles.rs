//! Launches of scripted doubles (`examples/fake_rank.rs`), and what is left of them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nvlaunch::host::process;

use crate::harness::{End, Job, Running, SOON, pause, wait_until};

/// The double's program; Cargo builds it with the tests.
pub fn fake_rank() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own program");
    let target = test.ancestors().nth(2).expect("target/PROFILE/deps/it");
    let path = target.join("examples/fake_rank");
    assert!(path.exists(), "{} is missing: cargo build --examples", path.display());
    path
}

/// A text that no other launch of any test has.
pub fn marker() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("double-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// One at a time for what is measured in milliseconds.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// nvlaunch with these options on this script of the double.
pub fn launch(marker: &str, options: &[&str], script: &str) -> Job {
    doubles(Job::new(), marker, options, script)
}

/// The same, added to a job.
pub fn doubles(job: Job, marker: &str, options: &[&str], script: &str) -> Job {
    let program = [fake_rank().into_os_string(), marker.into(), "rank".into()];
    job.args(options).program(program).args(words(script))
}

/// The words of a script.
pub fn words(script: &str) -> impl Iterator<Item = &str> {
    script.split_ascii_whitespace()
}

/// Processes that carry the marker in their command line, nvlaunch and its shims among them.
pub fn marked(marker: &str) -> Vec<i32> {
    let needle = marker.as_bytes();
    let has = |pid: i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|&b| b == 0).any(|word| word == needle)
    };
    process::all_pids().into_iter().filter(|&pid| has(pid)).collect()
}

/// The keeper of a launch, where it has its name already.
pub fn keeper(nvlaunch: i32) -> Option<i32> {
    let is_keeper = |pid: &i32| process::look(*pid).is_some_and(|p| p.name == "nvl-keeper");
    process::children(nvlaunch).into_iter().find(is_keeper)
}

/// The same; it is waited for. On a busy machine it may have its name later than the ranks run.
pub fn named_keeper(nvlaunch: i32) -> i32 {
    let mut found = None;
    wait_until("a keeper with its name", SOON, || {
        found = keeper(nvlaunch);
        found.is_some()
    });
    found.expect("it was found")
}

/// What of a launch lives.
pub fn alive_of(marker: &str, others: &BTreeSet<i32>) -> Vec<i32> {
    let mut all = marked(marker);
    all.extend(others);
    all.retain(|&pid| process::look(pid).is_some_and(|p| !p.is_zombie()));
    all
}

/// Nothing is left where nvlaunch ended by itself: it goes last, so the first look must find nobody.
#[track_caller]
pub fn assert_none_left(marker: &str) {
    let words = |pid: i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        format!("{pid} {}", String::from_utf8_lossy(&words).replace('\0', " "))
    };
    let left: Vec<String> = alive_of(marker, &BTreeSet::new()).into_iter().map(words).collect();
    assert!(left.is_empty(), "left by nvlaunch: {left:#?}");
}

/// Looks until nothing is left; how long that took, or what is left for good.
pub fn none_left(marker: &str, others: &BTreeSet<i32>) -> Result<Duration, String> {
    let since = Instant::now();
    loop {
        let left = alive_of(marker, others);
        let took = since.elapsed();
        if left.is_empty() {
            return Ok(took);
        }
        if took > SOON {
            let name = |pid: &i32| {
                let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let state = process::look(*pid).map_or('-', |p| p.state);
                format!("{pid} {state} {}", String::from_utf8_lossy(&words).replace('\0', " "))
            };
            let names: Vec<String> = left.iter().map(name).collect();
            for pid in left {
                send(pid, Signal::SIGKILL);
            }
            return Err(format!("left after {took:?}: {names:#?}"));
        }
        pause();
    }
}

/// Signals a process that may be gone.
pub fn send(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Waits for this many doubles to say who they are; their names and process ids.
pub fn pids(job: &mut Running, count: usize) -> Vec<(String, i32)> {
    let one = |job: &mut Running| {
        let line = job.stdout_line("pid ");
        let mut words = line.split_ascii_whitespace().rev();
        let pid = words.next().and_then(|n| n.parse().ok()).expect("a process id");
        (words.next().expect("a name").to_owned(), pid)
    };
    (0..count).map(|_| one(job)).collect()
}

/// Monotonic nanoseconds, as the doubles print them.
pub fn nanos() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// What `--json-report report.json` wrote.
pub fn report(end: &End) -> serde_json::Value {
    let text = std::fs::read(end.path("report.json")).expect("a report");
    serde_json::from_slice(&text).expect("JSON")
}

/// The same launch, started by another program: `CALLER… nvlaunch ARGS…`.
pub fn called_by(job: Job, caller: &[&str]) -> Job {
    job.with(|command| {
        let mut started = Command::new(caller[0]);
        started.args(&caller[1..]).arg(command.get_program()).args(command.get_args());
        started.current_dir(command.get_current_dir().expect("the job has a folder"));
        started.env_clear();
        started.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        started.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        *command = started;
    })
}
