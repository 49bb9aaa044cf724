//! Warm ranks end, fail and are ended as cold ones are; a template that ends takes nobody along.

use nix::sys::signal::Signal;
use nvlaunch::host::process;

use super::{imports, warm_job};
use crate::doubles::{none_left, report, send};
use crate::harness::{Running, SOON, is_alive, wait_until};

/// The template of a launch.
fn template(nvlaunch: i32) -> Option<i32> {
    let is_template = |pid: &i32| process::look(*pid).is_some_and(|p| p.name == "nvl-template");
    process::children(nvlaunch).into_iter().find(is_template)
}

fn wait_for_template(job: &Running) -> i32 {
    let mut found = None;
    wait_until("a template", SOON, || {
        found = template(job.pid());
        found.is_some()
    });
    found.expect("it was found")
}

#[test]
fn restarts_are_warm_and_import_nothing() {
    let script = "
import os, sys
attempt, rank = os.environ['NVLAUNCH_ATTEMPT'], os.environ['RANK']
print('attempt', attempt, 'rank', rank, 'slow' in sys.modules, os.environ['MASTER_PORT'])
sys.exit(0 if attempt == '2' else 5)
";
    let job = warm_job().args(["--nproc", "2", "--max-restarts", "3"]).script(script);
    let end = job.run().expect_code(0);
    assert_eq!(imports(&end), 1, "{}", end.stderr);
    for attempt in 0..3 {
        assert!(end.stdout.contains(&format!("attempt {attempt} rank 0 True")), "{}", end.stdout);
    }
    let report = report(&end);
    let warm = report["warm"].as_array().expect("times");
    assert_eq!(warm.len(), 3, "{report}");
    let time = warm[2]["fork_to_script"][1].as_f64().expect("a time");
    assert!(time > 0.0 && time < 20.0, "{time}");
    assert_eq!(report["leftovers"].as_array().map(Vec::len), Some(0), "{report}");
}

#[test]
fn when_ranks_are_warm_is_the_users_choice() {
    for (at, expected) in
        [("start", "True False"), ("restart", "False True"), ("both", "True True")]
    {
        let script = "
import os, sys
with open('seen', 'a') as seen:
    seen.write(str('slow' in sys.modules) + ' ')
sys.exit(0 if os.environ['NVLAUNCH_ATTEMPT'] == '1' else 5)
";
        let job = warm_job().args(["--max-restarts", "1", "--warm-at", at]).script(script);
        let end = job.run().expect_code(0);
        let seen = std::fs::read_to_string(end.path("seen")).expect("the script ran");
        assert_eq!(seen.trim(), expected, "--warm-at {at}");
    }
}

#[test]
fn a_killed_rank_is_the_first_failure_and_the_others_are_told() {
    let script = "
import os, signal, sys, time
rank = os.environ['RANK']
if rank != '1':
    signal.signal(signal.SIGTERM, lambda *_: (print('told', rank, flush=True), os._exit(0)))
print('pid', rank, os.getpid(), flush=True)
time.sleep(60)
";
    let mut job = warm_job().args(["--nproc", "3"]).script(script).start();
    let mut pids = [0; 3];
    for _ in 0..3 {
        let line = job.stdout_line("pid ");
        let words: Vec<&str> = line.split_ascii_whitespace().rev().collect();
        let rank: usize = words[1].parse().expect("a rank");
        pids[rank] = words[0].parse().expect("a process id");
    }
    assert_eq!(template(job.pid()), None, "no attempt can follow that would need it");
    send(pids[1], Signal::SIGKILL);
    let end = job.end_within(SOON).expect_code(137);
    assert_eq!(end.stdout.matches("told").count(), 2, "{}", end.stdout);
    assert!(end.stderr.contains("rank 1 failed first"), "{}", end.stderr);
    assert!(end.stderr.contains("warm start:"), "{}", end.stderr);
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
}

/// Waits for a USR1 of its own, in each attempt; the second one ends well.
const WAITS: &str = "
import os, signal, sys
attempt = os.environ['NVLAUNCH_ATTEMPT']
done = []
signal.signal(signal.SIGUSR1, lambda *_: done.append(1))
print('up', attempt, os.getpid(), flush=True)
while not done:
    signal.pause()
sys.exit(0 if attempt == '1' else 3)
";

#[test]
fn a_template_that_is_killed_takes_no_rank_along_and_is_replaced() {
    let mut job = warm_job().args(["--max-restarts", "1"]).script(WAITS).start();
    job.stdout_line("up 0");
    let first = wait_for_template(&job);
    send(first, Signal::SIGKILL);
    wait_until("the template's end", SOON, || process::look(first).is_none());
    job.signal(Signal::SIGUSR1);
    job.stdout_line("up 1");
    job.signal(Signal::SIGUSR1);
    let end = job.end_within(SOON).expect_code(0);
    assert_eq!(imports(&end), 2, "one import for each template");
    assert!(!end.stderr.contains("cold"), "{}", end.stderr);
}

/// A module that takes until somebody writes a file.
const HANGS: &str = "
import os, time
open('importing', 'w').close()
while not os.path.exists('go'):
    time.sleep(0.005)
";

