//! Machines that are taken away: ranks have time to save, and nvlaunch says what came of it.

use std::time::{Instant, SystemTime};

use nix::sys::signal::Signal;

use crate::doubles::report;
use crate::harness::{Job, Running, SOON, venv, wait_until};
use crate::resume::{assert_replays, job, saves};

/// A job whose ranks wait, and answer a signal as `on` says (`seconds:step:exit|stay`).
fn waiting(on: &str, options: &[&str]) -> Job {
    let options = saves(&[&["--shutdown-timeout", "1s"], options].concat());
    job("wait", &options).env("ON", on)
}

fn ready(job: &mut Running) {
    job.stdout_line("waits");
    job.stdout_line("waits");
}

#[test]
fn a_save_that_takes_longer_than_the_shutdown_timeout_is_waited_for() {
    let mut job = waiting("3:40:exit", &[]).start();
    ready(&mut job);
    job.signal(Signal::SIGTERM);
    let end = job.end_within(SOON).expect_code(75);
    assert!(end.stdout.contains("saved 40"), "{}", end.stdout);
    assert!(end.stderr.contains("they have 5m to save"), "{}", end.stderr);
    let report = report(&end);
    assert_eq!(report["saved"]["step"], 40, "{report:#}");
    assert!(end.stderr.contains("step_40.pt (step 40) was saved"), "{}", end.stderr);
    assert_replays(&end);
}

#[test]
fn ranks_that_do_not_end_after_the_save_are_ended() {
    let mut job = waiting("0:40:stay", &["--preemption-grace", "2m"]).start();
    ready(&mut job);
    job.signal(Signal::SIGTERM);
    job.stderr_line("nvlaunch: checkpoint step_40.pt is whole: ending the ranks");
    let end = job.end_within(SOON).expect_code(75);
    let report = report(&end);
    assert_eq!(report["outcome"]["preempted"]["saved"]["step"], 40, "{report:#}");
    assert_replays(&end);
}

#[test]
fn what_outlives_the_ranks_does_not_use_up_their_time_to_save() {
    let options = saves(&["--shutdown-timeout", "1s", "--preemption-grace", "10m"]);
    let mut job = job("helper wait", &options).env("ON", "0:40:exit").start();
    ready(&mut job);
    job.signal(Signal::SIGTERM);
    let end = job.end_within(SOON * 2).expect_code(75);
    let report = report(&end);
    assert_eq!(report["saved"]["step"], 40, "{report:#}");
    assert!(end.stderr.contains("sleep"), "{}", end.stderr);
    assert_replays(&end);
}

#[test]
fn a_preemption_just_after_a_failure_is_one_and_the_report_names_both() {
    let options = saves(&["--shutdown-timeout", "20s", "--max-restarts", "3"]);
    let mut job = job("wait0 exit=3", &options).env("ON", "gate:40:exit").start();
    job.stdout_line("waits");
    let put = |job: &Running, name: &str| {
        std::fs::write(job.dir.path().join("seen").join(name), "").expect("a file");
    };
    // Rank 1 fails, and rank 0 is told to end.
    put(&job, "0-done");
    job.stdout_line("got SIGTERM");
    job.signal(Signal::SIGTERM);
    job.stderr_line("they have 5m to save");
    job.stdout_line("got SIGTERM");
    put(&job, "go");
    let end = job.end_within(SOON).expect_code(75);
    let report = report(&end);
    assert_eq!(report["saved"]["step"], 40, "{report:#}");
    assert_eq!((&report["failure"]["rank"], report["past"][0].is_null()), (&1.into(), true));
    assert!(end.stderr.contains("nvlaunch: preempted by SIGTERM"), "{}", end.stderr);
    assert!(end.stderr.contains("nvlaunch: rank 1 failed first: exit code 3"), "{}", end.stderr);
    assert_replays(&end);
}

