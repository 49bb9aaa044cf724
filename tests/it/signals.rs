//! Signals: passed on as they came, the grace, the scope, notices, and callers with odd habits.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::doubles::{assert_none_left, called_by, launch, marker, pids, report, send};
use crate::harness::{End, Job, SOON, is_alive, wait_until};

const REPORT: [&str; 2] = ["--json-report", "report.json"];

fn options<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&REPORT, more].concat()
}

/// What the report says of another rank than the suspect.
fn other(end: &End) -> Value {
    report(end)["others"][0].clone()
}

#[test]
pub fn a_request_to_end_reaches_the_ranks_as_it_came() {
    for (signal, name) in [
        (Signal::SIGTERM, "TERM"),
        (Signal::SIGINT, "INT"),
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGQUIT, "QUIT"),
    ] {
        let marker = marker();
        let script = format!("on {name} 7 0 pid wait");
        let mut job = launch(&marker, &options(&["--nproc", "2"]), &script).start();
        pids(&mut job, 2);
        job.signal(signal);
        let end = job.end_within(SOON).expect_code(128 + signal as i32);
        assert_eq!(end.stdout.matches(&format!("got rank {name}")).count(), 2, "{}", end.stdout);
        assert!(end.stderr.contains(&format!("ended by SIG{name}")), "{}", end.stderr);
        assert_none_left(&marker);
    }
}

#[test]
pub fn the_grace_is_the_same_whoever_began_the_end_and_kill_comes_when_it_is_over() {
    const GRACE: f64 = 0.6;
    for failure in [false, true] {
        let marker = marker();
        let options = options(&["--nproc", "2", "--shutdown-timeout", "600ms"]);
        let script = "rank 0 [ on TERM - 0 pid wait ] rank 1 [ on USR2 1 0 pid wait ]";
        let mut job = launch(&marker, &options, script).start();
        let ranks = pids(&mut job, 2);
        if failure {
            // Rank 1 is the one that has a handler for it.
            let one = |name: &str| {
                let caught = nvlaunch::host::process::Dispositions::of(name).expect("it lives");
                !caught.is_default(Signal::SIGUSR2 as i32)
            };
            let failing = ranks.iter().find(|(_, pid)| one(&pid.to_string())).expect("rank 1");
            send(failing.1, Signal::SIGUSR2);
        } else {
            job.signal(Signal::SIGTERM);
        }
        let end = job.end_within(SOON).expect_code(if failure { 1 } else { 143 });
        assert!(end.stdout.contains("got rank TERM"), "{}", end.stdout);
        let record = report(&end);
        let others = record["others"].as_array().expect("others");
        let deaf = others.iter().find(|o| o["rank"] == 0).expect("rank 0");
        let later = deaf["later"].as_f64().expect("it was killed");
        assert!((GRACE..GRACE + 10.0).contains(&later), "killed after {later} s");
        assert_eq!(deaf["exit"]["signal"], 9);
        assert_none_left(&marker);
    }
}

#[test]
pub fn a_second_request_shortens_the_grace_and_a_third_ends_it() {
    for (times, least, most) in [(2, 4.9, 19.0), (3, 0.0, 4.5)] {
        let marker = marker();
        let options = options(&["--shutdown-timeout", "120s"]);
        let mut job = launch(&marker, &options, "on TERM - 0 on INT - 0 pid wait").start();
        pids(&mut job, 1);
        job.signal(Signal::SIGTERM);
        job.stdout_line("got rank TERM");
        let began = Instant::now();
        for time in 1..times {
            job.signal(if time == 1 { Signal::SIGINT } else { Signal::SIGTERM });
            if time + 1 < times {
                // Two of a kind at one moment are one: the kernel keeps no count.
                std::thread::park_timeout(Duration::from_millis(100));
            }
        }
        job.end_within(SOON).expect_code(143);
        let took = began.elapsed().as_secs_f64();
        assert!((least..most).contains(&took), "{times} requests: killed after {took} s");
        assert_none_left(&marker);
    }
}

#[test]
pub fn a_stop_is_asked_of_the_rank_alone_unless_the_scope_is_the_group() {
    for (scope, reaches) in [("rank", false), ("group", true)] {
        let marker = marker();
        let script = "spawn worker [ on TERM - 0 pid wait ] on TERM 3 300 pid wait";
        let mut job = launch(&marker, &options(&["--signal-scope", scope]), script).start();
        pids(&mut job, 2);
        job.signal(Signal::SIGTERM);
        let end = job.end_within(SOON).expect_code(143);
        assert!(end.stdout.contains("got rank TERM"), "{}", end.stdout);
        assert_eq!(end.stdout.contains("got worker TERM"), reaches, "{scope}: {}", end.stdout);
        assert_none_left(&marker);
    }
}

