//! 9 to 11: an attempt after a failure, with real `PyTorch`.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use crate::harness::{End, Job, is_warm};

/// Rank 1 fails after an `all_reduce` of attempt 0. Each rank says what it sees, and leaves a key
/// in the store that the next attempt must not find.
pub const RESTART: &str = include_str!("../scripts/restart.py");

/// The same few restarts serve all tests here: importing torch is what takes the time.
fn restarts() -> &'static [End] {
    static ENDS: [OnceLock<Vec<End>>; 2] = [const { OnceLock::new() }; 2];
    ENDS[usize::from(is_warm())].get_or_init(|| {
        let one = || {
            let job = Job::new().args(["--nproc", "2", "--max-restarts", "1"]).script(RESTART);
            job.run_within(Duration::from_secs(120))
        };
        (0..5).map(|_| one()).collect()
    })
}

/// The words after `what` of each line of a run, with its rank before them.
fn said<'a>(end: &'a End, what: &str) -> BTreeSet<&'a str> {
    let lines = end.stdout.lines().filter(|line| line.contains(what));
    lines.map(|line| line.strip_prefix("[rank ").expect("a rank says it")).collect()
}

#[test]
pub fn b09_a_restart_after_a_collective_comes_back() {
    let ends = restarts();
    let failed: Vec<_> = ends.iter().filter(|end| end.code != Some(0)).map(|e| &e.stderr).collect();
    assert!(failed.is_empty(), "{} of {} did not: {failed:?}", failed.len(), ends.len());
    for end in ends {
        assert_eq!(said(end, "sum"), ["0] sum 3 in 1", "1] sum 3 in 1"].into());
    }
}

#[test]
pub fn b10_the_restart_count_rises_on_all_ranks_and_the_budget_stays() {
    for end in restarts() {
        let expected =
            ["0] attempt 0 of 1", "0] attempt 1 of 1", "1] attempt 0 of 1", "1] attempt 1 of 1"];
        assert_eq!(said(end, "attempt"), expected.into());
    }
}

#[test]
pub fn b11_an_attempt_finds_nothing_of_the_one_before() {
    for end in restarts() {
        assert_eq!(said(end, "stale"), ["0] stale False in 1", "1] stale False in 1"].into());
        let ports: BTreeSet<&str> =
            said(end, "port").iter().filter_map(|line| line.rsplit(' ').next()).collect();
        assert_eq!(ports.len(), 2, "each attempt has a port of its own: {}", end.stdout);
    }
}