/// A scheduler signals every process of the job, nvlaunch last: by then the ranks have ended.
#[test]
fn ranks_that_were_asked_before_nvlaunch_did_not_fail_and_were_not_done() {
    use crate::doubles::{launch, marker, pids, send};
    for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGINT, "INT")] {
        for code in [0, 3] {
            let options = ["--nproc", "2", "--json-report", "report.json"];
            let script = format!("on {name} {code} 0 pid wait");
            let mut job = launch(&marker(), &options, &script).start();
            let ranks = pids(&mut job, 2);
            let state = |pid: i32| nvlaunch::host::process::look(pid).map(|p| p.state);
            job.signal(Signal::SIGSTOP);
            wait_until("nvlaunch stops", SOON, || state(job.pid()) == Some('T'));
            for &(_, pid) in &ranks {
                send(pid, signal);
            }
            let ended = || ranks.iter().all(|&(_, pid)| state(pid) == Some('Z'));
            wait_until("the ranks end", SOON, ended);
            job.signal(signal);
            job.signal(Signal::SIGCONT);
            let end = job.end_within(SOON).expect_code(128 + signal as i32);
            assert!(report(&end)["failure"].is_null(), "{}", end.stderr);
        }
    }
}

#[test]
fn an_interrupt_is_no_preemption_and_without_a_folder_nothing_is() {
    let mut interrupted = waiting("0::stay", &[]).start();
    ready(&mut interrupted);
    interrupted.signal(Signal::SIGINT);
    interrupted.end_within(SOON).expect_code(130);
    let options = ["--shutdown-timeout", "1s"];
    let mut plain = job("wait", &options).env("ON", "0::stay").start();
    ready(&mut plain);
    plain.signal(Signal::SIGTERM);
    let end = plain.end_within(SOON).expect_code(143);
    assert!(end.stderr.contains("they have 1s"), "{}", end.stderr);
}

#[test]
fn the_signals_that_the_user_names_are_those() {
    let mut job = waiting("0:40:exit", &["--stop-signal", "SIGUSR1"]).start();
    ready(&mut job);
    job.signal(Signal::SIGUSR1);
    let end = job.end_within(SOON).expect_code(75);
    assert!(end.stdout.contains("got SIGUSR1"), "{}", end.stdout);
    assert!(end.stderr.contains("preempted by SIGUSR1"), "{}", end.stderr);
    assert_eq!(report(&end)["saved"]["step"], 40);
}

#[test]
fn a_second_request_shortens_the_time_to_save_and_a_third_ends_it() {
    for (times, least, most) in [(2, 4.5, 19.0), (3, 0.0, 4.5)] {
        let mut job = waiting("600:40:stay", &[]).start();
        ready(&mut job);
        job.signal(Signal::SIGTERM);
        job.stderr_line("passed on to the ranks");
        let began = Instant::now();
        job.signal(Signal::SIGTERM);
        job.stderr_line("again: at most 5s from now");
        if times == 3 {
            job.signal(Signal::SIGTERM);
        }
        let end = job.end_within(SOON).expect_code(75);
        let took = began.elapsed().as_secs_f64();
        assert!((least..most).contains(&took), "{times} requests: {took} s");
        assert!(end.stderr.contains("nothing new was saved"), "{}", end.stderr);
        assert!(end.stderr.contains("hint: no whole checkpoint appeared"), "{}", end.stderr);
    }
}

#[test]
fn the_end_that_the_scheduler_announced_is_kept() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    // Of which nvlaunch keeps ten seconds for itself.
    let end = (now.as_secs() + 40).to_string();
    let mut job = waiting("600:40:stay", &[]).env("SLURM_JOB_END_TIME", end).start();
    ready(&mut job);
    job.signal(Signal::SIGTERM);
    let line = job.stderr_line("passed on to the ranks; they have ");
    let left = line.split("they have ").nth(1).and_then(|rest| rest.split('s').next());
    let left: u64 = left.expect("a time").parse().expect("seconds");
    assert!((1..=30).contains(&left), "{line}");
    job.signal(Signal::SIGTERM);
    job.stderr_line("again");
    job.signal(Signal::SIGTERM);
    job.end_within(SOON).expect_code(75);
}

