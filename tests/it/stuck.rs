//! A process that no signal ends: the run ends all the same, and names it (S5).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::cgroup::Cgroup;
use crate::doubles::{launch, marker, none_left, pids, report};
use crate::harness::SOON;

/// What nvlaunch waits after KILL.
const REAP_LIMIT: Duration = Duration::from_secs(30);
/// For output that the frozen rank still holds open, and a busy machine.
const SLACK: Duration = Duration::from_secs(15);

/// A frozen process of cgroup version 1 takes no signal, not even KILL, before it is thawed:
/// as near as a test comes to one that sleeps in a driver.
#[test]
pub fn a_rank_that_cannot_be_killed_ends_the_run_as_stuck_and_is_named() {
    let marker = marker();
    let group = match Cgroup::make("freezer", &marker) {
        Ok(group) => group,
        Err(why) => return println!("skipped: {why}"),
    };
    let options = ["--nproc", "2", "--shutdown-timeout", "200ms", "--json-report", "report.json"];
    let mut job = launch(&marker, &options, "pid wait").start();
    let ranks = pids(&mut job, 2);
    let frozen = ranks[0].1;
    group.set("cgroup.procs", &frozen.to_string()).expect("it can enter");
    if let Err(why) = group.set("freezer.state", "FROZEN") {
        return println!("skipped: {why}");
    }
    crate::harness::wait_until("frozen", SOON, || group.says("freezer.state", "FROZEN"));
    let began = Instant::now();
    job.signal(Signal::SIGTERM);
    let end = job.end_within(2 * REAP_LIMIT).expect_code(74);
    let took = began.elapsed();
    // Nobody who reads its output waits longer than for nvlaunch itself.
    assert!((REAP_LIMIT..REAP_LIMIT + SLACK).contains(&took), "it took {took:?}");
    let report = report(&end);
    assert_eq!(report["stuck"][0]["pid"], frozen, "{report:#}");
    let state = report["stuck"][0]["state"].as_str().expect("a state");
    let named = format!("(pid {frozen}) did not end after SIGKILL: state {state}");
    assert!(end.stderr.contains(&named), "{}", end.stderr);
    assert!(!end.stderr.contains("launcher"), "nvlaunch was not killed: {}", end.stderr);
    println!("stuck: state {state}, ended after {took:?}");
    drop(group);
    none_left(&marker, &BTreeSet::new()).expect("nothing is left after the thaw");
}
