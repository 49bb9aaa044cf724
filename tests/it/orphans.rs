//! Zero orphans: whoever ends however, nothing of the run is left; in most cells within 100 ms. Other
//! tests may keep the machine busy for longer in some.
//!
//! Each cell is a launch of two ranks. Rank 0 has a child, a grandchild in a session of its own, a
//! daemonised one, and a daemonised one without environment. Somebody is ended in some way; where
//! that does not end the job, the job is ended after it. The clock starts when nvlaunch is gone.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::doubles::{
    alive_of, alone, keeper, launch, marker, named_keeper, none_left, pids, report, send,
};
use crate::harness::{Running, SOON, is_alive, is_warm, wait_until};

/// From the end of nvlaunch to the end of everything it started, in the middle of all cells.
const BOUND: Duration = Duration::from_millis(100);

const ENDS: &str = "on USR1 0 0 on USR2 1 0";

/// The family of rank 0; every member ends as it is told by USR1 and USR2.
fn family(deaf: bool) -> String {
    let each = if deaf { format!("{ENDS} on TERM - 0") } else { ENDS.to_owned() };
    format!(
        "attempt 1 [ exit 0 ] {each} rank 0 [ spawn child [ {each} pid wait ] \
         spawn left [ setsid {each} pid wait ] daemon daemon [ {each} pid wait ] \
         bare bare [ {each} pid wait ] ] pid wait"
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Double(&'static str),
    Shim,
    Nvlaunch,
    Keeper,
    Template,
    NvlaunchAndTemplate,
    NvlaunchAndRank,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Send(Signal),
    StopThenKill,
    Exit(i32),
}

use How::{Exit, Send, StopThenKill};

#[derive(Debug, Clone, Copy)]
struct Cell {
    who: Who,
    how: How,
    restarts: bool,
    deaf: bool,
}

fn matrix() -> Vec<Cell> {
    let mut cells = Vec::new();
    let kill = Send(Signal::SIGKILL);
    let plain = [kill, Send(Signal::SIGTERM), Send(Signal::SIGINT), StopThenKill, Exit(0), Exit(1)];
    for name in ["rank", "child", "left", "daemon", "bare"] {
        for how in plain {
            for restarts in [false, true] {
                cells.push(Cell { who: Who::Double(name), how, restarts, deaf: false });
            }
        }
    }
    let asked = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];
    let died = [Signal::SIGKILL, Signal::SIGABRT, Signal::SIGXCPU];
    for how in asked.into_iter().chain(died).map(Send).chain([StopThenKill]) {
        for deaf in [false, true] {
            cells.push(Cell { who: Who::Nvlaunch, how, restarts: deaf, deaf });
        }
    }
    for how in [kill, Send(Signal::SIGTERM), StopThenKill] {
        for who in [Who::Shim, Who::Keeper, Who::NvlaunchAndRank] {
            cells.push(Cell { who, how, restarts: false, deaf: false });
            // A shim that became a deaf rank meanwhile would not end by TERM.
            cells.push(Cell { who, how, restarts: true, deaf: who != Who::Shim });
        }
    }
    if is_warm() {
        // Where there are restarts, it stays for the next attempt. One that is only stopped is
        // waited for, 20 s: too long for here.
        for how in [kill, Send(Signal::SIGTERM), StopThenKill, Send(Signal::SIGSTOP)] {
            if how != Send(Signal::SIGSTOP) {
                cells.push(Cell { who: Who::Template, how, restarts: true, deaf: false });
            }
            let who = Who::NvlaunchAndTemplate;
            cells.push(Cell { who, how, restarts: true, deaf: true });
        }
    }
    for how in [kill, StopThenKill] {
        cells.push(Cell { who: Who::All, how, restarts: false, deaf: false });
    }
    for name in ["rank", "daemon"] {
        for how in [kill, Exit(0), Exit(1)] {
            cells.push(Cell { who: Who::Double(name), how, restarts: false, deaf: true });
        }
    }
    cells
}

/// Ends these processes; what belongs together comes together.
fn hit(pids: &[i32], how: How) {
    let all = |signal| pids.iter().for_each(|&pid| send(pid, signal));
    match how {
        Send(signal) => all(signal),
        StopThenKill => {
            all(Signal::SIGSTOP);
            let stopped = |pid: i32| {
                nvlaunch::host::process::look(pid).is_none_or(|p| matches!(p.state, 'T' | 'Z'))
            };
            wait_until("stopped", SOON, || pids.iter().all(|&pid| stopped(pid)));
            all(Signal::SIGKILL);
        }
        Exit(0) => all(Signal::SIGUSR1),
        Exit(_) => all(Signal::SIGUSR2),
    }
}

fn start(cell: Cell, marker: &str) -> Running {
    let restarts = if cell.restarts { "1" } else { "0" };
    let options = ["--nproc", "2", "--max-restarts", restarts, "--shutdown-timeout", "300ms"];
    let job = launch(marker, &options, &family(cell.deaf));
    // What ends early may have been the template.
    if matches!(cell.who, Who::Shim | Who::Template) { job.may_be_cold() } else { job }.start()
}

/// Plays one cell; how long the last process outlived nvlaunch, without and with its keeper.
fn play(cell: Cell) -> Result<(Duration, Duration), String> {
    let marker = marker();
    let mut job = start(cell, &marker);
    let nvlaunch = job.pid();
    let mut others = BTreeSet::new();
    if cell.who == Who::Shim {
        let child = first_rank(nvlaunch);
        hit(&[child], cell.how);
        if is_warm() {
            // That was the template's: ranks start cold then, or without it.
            pids(&mut job, 6);
            send(nvlaunch, Signal::SIGTERM);
        } else if cell.restarts {
            wait_until(&format!("the end of {cell:?}"), SOON, || !is_alive(nvlaunch));
        }
    } else {
        let family = pids(&mut job, 6);
        let named = |name: &str| -> Vec<i32> {
            family.iter().filter(|(n, _)| n == name).map(|&(_, pid)| pid).collect()
        };
        let ranks = named("rank");
        let first = named_keeper(nvlaunch);
        others.insert(first);
        match cell.who {
            Who::Double(name) => {
                let victim = named(name)[0];
                hit(&[victim], cell.how);
                let ends_job = name == "rank" && !matches!(cell.how, Exit(0));
                if !ends_job {
                    let stays = cell.deaf && matches!(cell.how, Send(_));
                    wait_until("the victim's end", SOON, || stays || !is_alive(victim));
                    let others: Vec<i32> =
                        ranks.iter().copied().filter(|&pid| pid != victim).collect();
                    match (name, cell.restarts) {
                        ("rank", false) => hit(&others, Exit(0)),
                        (_, true) => hit(&others, Exit(1)),
                        (_, false) => send(nvlaunch, Signal::SIGTERM),
                    }
                }
            }
            Who::Template => {
                hit(&[template(nvlaunch).ok_or("no template")?], cell.how);
                assert!(ranks.iter().all(|&pid| is_alive(pid)), "a template takes nobody along");
                hit(&ranks[..1], Exit(1));
            }
            Who::NvlaunchAndTemplate => {
                let template = template(nvlaunch).ok_or("no template")?;
                hit(&[template], cell.how);
                hit(&[nvlaunch], Send(Signal::SIGKILL));
            }
            Who::Nvlaunch => hit(&[nvlaunch], cell.how),
            Who::NvlaunchAndRank => hit(&[nvlaunch, ranks[0]], cell.how),
            Who::All => {
                let mut all = vec![first, nvlaunch];
                all.extend(family.iter().map(|&(_, pid)| pid));
                hit(&all, cell.how);
            }
            Who::Keeper => {
                hit(&[first], cell.how);
                if cell.how != Send(Signal::SIGTERM) {
                    wait_until("another keeper", SOON, || {
                        keeper(nvlaunch).is_some_and(|pid| pid != first)
                    });
                    others.extend(keeper(nvlaunch));
                }
                let all = 8 + usize::from(is_warm() && cell.restarts);
                assert_eq!(alive_of(&marker, &others).len(), all, "a keeper takes nobody along");
                hit(&[nvlaunch], Send(Signal::SIGKILL));
            }
            Who::Shim => unreachable!("done above"),
        }
    }
    others.extend(keeper(nvlaunch));
    wait_until(&format!("the end of {cell:?}"), SOON, || !is_alive(nvlaunch));
    let left = none_left(&marker, &BTreeSet::new()).and_then(|doubles| {
        let keeper = none_left(&marker, &others)?;
        Ok((doubles, doubles + keeper))
    });
    let end = job.end_within(SOON);
    left.map_err(|left| format!("{cell:?}: {left}\n{}", end.stderr))
}

/// The template of a launch with warm ranks.
fn template(nvlaunch: i32) -> Option<i32> {
    let is_template = |pid: &i32| {
        nvlaunch::host::process::look(*pid).is_some_and(|process| process.name == "nvl-template")
    };
    nvlaunch::host::process::children(nvlaunch).into_iter().find(is_template)
}

/// The first child of nvlaunch that is not its keeper, as early as it can be seen.
fn first_rank(nvlaunch: i32) -> i32 {
    let end = Instant::now() + SOON;
    loop {
        let children = nvlaunch::host::process::children(nvlaunch);
        // The keeper is started first; it has its name only after a while.
        if let [_, rank, ..] = children[..] {
            return rank;
        }
        assert!(Instant::now() < end, "nvlaunch starts no rank");
        std::hint::spin_loop();
    }
}

#[test]
pub fn whoever_ends_however_nothing_is_left() {
    let cells = matrix();
    assert!(cells.len() >= 60);
    let mut slowest = (Duration::ZERO, None);
    let mut keeper = Duration::ZERO;
    let mut wrong = Vec::new();
    let mut times = Vec::new();
    for &cell in &cells {
        let _alone = alone();
        match play(cell) {
            Ok((took, with_keeper)) => {
                times.push(took);
                keeper = keeper.max(with_keeper);
                if took >= slowest.0 {
                    slowest = (took, Some(cell));
                }
            }
            Err(left) => wrong.push(left),
        }
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let (took, cell) = slowest;
    println!(
        "orphans: {} cells, {} left, median {} ms, slowest {} ms ({cell:?}), with its keeper {} ms",
        cells.len(),
        wrong.len(),
        median.as_millis(),
        took.as_millis(),
        keeper.as_millis()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(median <= BOUND, "half of the cells took longer than {median:?}");
}

#[test]
pub fn a_shim_that_is_stopped_forever_does_not_outlive_a_killed_launcher() {
    const ROUNDS: u32 = 15;
    let mut before_exec = 0;
    for _ in 0..ROUNDS {
        let _alone = alone();
        let marker = marker();
        let job = launch(&marker, &["--nproc", "2"], "pid wait").start();
        let nvlaunch = job.pid();
        let shim = first_rank(nvlaunch);
        send(shim, Signal::SIGSTOP);
        let words = |pid| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        before_exec += u32::from(words(shim) == words(nvlaunch));
        let others = BTreeSet::from([named_keeper(nvlaunch)]);
        job.signal(Signal::SIGKILL);
        wait_until("the end", SOON, || !is_alive(nvlaunch));
        none_left(&marker, &others).expect("nothing is left");
    }
    println!("stopped shims: {ROUNDS}, {before_exec} of them between fork and exec");
}

#[test]
pub fn keep_daemons_leaves_exactly_what_changed_its_session() {
    for how in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGTERM, Signal::SIGKILL] {
        let marker = marker();
        let options = ["--keep-daemons", "--shutdown-timeout", "300ms"];
        let mut job = launch(&marker, &options, &family(false)).start();
        let family = pids(&mut job, 5);
        let nvlaunch = job.pid();
        let others = BTreeSet::from([named_keeper(nvlaunch)]);
        let rank = family.iter().find(|(name, _)| name == "rank").expect("a rank").1;
        let to = if matches!(how, Signal::SIGTERM | Signal::SIGKILL) { nvlaunch } else { rank };
        let mut expected: Vec<i32> = family
            .iter()
            .filter(|(name, _)| ["left", "daemon", "bare"].contains(&name.as_str()))
            .map(|&(_, pid)| pid)
            .collect();
        expected.sort_unstable();
        send(to, how);
        wait_until("the end", SOON, || !is_alive(nvlaunch));
        let left = || {
            let mut left = alive_of(&marker, &others);
            left.sort_unstable();
            left
        };
        let is_settled = || left() == expected;
        wait_until("only daemons are left", SOON, is_settled);
        std::thread::park_timeout(Duration::from_millis(50));
        assert_eq!(left(), expected, "{how}");
        for pid in expected {
            send(pid, Signal::SIGKILL);
        }
        job.end_within(SOON);
    }
}

#[test]
pub fn a_leftover_of_a_clean_end_gets_term_then_the_grace_then_kill_and_is_named() {
    let marker = marker();
    let options = ["--shutdown-timeout", "400ms", "--json-report", "report.json"];
    let script = "spawn child [ on TERM - 0 pid wait ] daemon daemon [ pid touch there wait ] \
                  await there pid exit 0";
    let mut job = launch(&marker, &options, script).start();
    let family = pids(&mut job, 3);
    let pid_of = |name: &str| family.iter().find(|(n, _)| n == name).expect("it is there").1;
    let end = job.end_within(SOON).expect_code(0);
    assert!(end.stdout.contains("got child TERM"), "{}", end.stdout);
    let report = report(&end);
    let took = report["seconds"].as_f64().expect("a time");
    assert!(took >= 0.4, "KILL after the grace, not after {took} s");
    let signal_of = |name: &str| {
        let leftovers = report["leftovers"].as_array().expect("leftovers");
        let pid = pid_of(name);
        let found = leftovers.iter().find(|l| l["pid"] == pid).expect("it is named");
        assert!(end.stderr.contains(&format!("pid {pid}")), "{}", end.stderr);
        found["signal"].as_i64().expect("a number")
    };
    assert_eq!(signal_of("child"), 9);
    assert_eq!(signal_of("daemon"), 15);
    assert_eq!(alive_of(&marker, &BTreeSet::new()), [0i32; 0]);
}