/// The stand-in for Slurm's program writes down what it is asked.
fn with_scontrol(job: Job, text: &str) -> Job {
    use std::os::unix::fs::PermissionsExt as _;
    let bin = job.dir.path().join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    let path = format!("{}:{}:/usr/bin:/bin", bin.display(), venv("").display());
    let job = job.file("bin/scontrol", text).env("PATH", path);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bin.join("scontrol"), mode).expect("it is executable");
    job
}

#[test]
fn the_slurm_job_is_put_back_into_its_queue_where_that_is_asked_for() {
    let works = "#!/bin/sh\necho \"$@\" > asked\ncp report.json before.json\n";
    let fails = "#!/bin/sh\necho 'Requested operation is presently disabled' >&2\nexit 1\n";
    for (scontrol, job_id, words, done) in [
        (Some(works), Some("4242"), "Slurm job 4242 is in its queue again", true),
        (
            Some(fails),
            Some("4242"),
            "not requeued: scontrol says: Requested operation is presently disabled",
            false,
        ),
        (Some(works), None, "not requeued: SLURM_JOB_ID is not set", false),
        (Some(works), Some("-x"), "not requeued: SLURM_JOB_ID=-x is no job", false),
        (None, Some("4242"), "not requeued: scontrol is not on PATH", false),
    ] {
        let mut job = waiting("0:40:exit", &["--requeue"]);
        job = match scontrol {
            Some(text) => with_scontrol(job, text),
            // This machine may have a real one.
            None => job.env("PATH", venv("")),
        };
        if let Some(id) = job_id {
            job = job.env("SLURM_JOB_ID", id);
        }
        let mut job = job.start();
        ready(&mut job);
        job.signal(Signal::SIGTERM);
        let end = job.end_within(SOON).expect_code(75);
        assert!(end.stderr.contains(words), "{words}: {}", end.stderr);
        let report = report(&end);
        assert_eq!(report["requeue"]["done"], done, "{report:#}");
        if done {
            let asked = std::fs::read_to_string(end.path("asked")).expect("it was asked");
            assert_eq!(asked, "requeue 4242\n");
            assert!(end.path("before.json").exists(), "the report was written before");
        } else {
            assert!(!end.path("asked").exists());
        }
    }
}

#[test]
fn a_job_that_fails_is_not_put_back() {
    let works = "#!/bin/sh\necho \"$@\" > asked\n";
    let job = job("exit=3", &saves(&["--requeue"])).env("SLURM_JOB_ID", "4242");
    let end = with_scontrol(job, works).run().expect_code(3);
    assert!(!end.path("asked").exists(), "{}", end.stderr);
}

/// A driver that answers late holds nvlaunch that long.
#[test]
fn a_request_that_comes_while_preflight_looks_again_starts_no_rank() {
    const SCRIPT: &str = r#"
import os
attempt = os.environ["NVLAUNCH_ATTEMPT"]
open("ran-" + attempt, "w").close()
with open("nvml.json", "w") as file:
    file.write('{"slow": {"nvmlInit_v2": 8000, "nvmlInitWithFlags": 8000}}')
raise ValueError("boom")
"#;
    let job = Job::new().args(["--max-restarts", "2"]).script(SCRIPT).file("nvml.json", "{}");
    let play = job.dir.path().join("nvml.json");
    let library = crate::nvml::fake();
    let job = job.env("NVLAUNCH_NVML_LIB", library).env("FAKE_NVML_SCRIPT", play);
    let mut job = job.start();
    job.stderr_line("restart 1 of 2");
    job.signal(Signal::SIGINT);
    let end = job.end_within(SOON * 2).expect_code(130);
    assert!(end.stderr.contains("SIGINT: no rank runs; ending"), "{}", end.stderr);
    assert!(end.path("ran-0").exists() && !end.path("ran-1").exists());
}
