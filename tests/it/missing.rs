//! Who never arrived: each rank that keeps the others waiting is named, and what it does instead.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{End, Job, Running, wait_until};

const BOUND: Duration = Duration::from_secs(120);

/// Four ranks join the default group; what rank 1 does before is the case.
fn job(instead: &str) -> Job {
    let script = format!(
        "
import datetime, os, signal, sys, time
rank = int(os.environ['RANK'])
import torch, torch.distributed as dist
open(f'imported-{{rank}}', 'w').close()
if rank == 1:
    print('rank 1 was here', flush=True)
    {instead}
dist.init_process_group('gloo', timeout=datetime.timedelta(seconds=100))
dist.barrier()
print('met', dist.get_world_size(), flush=True)
os._exit(0)
"
    );
    let job = Job::new().args(["--nproc", "4", "--init-report-after", "5s"]);
    job.args(["--shutdown-timeout", "1"]).script(&script)
}

/// Waits for this report and ends the job; the line, and how it ended.
fn report(mut running: Running, what: &str) -> (String, End) {
    let first = running.stderr_line_within(what, BOUND);
    running.signal(Signal::SIGTERM);
    let end = running.end_within(BOUND);
    (first, end)
}

#[test]
fn a_rank_that_sleeps_before_is_named_with_its_last_lines_and_the_job_goes_on() {
    let wait = "
    while not os.path.exists('go'):
        time.sleep(0.01)";
    let mut running = job(wait).start();
    let line = running.stderr_line_within("has not reached", BOUND);
    let expected =
        "nvlaunch: rank 1 has not reached init_process_group after 5 s; ranks 0,2,3 wait for it\n";
    assert_eq!(line, expected);
    running.stderr_line_within("sleeps in", BOUND);
    running.stderr_line_within("rank 1 was here", BOUND);
    std::fs::write(running.dir.path().join("go"), "").expect("a file");
    let end = running.end_within(BOUND).expect_code(0);
    assert_eq!(end.stdout.matches("met 4").count(), 4, "{}", end.stdout);
}

#[test]
fn a_rank_that_ended_well_before_is_said_at_once() {
    // Only when the others are there, so that somebody waits for it.
    let leave = "
    dist.TCPStore(os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']), None, False).wait(
        ['default_pg/0//cpu//0/0', 'default_pg/0//cpu//0/2', 'default_pg/0//cpu//0/3'])
    os._exit(0)";
    let mut running = job(leave).start();
    let line = running.stderr_line_within("init_process_group", BOUND);
    // It was at the store, if not for this.
    assert!(line.contains("rank 1 has not joined the others in init_process_group"), "{line}");
    running.stderr_line_within("ended with code 0 before it", BOUND);
    running.signal(Signal::SIGTERM);
    running.end_within(BOUND);
}

#[test]
fn a_stopped_rank_is_named_with_what_continues_it() {
    let running = job("os.kill(os.getpid(), signal.SIGSTOP)").start();
    let (line, end) = report(running, "init_process_group");
    assert!(line.contains("rank 1 has not reached"), "{line}");
    assert!(end.stderr.contains("is stopped"), "{}", end.stderr);
    assert!(end.stderr.contains("kill -CONT "), "{}", end.stderr);
    assert_eq!(end.code, Some(128 + 15));
}

#[test]
fn a_rank_that_is_busy_in_an_import_is_said_to_be_busy() {
    let job = job("import endless").file("endless.py", "while True:\n    pass\n");
    let (line, end) = report(job.start(), "init_process_group");
    assert!(line.contains("rank 1 has not reached"), "{line}");
    assert!(end.stderr.contains("is busy"), "{}", end.stderr);
}

#[test]
fn a_wrong_world_size_is_named() {
    let running = job("os.environ['WORLD_SIZE'] = '5'").start();
    let (line, _) = report(running, "rank 1 joins a group of 5 ranks");
    assert!(line.ends_with("this job has 4: its WORLD_SIZE was changed\n"), "{line}");
}

/// Rank 1 was in the first default group, which says nothing about the second.
#[test]
fn who_is_missing_in_a_group_that_is_made_anew_is_named() {
    let script = "
import os, signal
import torch.distributed as dist
dist.init_process_group('gloo')
dist.barrier()
dist.destroy_process_group()
if os.environ['RANK'] in '12':
    signal.pause()
dist.init_process_group('gloo')
";
    let job = Job::new().args(["--nproc", "4", "--init-report-after", "1s"]);
    let job = job.args(["--shutdown-timeout", "1"]).script(script);
    // On a busy machine there may be one about the first group, too.
    let (line, _) = report(job.start(), "ranks 1,2 have not joined the others");
    assert!(line.ends_with("ranks 0,3 wait for them\n"), "{line}");
}

/// The rank that timed out failed first, but the one that never came is why.
#[test]
fn the_end_report_names_who_was_missing_when_the_others_timed_out() {
    let script = "
import datetime, os, signal, sys, traceback
rank = int(os.environ['RANK'])
if rank == 2:
    signal.pause()
import torch.distributed as dist
try:
    dist.init_process_group('gloo', timeout=datetime.timedelta(seconds=8))
except Exception:
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)  # PyTorch may abort while the interpreter ends
";
    let job = Job::new().args(["--nproc", "3", "--shutdown-timeout", "5"]).script(script);
    let end = job.run_within(BOUND);
    assert_eq!(end.code, Some(1), "{}", end.stderr);
    let failed = end.stderr.find("failed first").expect("the failure");
    let missing = end.stderr.find("rank 2 has not reached init_process_group").expect("the cause");
    assert!(missing > failed, "{}", end.stderr);
}

#[test]
fn nothing_is_said_where_all_came_and_where_nobody_asks() {
    let script = "
import os, torch.distributed as dist
dist.init_process_group('gloo')
dist.barrier()
open('met-' + os.environ['RANK'], 'w').close()
while not os.path.exists('go'):
    pass
os._exit(0)
";
    let job = Job::new().args(["--nproc", "2", "--init-report-after", "100ms"]).script(script);
    let running = job.start();
    let there = |name: &str| running.dir.path().join(name).exists();
    wait_until("both met", BOUND, || there("met-0") && there("met-1"));
    std::fs::write(running.dir.path().join("go"), "").expect("a file");
    let end = running.end_within(BOUND).expect_code(0);
    let last = end.stderr.lines().last().unwrap_or_default();
    assert!(!last.contains("timed out"), "{}", end.stderr);
    let alone = Job::new().args(["--nproc", "2", "--init-report-after", "100ms"]);
    let end = alone.script("import time\ntime.sleep(0.5)").run().expect_code(0);
    assert!(!end.stderr.contains("init_process_group"), "{}", end.stderr);
}
