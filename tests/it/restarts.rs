//! Which failures are followed by a restart, how many, and after which wait.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::doubles::report;
use crate::harness::SOON;
use crate::preflight::{plain, sick};
use crate::resume::{assert_replays, job, resumed, saves, seen, wait_for_record};

fn attempts(report: &Value) -> usize {
    report["past"].as_array().expect("past").len() + 1
}

#[test]
pub fn a_missing_module_ends_the_job_at_once_with_or_without_a_folder() {
    for options in [vec![], saves(&[])] {
        let options = [&options[..], &["--max-restarts", "21"]].concat();
        let end = job("import", &options).run().expect_code(1);
        let report = report(&end);
        assert_eq!(attempts(&report), 1, "{}", end.stderr);
        assert_eq!(report["decision"]["class"], "import", "{report:#}");
        let words = "  not restarted: ModuleNotFoundError: No module named 'no_such_module'";
        assert!(end.stderr.contains(words), "{}", end.stderr);
        assert_replays(&end);
    }
}

#[test]
fn what_is_missing_only_after_progress_may_be_there_again() {
    let options = saves(&["--max-restarts", "9"]);
    let end = job("save=10 import; exit=0", &options).run().expect_code(0);
    assert_eq!(attempts(&report(&end)), 2, "{}", end.stderr);
    assert_replays(&end);
    // The next attempt comes no further.
    let end = job("save=10 import", &options).run().expect_code(1);
    assert_eq!(attempts(&report(&end)), 2, "{}", end.stderr);
    assert!(end.stderr.contains(": a restart cannot help"), "{}", end.stderr);
    // What the script reports is progress too, without a folder.
    let end = job("step=3 import; exit=0", &["--max-restarts", "9"]).run().expect_code(0);
    assert_eq!(attempts(&report(&end)), 2, "{}", end.stderr);
    // But not that of an earlier attempt.
    let end = job("step=3 kill; import", &["--max-restarts", "9"]).run().expect_code(1);
    assert_eq!(attempts(&report(&end)), 2, "{}", end.stderr);
    // A profile has the last word.
    let profile = "version: 1\nrestart: {max: 9, policy: {import: never}}\n";
    let end = job("save=10 import", &saves(&["--profile", "never.yaml"]))
        .file("never.yaml", profile)
        .run()
        .expect_code(1);
    assert_eq!(attempts(&report(&end)), 1, "{}", end.stderr);
}

#[test]
fn exit_codes_that_the_profile_calls_final_are_final() {
    let profile = "version: 1\nrestart:\n  max: 3\n  final-codes: [7]\n";
    let end = job("exit=6; exit=7", &["--profile", "final.yaml"])
        .file("final.yaml", profile)
        .run()
        .expect_code(7);
    let report = report(&end);
    assert_eq!((attempts(&report), &report["decision"]["class"]), (2, &"final-code".into()));
}

#[test]
fn the_same_failure_at_the_same_step_twice_is_the_end() {
    let end = job("save=10 raise", &saves(&["--max-restarts", "9"])).run().expect_code(1);
    let report = report(&end);
    assert_eq!(attempts(&report), 2, "{}", end.stderr);
    let why = report["decision"]["why"].as_str().expect("a reason");
    assert!(why.contains("same failure at the same step twice"), "{why}");
    // Without a folder nobody knows the step; soon after the start is one.
    let end = job("raise", &["--max-restarts", "9"]).run().expect_code(1);
    let report = crate::doubles::report(&end);
    assert_eq!(attempts(&report), 2, "{}", end.stderr);
    let why = report["decision"]["why"].as_str().expect("a reason");
    assert!(why.starts_with("the same failure twice") && why.contains("soon after"), "{why}");
    assert_replays(&end);
    // For anything else, and where a step is reported, torchrun's number counts.
    for plan in ["exit=3", "raise; exit=3; raise", "raise; step=1 raise; step=2 raise"] {
        let end = job(plan, &["--max-restarts", "2"]).run();
        assert_eq!(attempts(&crate::doubles::report(&end)), 3, "{plan}: {}", end.stderr);
    }
}