fn hanging(options: &[&str]) -> Running {
    let script = "import os; print('ran', os.environ['RANK'])";
    let job = crate::harness::Job::new().file("hangs.py", HANGS).arg("--warm=hangs");
    let job = job.args(["--nproc", "2"]).args(options).script(script).start();
    let importing = job.dir.path().join("importing");
    wait_until("the import", SOON, || importing.exists());
    job
}

#[test]
fn a_template_that_dies_while_it_imports_leaves_the_ranks_cold() {
    let job = hanging(&[]);
    send(wait_for_template(&job), Signal::SIGKILL);
    let end = job.end_within(SOON).expect_code(0);
    assert_eq!(end.stdout.matches("ran ").count(), 2, "{}", end.stdout);
    let line = "ranks start cold: the template is gone: it ended with signal: 9 (SIGKILL)";
    assert_eq!(end.stderr.matches(line).count(), 1, "{}", end.stderr);
}

#[test]
fn a_stop_while_modules_are_imported_ends_the_job_at_once() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let job = hanging(&["--json-report", "report.json"]);
        let template = wait_for_template(&job);
        job.signal(signal);
        let end = job.end_within(SOON).expect_code(code);
        assert!(!end.stdout.contains("ran "), "{}", end.stdout);
        assert!(!is_alive(template));
        let report = report(&end);
        assert_eq!(report["leftovers"].as_array().map(Vec::len), Some(0), "{report}");
    }
}

#[test]
fn nothing_is_left_of_a_launcher_that_was_killed() {
    // While it imports.
    let job = hanging(&[]);
    let pids = [wait_for_template(&job)].into();
    job.signal(Signal::SIGKILL);
    none_left("none", &pids).expect("the template ends");
    // While warm ranks run.
    let mut job = warm_job().args(["--max-restarts", "1", "--nproc", "2"]).script(WAITS).start();
    let mut pids = std::collections::BTreeSet::from([wait_for_template(&job)]);
    for _ in 0..2 {
        let line = job.stdout_line("up 0");
        pids.insert(
            line.split_ascii_whitespace().last().and_then(|n| n.parse().ok()).expect("a pid"),
        );
    }
    job.signal(Signal::SIGKILL);
    none_left("none", &pids).expect("the ranks end with nvlaunch");
}

#[test]
fn forked_processes_that_are_not_told_to_go_end_and_run_nothing() {
    // A hook that stops each process that Python forks: rank, and what is between.
    let stops = "
import os, signal
count = []
def child():
    count.append(1)
    # The trial fork is the first; the process between is the second, its ranks are the third.
    if len(count) == 2 and os.path.exists('armed'):
        open('stopped', 'w').close()
        os.kill(os.getpid(), signal.SIGSTOP)
os.register_at_fork(after_in_child=child)
open('armed', 'w').close()
";
    let script = "print('ran ')";
    let job = crate::harness::Job::new().file("stops.py", stops).arg("--warm=stops");
    let job = job.args(["--nproc", "2", "--json-report", "report.json"]).script(script).start();
    let stopped = job.dir.path().join("stopped");
    wait_until("a forked rank that is stopped", SOON, || stopped.exists());
    let session = process::children(job.pid());
    job.signal(Signal::SIGTERM);
    let end = job.end_within(SOON).expect_code(143);
    assert!(!end.stdout.contains("ran "), "{}", end.stdout);
    assert!(session.iter().all(|pid| !is_alive(*pid)), "{session:?}");
}

#[test]
fn forked_processes_that_end_before_they_are_ranks_leave_the_ranks_cold() {
    // How many forks lie between the template and the process that ends.
    for forks in [1, 2] {
        let ends = format!(
            "
import os
count = []
def child():
    count.append(1)
    if len(count) == {forks}:
        os._exit(5)
os.register_at_fork(after_in_child=child)
"
        );
        let script = "import os; print('ran', os.environ['RANK'])";
        let job = crate::harness::Job::new().file("ends.py", &ends).arg("--warm=ends");
        let job = job.args(["--nproc", "2", "--json-report", "report.json"]).script(script);
        let end = job.run().expect_code(0);
        assert_eq!(end.stdout.matches("ran ").count(), 2, "{}", end.stdout);
        assert_eq!(end.stderr.matches("ranks start cold").count(), 1, "{}", end.stderr);
        // Whichever is seen first: the end of one of them, or that of all.
        assert!(end.stderr.contains("cold: the forked process"), "{}", end.stderr);
        let report = report(&end);
        assert_eq!(report["leftovers"].as_array().map(Vec::len), Some(0), "{report}");
    }
}

#[test]
fn the_first_warm_rank_to_fail_is_named() {
    let script = "
import os, sys, time
rank, size = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
try:
    moment = float(open('moment').read())
except OSError:
    moment = time.monotonic() + 0.2
    with open('part%d' % rank, 'w') as part:
        part.write(str(moment))
    try:
        os.link('part%d' % rank, 'moment')
    except OSError:
        moment = float(open('moment').read())
while time.monotonic() < moment + 0.01 * (size - rank):
    pass
os._exit(10 + rank)
";
    let end = warm_job().args(["--nproc", "3"]).script(script).run().expect_code(12);
    assert!(end.stderr.contains("rank 2 failed first"), "{}", end.stderr);
}