#[test]
pub fn a_notice_reaches_who_listens_and_kills_nobody() {
    let marker = marker();
    let script = "rank 0 [ on USR1 - 0 on USR2 - 0 ] pid wait";
    let mut job = launch(&marker, &["--nproc", "2"], script).start();
    pids(&mut job, 2);
    for (signal, name) in [(Signal::SIGUSR1, "USR1"), (Signal::SIGUSR2, "USR2")] {
        job.signal(signal);
        job.stdout_line(&format!("got rank {name}"));
        let line = job.stderr_line("has no handler");
        assert_eq!(
            line,
            format!("nvlaunch: rank 1 has no handler for SIG{name} and was not sent it\n")
        );
    }
    job.signal(Signal::SIGTERM);
    let end = job.end_within(SOON).expect_code(143);
    assert_eq!(end.stderr.matches("has no handler").count(), 2, "one line each: {}", end.stderr);
    assert_none_left(&marker);
}

#[test]
pub fn a_signal_that_the_user_names_ends_the_job() {
    let marker = marker();
    let options = options(&["--signals-to-handle", "SIGTERM,SIGUSR1"]);
    let mut job = launch(&marker, &options, "on USR1 0 0 pid wait").start();
    pids(&mut job, 1);
    job.signal(Signal::SIGUSR1);
    let end = job.end_within(SOON).expect_code(128 + Signal::SIGUSR1 as i32);
    assert!(end.stdout.contains("got rank USR1"), "{}", end.stdout);
}

#[test]
pub fn a_scheduler_that_signals_everybody_at_once_is_named_and_no_rank_is() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        for _ in 0..10 {
            let marker = marker();
            let mut job = launch(&marker, &options(&["--nproc", "2"]), "pid wait").start();
            let ranks = pids(&mut job, 2);
            job.signal(signal);
            for (_, pid) in ranks {
                send(pid, signal);
            }
            let end = job.end_within(SOON).expect_code(128 + signal as i32);
            let record = report(&end);
            assert_eq!(record["outcome"]["stopped"]["signal"], signal as i32, "{record:#}");
            assert_eq!(record["asked"][0]["pid"], std::process::id(), "{record:#}");
        }
    }
}

/// Two ranks, started by another program.
fn pair(marker: &str, caller: &[&str], script: &str) -> Job {
    called_by(launch(marker, &["--nproc", "2"], script), caller)
}

#[test]
pub fn a_hangup_that_the_caller_ignores_is_ignored() {
    let marker = marker();
    let caller = ["sh", "-c", "trap '' HUP INT; exec \"$@\"", "sh"];
    let mut job = pair(&marker, &caller, "pid wait").start();
    let ranks = pids(&mut job, 2);
    job.signal(Signal::SIGHUP);
    job.signal(Signal::SIGINT);
    for (_, pid) in &ranks {
        let rank = nvlaunch::host::process::Dispositions::of(&pid.to_string()).expect("it lives");
        assert!(rank.ignores(Signal::SIGHUP as i32), "a rank inherits nohup");
    }
    job.signal(Signal::SIGTERM);
    let end = job.end_within(SOON).expect_code(143);
    assert!(end.stderr.contains("ended by SIGTERM"), "{}", end.stderr);
    assert_none_left(&marker);
}

/// Another thread might run later than the supervising one, which would then see a rank that Ctrl-C
/// ended before it knows of Ctrl-C itself.
#[test]
pub fn no_thread_but_the_first_takes_signals() {
    let marker = marker();
    let options = options(&["--nproc", "2", "--checkpoint-dir", "."]);
    let mut job = launch(&marker, &options, "pid wait").start();
    pids(&mut job, 2);
    let folder = format!("/proc/{}/task", job.pid());
    let threads = std::fs::read_dir(folder)
        .expect("it lives")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a number"));
    let mut others = 0;
    for thread in threads.filter(|thread| *thread != job.pid().to_string()) {
        let task = format!("{}/task/{thread}", job.pid());
        let Some(found) = nvlaunch::host::process::Dispositions::of(&task) else { continue };
        others += 1;
        for signal in ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "CHLD", "CONT", "TSTP"] {
            let signal: Signal = format!("SIG{signal}").parse().expect("a signal");
            let name = std::fs::read_to_string(format!("/proc/{task}/comm"));
            assert_ne!(found.blocked & (1 << (signal as u64 - 1)), 0, "{signal} reaches {name:?}");
        }
    }
    assert!(others >= 4, "console, logs, store and checkpoints: {others}");
    job.signal(Signal::SIGTERM);
    job.end_within(SOON);
    assert_none_left(&marker);
}