#[test]
pub fn progress_refills_the_restarts_and_without_it_they_end() {
    let plan = "save=10 kill; save=20 kill; save=30 kill; save=40 exit=0";
    let end = job(plan, &saves(&["--max-restarts", "1"])).run_within(SOON * 2).expect_code(0);
    assert_eq!(attempts(&report(&end)), 4);
    assert_eq!(resumed(&end, 3).as_deref(), Some("step_30.pt"));
    let end = job("save=10 kill", &saves(&["--max-restarts", "2"])).run().expect_code(137);
    let report = report(&end);
    assert_eq!(attempts(&report), 3, "{}", end.stderr);
    assert!(end.stderr.contains("not restarted: 2 restarts without progress"), "{}", end.stderr);
    assert_eq!(report["decision"]["progress"], 10);
}

#[test]
fn a_script_that_says_its_step_makes_progress_without_a_new_checkpoint() {
    let plan = "save=1 step=5 kill; step=6 kill; step=7 kill; step=8 save=9 exit=0";
    let end = job(plan, &saves(&["--max-restarts", "1"])).run_within(SOON * 2).expect_code(0);
    assert_eq!(attempts(&report(&end)), 4);
    assert_eq!(resumed(&end, 3).as_deref(), Some("step_1.pt"));
}

#[test]
fn the_wait_before_a_restart_doubles_and_none_is_none() {
    let mut options = saves(&["--max-restarts", "2"]);
    options.extend(["--restart-backoff", "300ms..1m"]);
    let end = job("kill; kill; save=1 exit=0", &options).run().expect_code(0);
    let began = |attempt| seen(&end, attempt, 1)["began"].as_f64().expect("seconds");
    let (first, second) = (began(1) - began(0), began(2) - began(1));
    // A fifth less or more is jitter.
    assert!(first >= 0.24 && second >= 0.48, "{first} s, {second} s");
    assert!(end.stderr.contains("restart 2 of 2, in "), "{}", end.stderr);
    assert_replays(&end);
    let end = job("kill; exit=0", &["--max-restarts", "1"]).run().expect_code(0);
    assert!(end.stderr.contains("restart 1 of 1\n"), "no wait is said: {}", end.stderr);
}

#[test]
fn a_request_to_end_while_nothing_runs_ends_at_once() {
    // In the wait before a restart.
    let mut options = saves(&["--max-restarts", "1"]);
    options.extend(["--restart-backoff", "5m"]);
    let mut waiting = job("kill", &options).start();
    waiting.stderr_line("restart 1 of 1");
    waiting.signal(Signal::SIGINT);
    let end = waiting.end_within(SOON).expect_code(130);
    assert!(end.stderr.contains("SIGINT: no rank runs; ending"), "{}", end.stderr);
    assert_replays(&end);
    // While it is found out what to resume from: what is young is looked at twice, a second apart.
    let fresh = job("exit=0", &saves(&[])).file("ckpt/step_1.pt", "PK");
    let preparing = fresh.start();
    wait_for_record(&preparing, "\"prepare\"");
    preparing.signal(Signal::SIGINT);
    let end = preparing.end_within(SOON).expect_code(130);
    assert!(!end.path("seen").exists(), "no rank was started");
    assert_replays(&end);
}

#[test]
fn a_machine_that_became_sick_gets_no_further_attempt() {
    for folder in [false, true] {
        let options = ["--max-restarts", "3", "--sysroot", "plain"];
        let options = if folder { saves(&options) } else { options.to_vec() };
        let end = sick(plain(job("sick exit=3", &options))).run().expect_code(3);
        let report = report(&end);
        assert_eq!(attempts(&report), 1, "{}", end.stderr);
        let why = report["decision"]["why"].as_str().expect("a reason");
        assert!(why.starts_with("preflight finds NVL"), "{why}");
        assert!(end.stderr.contains("  not restarted: preflight finds NVL"), "{}", end.stderr);
        assert_replays(&end);
    }
    // With --force the user wants it all the same, and so where it was so at the start.
    let options = ["--max-restarts", "1", "--sysroot", "plain", "--force"];
    let end = sick(plain(job("sick exit=3; exit=0", &options))).run().expect_code(0);
    assert_eq!(attempts(&report(&end)), 2);
}
