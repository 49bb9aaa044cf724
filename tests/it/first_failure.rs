//! The first failure is named, however close the next one follows (S6).
//!
//! Two ranks spin on the monotonic clock until a common moment, one of them some milliseconds
//! longer, and end. What counts is the order in which the kernel let them end: on a busy machine a
//! process may be put aside between its call of `exit` and its end. The test watches both through
//! pidfds of its own; epoll lists what became ready in the order in which it did, and all pidfds of
//! an end are woken under the kernel's one lock. It waits from the start, as nvlaunch does: what was
//! woken for nothing would otherwise stay at the head of the list.

use std::time::Instant;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::doubles::{alone, launch, marker, nanos, pids, report};
use crate::harness::{SOON, is_warm};

/// In each order. That ranks are warm changes only how they begin.
fn rounds() -> u32 {
    if is_warm() { 3 } else { 20 }
}

struct Round {
    as_meant: bool,
    /// What was named, where it was not the rank that ended first.
    wrong: Option<String>,
}

/// Rank `first` ends this much before the other, where the machine allows it.
fn play(first: u32, millis: u32) -> Round {
    let marker = marker();
    let script = format!(
        "pid \
         rank {first} [ until moment 0 exit 3 ] until moment {} exit 3",
        millis * 1000
    );
    let options = ["--nproc", "2", "--json-report", "report.json"];
    let mut job = launch(&marker, &options, &script).start();
    let pids = pids(&mut job, 2);
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("an epoll");
    let pidfds: Vec<_> = pids
        .iter()
        .map(|&(_, pid)| {
            let pidfd = pidfd_open(Pid::from_raw(pid).expect("a pid"), PidfdFlags::empty());
            let pidfd = pidfd.expect("the rank lives");
            let data = u64::try_from(pid).expect("a pid is positive");
            let once = EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT;
            epoll.add(&pidfd, EpollEvent::new(once, data)).expect("room");
            pidfd
        })
        .collect();
    // Whole or not at all: the ranks read it as soon as it is there.
    let path = job.dir.path().join("moment");
    let moment = nanos() + 15_000_000;
    std::fs::write(path.with_extension("part"), moment.to_string()).expect("a file");
    std::fs::rename(path.with_extension("part"), path).expect("a name");
    let mut ended = Vec::new();
    let limit = Instant::now() + SOON;
    while ended.len() < 2 {
        assert!(Instant::now() < limit, "both end");
        let mut events = [EpollEvent::empty(); 2];
        let ready = epoll.wait(&mut events, EpollTimeout::from(100u8)).expect("an answer");
        ended.extend(events[..ready].iter().map(EpollEvent::data));
    }
    drop(pidfds);
    let end = job.end_within(SOON).expect_code(3);
    let report = report(&end);
    let pid_of = |rank: &serde_json::Value| rank["pid"].as_u64().expect("it was started");
    let failure = &report["failure"];
    let (named, other) = (pid_of(failure), pid_of(&report["others"][0]));
    let named_rank = failure["rank"].as_u64().expect("a rank");
    let meant = if named_rank == u64::from(first) { named } else { other };
    Round {
        as_meant: ended[0] == meant,
        wrong: (ended[0] != named)
            .then(|| format!("{millis} ms apart: pid {} ended first\n{}", ended[0], end.stderr)),
    }
}

#[test]
pub fn the_rank_that_failed_first_is_named() {
    let mut wrong = Vec::new();
    for millis in if is_warm() { &[5, 20, 100][..] } else { &[1, 2, 5, 20, 50, 100] } {
        let millis = *millis;
        let (mut right, mut as_meant) = (0, 0);
        for round in 0..2 * rounds() {
            let _alone = alone();
            let Round { as_meant: meant, wrong: why } = play(round % 2, millis);
            as_meant += u32::from(meant);
            right += u32::from(why.is_none());
            wrong.extend(why);
        }
        println!(
            "first failure, {millis} ms apart: {right}/{} right; {as_meant} ended in the order meant",
            2 * rounds()
        );
        assert!(as_meant > 0, "{millis} ms: the machine is too busy to tell");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
