//! Stopping and continuing a job: nobody runs on, and no deadline comes nearer meanwhile.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::doubles::{launch, marked, marker, pids};
use crate::harness::{Running, SOON, is_alive, wait_until};

const GRACE: Duration = Duration::from_millis(700);
/// How long the job is kept stopped: longer than the grace.
const STOPPED: Duration = Duration::from_millis(1200);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(10);
/// What passed between the last look and a stop may count as stopped or as run. Less than this is
/// left of the grace where the time that the job was stopped counts.
const LEAST: Duration = Duration::from_millis(250);

const DEAF: &str = "on TERM - 0 spawn child [ pid wait ] pid wait";

fn states(marker: &str) -> String {
    let look = nvlaunch::host::process::look;
    marked(marker).into_iter().filter_map(look).map(|p| p.state).collect()
}

fn all_stopped(marker: &str) -> bool {
    let states = states(marker);
    !states.is_empty() && states.chars().all(|state| state == 'T')
}

fn pause_for(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

#[test]
pub fn every_process_of_the_job_stops_and_goes_on() {
    let marker = marker();
    let script = "spawn child [ group pid wait ] daemon daemon [ pid wait ] pid wait";
    let mut job = launch(&marker, &["--nproc", "2"], script).start();
    pids(&mut job, 6);
    for _ in 0..3 {
        job.signal(Signal::SIGTSTP);
        wait_until("everybody stops", SOON, || all_stopped(&marker));
        job.signal(Signal::SIGCONT);
        wait_until("everybody goes on", SOON, || !states(&marker).contains('T'));
    }
    job.signal(Signal::SIGTERM);
    job.end_within(SOON).expect_code(143);
}

/// Ends a deaf job, stops it in the middle of the grace, continues it; how long it lived on after
/// the first request, without the time it was stopped.
fn stopped_in_the_grace(stop: Signal) -> Duration {
    let marker = marker();
    let options = ["--shutdown-timeout", "700ms"];
    let mut job = launch(&marker, &options, DEAF).start();
    let family = pids(&mut job, 2);
    let rank = family.iter().find(|(name, _)| name == "rank").expect("the rank").1;
    let began = Instant::now();
    job.signal(Signal::SIGTERM);
    job.stdout_line("got rank TERM");
    job.signal(stop);
    let nvlaunch = job.pid();
    let is_stopped = || nvlaunch::host::process::look(nvlaunch).is_some_and(|p| p.state == 'T');
    wait_until("it is stopped", SOON, is_stopped);
    let stopped = Instant::now();
    pause_for(STOPPED);
    job.signal(Signal::SIGCONT);
    let stopped = stopped.elapsed();
    wait_until("the rank is killed", SOON, || !is_alive(rank));
    let lived = began.elapsed().saturating_sub(stopped);
    job.end_within(SOON).expect_code(143);
    lived
}

#[test]
pub fn the_grace_does_not_run_while_the_job_is_stopped() {
    for stop in [Signal::SIGTSTP, Signal::SIGSTOP] {
        let lived = stopped_in_the_grace(stop);
        assert!((LEAST..GRACE + SLACK).contains(&lived), "{stop}: killed after {lived:?}");
    }
}

#[test]
pub fn a_continue_that_continues_nothing_does_not_lengthen_the_grace() {
    let marker = marker();
    let mut job = launch(&marker, &["--shutdown-timeout", "700ms"], DEAF).start();
    let family = pids(&mut job, 2);
    let rank = family.iter().find(|(name, _)| name == "rank").expect("the rank").1;
    job.signal(Signal::SIGTERM);
    let began = Instant::now();
    while is_alive(rank) {
        job.signal(Signal::SIGCONT);
        pause_for(Duration::from_millis(3));
        assert!(began.elapsed() < SOON, "the grace never ends");
    }
    let lived = began.elapsed();
    assert!((LEAST..GRACE + SLACK).contains(&lived), "{lived:?}");
    job.end_within(SOON).expect_code(143);
}

/// Schedulers send CONT together with TERM, so that a stopped job can end.
#[test]
pub fn a_request_to_end_while_stopped_begins_the_grace_when_it_goes_on() {
    for stop_first in [false, true] {
        let marker = marker();
        let mut job = launch(&marker, &["--shutdown-timeout", "700ms"], DEAF).start();
        let family = pids(&mut job, 2);
        let rank = family.iter().find(|(name, _)| name == "rank").expect("the rank").1;
        // nvlaunch has been waiting for a while.
        pause_for(2 * STOPPED);
        if stop_first {
            job.signal(Signal::SIGSTOP);
        }
        job.signal(Signal::SIGTERM);
        job.signal(Signal::SIGCONT);
        let began = Instant::now();
        wait_until("the rank is killed", SOON, || !is_alive(rank));
        let lived = began.elapsed();
        assert!((LEAST..GRACE + SLACK).contains(&lived), "{stop_first}: killed after {lived:?}");
        job.end_within(SOON).expect_code(143);
    }
}

/// How many of 200 stops that are taken back at once last all the same.
fn lost_of_200(job: &Running, marker: &str) -> u32 {
    let mut lost = 0;
    for round in 0..200 {
        job.signal(Signal::SIGTSTP);
        pause_for(Duration::from_micros(5 * round));
        job.signal(Signal::SIGCONT);
        pause_for(Duration::from_millis(1));
        let since = Instant::now();
        while states(marker).contains('T') {
            if since.elapsed() > Duration::from_secs(1) {
                // It came in the moment between the last look and the stop: no program can close
                // that. Another one must do.
                lost += 1;
                // On a busy machine a stop of an earlier round may still be to come.
                wait_until("everybody goes on", SOON, || {
                    job.signal(Signal::SIGCONT);
                    !states(marker).contains('T')
                });
            }
            pause_for(Duration::from_millis(1));
        }
    }
    println!("stops taken back at once: {lost} of 200 had to be taken back twice");
    lost
}

#[test]
pub fn a_stop_that_is_taken_back_at_once_does_not_last() {
    let marker = marker();
    let mut job = launch(&marker, &["--nproc", "2"], "pid wait").start();
    pids(&mut job, 2);
    // Without the look 17 to 19 of 200 are lost on an idle machine. On a busy one nvlaunch may be
    // set aside in that very moment, and loses as many with it; but not every time.
    let is_fine = (0..4).any(|_| lost_of_200(&job, &marker) <= 5);
    assert!(is_fine, "more than 5 of 200 were lost, four times");
    job.signal(Signal::SIGTERM);
    job.end_within(SOON).expect_code(143);
}