#[test]
pub fn a_caller_that_blocks_or_ignores_signals_changes_nothing() {
    let block = "use POSIX; my $s = POSIX::SigSet->new; $s->fillset; \
                 POSIX::sigprocmask(SIG_BLOCK, $s); exec @ARGV";
    for caller in [
        &["perl", "-e", block][..],
        &["perl", "-e", "$SIG{CHLD} = 'IGNORE'; $SIG{PIPE} = 'IGNORE'; exec @ARGV"],
    ] {
        let marker = marker();
        let mut job = pair(&marker, caller, "pid wait").start();
        let ranks = pids(&mut job, 2);
        for (_, pid) in &ranks {
            let rank = nvlaunch::host::process::Dispositions::of(&pid.to_string());
            let blocked = rank.expect("it lives").blocked;
            for signal in ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "CHLD", "CONT", "TSTP"] {
                let signal: Signal = format!("SIG{signal}").parse().expect("a signal");
                assert_eq!(blocked & (1 << (signal as u64 - 1)), 0, "{signal} reaches a rank");
            }
        }
        job.signal(Signal::SIGTERM);
        let end = job.end_within(SOON).expect_code(143);
        assert!(end.stderr.contains("ended by nvlaunch's SIGTERM"), "{}", end.stderr);
        assert_none_left(&marker);
        let marker = crate::doubles::marker();
        let end = pair(&marker, caller, "rank 1 [ exit 4 ] wait").run().expect_code(4);
        assert!(end.stderr.contains("rank 1 failed first: exit code 4"), "{}", end.stderr);
        assert_none_left(&marker);
    }
}

#[test]
pub fn in_the_background_of_a_script_an_interrupt_is_not_meant_for_the_job() {
    let marker = marker();
    let caller = ["sh", "-c", "\"$@\" & echo job $!; wait $!; echo ended $?", "sh"];
    let mut job = pair(&marker, &caller, "pid wait").start();
    let line = job.stdout_line("job ");
    let nvlaunch: i32 = line.trim().rsplit(' ').next().unwrap().parse().expect("a process id");
    pids(&mut job, 2);
    send(nvlaunch, Signal::SIGINT);
    send(nvlaunch, Signal::SIGTERM);
    let end = job.end_within(SOON).expect_code(0);
    assert!(end.stdout.contains("ended 143"), "{}", end.stdout);
    assert!(!is_alive(nvlaunch));
    assert_none_left(&marker);
}

#[test]
pub fn the_standard_input_goes_where_it_was_sent() {
    let listen = "rank 0 [ read exit 0 ] rank 1 [ read exit 0 ]";
    for (options, lines) in [
        (&[][..], &["read \"typed\""][..]),
        (&["--stdin", "none"], &["read \"\""]),
        (&["--nproc", "2"], &["[rank 0] read \"\"", "[rank 1] read \"\""]),
        (&["--nproc", "2", "--stdin", "1"], &["[rank 0] read \"\"", "[rank 1] read \"typed\""]),
        (&["--nproc", "2", "--stdin", "0"], &["[rank 0] read \"typed\"", "[rank 1] read \"\""]),
    ] {
        let (read, write) = std::io::pipe().expect("a pipe");
        std::io::Write::write_all(&mut &write, b"typed\n").expect("room in the pipe");
        drop(write);
        let end = launch(&marker(), options, listen).stdin(read.into()).run().expect_code(0);
        let mut read: Vec<&str> = end.stdout.lines().collect();
        read.sort_unstable();
        assert_eq!(read, lines, "{options:?}");
    }
}

#[test]
pub fn a_stopped_rank_is_ended_like_any_other() {
    let marker = marker();
    let mut job = launch(&marker, &options(&["--nproc", "2"]), "pid wait").start();
    let ranks = pids(&mut job, 2);
    send(ranks[0].1, Signal::SIGSTOP);
    let is_stopped = || nvlaunch::host::process::look(ranks[0].1).is_some_and(|p| p.state == 'T');
    wait_until("stopped", SOON, is_stopped);
    job.signal(Signal::SIGTERM);
    let end = job.end_within(SOON).expect_code(143);
    assert_eq!(other(&end)["words"], "ended by nvlaunch's SIGTERM");
    assert_none_left(&marker);
}
