//! Reports as people read them.

use super::*;
use crate::logs::losses::{Amount, ConsoleLoss};
use crate::supervise::warm_start::WarmTimes;

fn quiet(outcome: Outcome) -> Report {
    Report {
        version: VERSION,
        run: "r1".to_owned(),
        host: "node1".to_owned(),
        exit_code: exit_code(&outcome),
        outcome,
        seconds: 12.34,
        world_size: 4,
        program: "/usr/bin/python3".to_owned(),
        failure: None,
        others: Vec::new(),
        decision: None,
        resumed_from: None,
        suspicious: None,
        saved: None,
        requeue: None,
        past: Vec::new(),
        missing: None,
        refusals: None,
        leftovers: Vec::new(),
        stuck: Vec::new(),
        asked: Vec::new(),
        losses: None,
        warm: Vec::new(),
        run_dir: None,
        preflight: None,
        hints: Vec::new(),
    }
}

fn failed(exit: Exit, stderr: &[&str]) -> Report {
    let failure = Failure {
        rank: 1,
        local_rank: 1,
        pid: Some(4242),
        attempt: 0,
        exit,
        words: exit.to_string(),
        after: 1.5,
        oom: None,
        script_error: None,
        stdout: Vec::new(),
        stderr: stderr.iter().map(|&line| line.to_owned()).collect(),
    };
    Report { failure: Some(failure), ..quiet(Outcome::Failed { rank: 1, exit }) }
}

fn other(rank: u32, words: &str, later: f64) -> Other {
    Other { rank, pid: Some(1), exit: None, words: words.to_owned(), later: Some(later) }
}

fn past(attempt: u32) -> PastAttempt {
    PastAttempt {
        attempt,
        rank: Some(2),
        words: "SIGKILL".into(),
        after: 200.0,
        resumed_from: None,
        decision: None,
    }
}

fn leftover(pid: i32, rank: Option<u32>, command: &str) -> Leftover {
    Leftover { pid, command: command.to_owned(), rank, signal: nix::libc::SIGTERM }
}

fn shown(mut report: Report) -> String {
    report.hints = hints::hints(&report);
    text::render(&report, true)
}

#[test]
fn a_run_that_ended_well_says_nothing() {
    assert_eq!(shown(quiet(Outcome::Completed)), "");
}

#[test]
fn who_was_missing_and_who_was_refused_is_said() {
    let account = Account {
        seconds: 60.0,
        gathering: None,
        missing: Vec::new(),
        signs: Vec::new(),
        lines: vec!["rank 3 has not reached it".to_owned(), "it sleeps".to_owned()],
    };
    let mut refusals = Refusals::default();
    let peer = "10.0.0.9:1234".parse().expect("an address");
    refusals.add(peer, crate::store::Refused::NotAClient(*b"GET /"));
    let report = Report { missing: Some(account.clone()), ..failed(Exit::Code(1), &["timed out"]) };
    let report = Report { refusals: Some(refusals), ..report };
    insta::assert_snapshot!(shown(report), @"
    nvlaunch: rank 1 failed first: exit code 1 (after 1.5 s, pid 4242)
      rank 3 has not reached it
      it sleeps
      its last lines on stderr:
        timed out
    nvlaunch: the store refused 1 client; the first, 10.0.0.9:1234: not a store client: it began with `GET /`
    ");
    let well = Report { missing: Some(account), ..quiet(Outcome::Completed) };
    assert_eq!(shown(well), "", "in the end they came");
}

#[test]
fn what_a_failure_says() {
    let told = "ended by nvlaunch's SIGTERM";
    let report = Report {
        others: vec![other(0, told, 0.004), other(2, "exit code 1", 0.002), other(3, told, 0.003)],
        past: vec![past(0)],
        run_dir: Some("/tmp/run".into()),
        ..failed(Exit::Code(3), &["Traceback", "\u{1b}[31mValueError\u{1b}[0m: boom\u{7}"])
    };
    insta::assert_snapshot!(shown(report), @"
    nvlaunch: rank 1 failed first: exit code 3 (after 1.5 s, pid 4242)
      attempt 0: rank 2 failed first: SIGKILL (after 3 min 20 s)
      its last lines on stderr:
        Traceback
        ValueError: boom
      then ranks 0,3: ended by nvlaunch's SIGTERM, 4 ms later
      then rank 2: exit code 1, 2 ms later
      run folder: /tmp/run
    ");
}

#[test]
fn many_lines_are_cut_and_the_error_file_comes_first() {
    let lines: Vec<String> = (0..50).map(|n| format!("line {n}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut report = failed(Exit::Code(1), &lines);
    assert!(shown(report.clone()).contains("… 30 lines before\n    line 30\n"));
    let message = "ValueError: boom".to_owned();
    let error = ScriptError { message, traceback: Some("Traceback:\n  x\n".to_owned()) };
    report.failure.as_mut().unwrap().script_error = Some(error);
    let text = shown(report);
    assert!(text.contains("its error file says:\n    Traceback:\n      x\n"), "{text}");
    assert!(!text.contains("line 49"));
}

#[test]
fn each_signal_has_the_hint_that_helps() {
    for (exit, needle) in [
        (Exit::Signal(nix::libc::SIGBUS), "/dev/shm"),
        (Exit::Signal(nix::libc::SIGSEGV), "PYTHONFAULTHANDLER"),
        (Exit::Signal(nix::libc::SIGKILL), "scheduler"),
        (Exit::Code(1), "printed nothing"),
    ] {
        assert!(shown(failed(exit, &[])).contains(needle), "{exit}");
    }
    let said = shown(failed(Exit::Signal(nix::libc::SIGSEGV), &["Fatal Python error: x"]));
    assert!(!said.contains("hint:"), "{said}");
}

#[test]
fn an_oom_kill_is_named_only_with_its_evidence() {
    let mut report = failed(Exit::Signal(nix::libc::SIGKILL), &["x"]);
    assert!(!shown(report.clone()).contains("ran out of memory"));
    let line = "Out of memory: Killed process 4242 (python3)".to_owned();
    report.failure.as_mut().unwrap().oom = Some(Oom::Logged { line });
    let text = shown(report);
    assert!(text.contains("ran out of memory"), "{text}");
    assert!(text.contains("kernel log: Out of memory: Killed process 4242"), "{text}");
}

#[test]
fn what_preflight_saw_is_said_where_the_job_failed() {
    let found = |code: &'static str, severity, summary: &str| Found {
        code: Code::new(code),
        severity,
        summary: summary.to_owned(),
    };
    let preflight = Preflight {
        verdict: Verdict::Degraded,
        backend: "nccl".to_owned(),
        compat: None,
        is_for_cuda: true,
        findings: vec![
            found("NVL008", Severity::Note, "a note"),
            found("NVL049", Severity::Warning, "persistence mode is off"),
            found("NVL073", Severity::Warning, "/dev/shm has 64 MiB"),
        ],
    };
    let with = |stderr: &[&str]| {
        let report = failed(Exit::Code(1), stderr);
        shown(Report { preflight: Some(preflight.clone()), ..report })
    };
    let hints = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.starts_with("hint: ")).map(str::to_owned).collect()
    };
    let before = |code: &str, what: &str| {
        format!(
            "hint: before the job preflight found {code}: {what}; `nvlaunch explain {code}` says more"
        )
    };
    assert_eq!(hints(&with(&["boom"])), [before("NVL049", "persistence mode is off")]);
    // The last words choose among what was found.
    let shm = "RuntimeError: unable to write: insufficient shared memory (shm)";
    assert_eq!(hints(&with(&[shm])), [before("NVL073", "/dev/shm has 64 MiB")]);
    // They point to something that was not found.
    let said = hints(&with(&["nvmlInit_v2() failed: Driver/library version mismatch"]));
    assert!(said[0].starts_with("hint: the rank's last words are those of NVL001: "), "{said:?}");
    assert_eq!(said[1..], [before("NVL049", "persistence mode is off")]);
    let without = hints(&shown(failed(Exit::Code(1), &[shm])));
    assert_eq!(without.len(), 1);
    // Where there is no such device, no driver of it is missing.
    let no_cuda =
        Preflight { is_for_cuda: false, findings: Vec::new(), compat: None, ..preflight.clone() };
    let on_cpu = |line: &str| {
        let report = failed(Exit::Code(1), &[line]);
        hints(&shown(Report { preflight: Some(no_cuda.clone()), ..report }))
    };
    let said = on_cpu("RuntimeError: Found no NVIDIA driver on your system. Please check");
    assert!(said.len() == 1 && said[0].contains("last words are those of NVL063: "), "{said:?}");
    assert_eq!(on_cpu("AssertionError: Torch not compiled with CUDA enabled"), [""; 0]);
    // A run that ended well says nothing of it.
    let well = Report { preflight: Some(preflight.clone()), ..quiet(Outcome::Completed) };
    assert_eq!(shown(well), "");
}

#[test]
fn what_a_stop_says() {
    let asked = AskedBy {
        signal: "SIGTERM".to_owned(),
        pid: Some(812),
        name: Some("slurmstepd".to_owned()),
        at: 12.0,
    };
    let report = Report {
        asked: vec![asked],
        others: vec![other(0, "exit code 0 after nvlaunch's SIGTERM", 1.0)],
        ..quiet(Outcome::Stopped { signal: nix::libc::SIGTERM })
    };
    assert_eq!(report.exit_code, 143);
    insta::assert_snapshot!(shown(report), @"
    nvlaunch: ended by SIGTERM (from slurmstepd, pid 812) after 12.3 s
      then rank 0: exit code 0 after nvlaunch's SIGTERM, 1.0 s later
    ");
}

#[test]
fn what_is_stuck_is_named() {
    let waits_in = Some("nvidia_close".to_owned());
    let report = Report {
        stuck: vec![Stuck { rank: 2, pid: 77, state: 'D', waits_in }],
        ..quiet(Outcome::Stuck { ranks: vec![2], leftovers: 1 })
    };
    assert_eq!(report.exit_code, exit_code::STUCK);
    insta::assert_snapshot!(shown(report), @"
    nvlaunch: the job did not end
    nvlaunch: stuck: rank 2 (pid 77) did not end after SIGKILL: state D in nvidia_close
    nvlaunch: stuck: 1 other process did not end
    hint: a process in state D waits inside the kernel, most often for a device driver or a network file system: no signal ends it; see `dmesg`
    ");
}

#[test]
fn what_cannot_start_says_so_once() {
    let reason = "Exec format error (os error 8)".to_owned();
    let report = quiet(Outcome::CannotStart { rank: 0, reason, exec: true });
    insta::assert_snapshot!(shown(report), @"
    nvlaunch: rank 0 cannot execute `/usr/bin/python3`: Exec format error (os error 8)
    hint: is the program made for this machine, and does its first line name an interpreter that exists?
    ");
}

#[test]
fn leftovers_and_losses_are_said_after_a_good_end_too() {
    let slow = Amount { lines: 12, bytes: 1200 };
    let stdout = ConsoleLoss { slow, ..ConsoleLoss::default() };
    let report = Report {
        leftovers: vec![
            leftover(5, Some(0), "python upload.py"),
            leftover(6, None, &"x".repeat(100)),
        ],
        losses: Some(Losses { stdout, events: 1, ..Losses::default() }),
        ..quiet(Outcome::Completed)
    };
    insta::assert_snapshot!(shown(report), @"
    nvlaunch: 2 leftover processes were ended:
        pid 5 of rank 0, SIGTERM: python upload.py
        pid 6, SIGTERM: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
      12 lines (1200 bytes) not shown on stdout: it was too slow
      1 line is missing in events.jsonl
    ");
}

#[test]
fn the_exit_code_follows_from_the_outcome_alone() {
    let reason = || "x".to_owned();
    for (outcome, code) in [
        (Outcome::Completed, 0),
        (Outcome::Failed { rank: 0, exit: Exit::Code(3) }, 3),
        (Outcome::Failed { rank: 0, exit: Exit::Signal(9) }, 137),
        (Outcome::Stopped { signal: 2 }, 130),
        (Outcome::CannotStart { rank: 0, reason: reason(), exec: true }, 126),
        (Outcome::CannotStart { rank: 0, reason: reason(), exec: false }, 71),
        (Outcome::Stuck { ranks: vec![0], leftovers: 0 }, 74),
    ] {
        assert_eq!(exit_code(&outcome), code, "{outcome:?}");
    }
}

#[test]
fn how_long_warm_ranks_took_stands_beside_a_failure_and_nowhere_else() {
    let times = WarmTimes { attempt: 0, fork_to_script: vec![Some(0.012), None, Some(0.034)] };
    let well = Report { warm: vec![times.clone()], ..quiet(Outcome::Completed) };
    assert_eq!(text::render(&well, true), "");
    let outcome = Outcome::Stopped { signal: 15 };
    let stopped = Report { warm: vec![times], outcome, ..quiet(Outcome::Completed) };
    let text = text::render(&stopped, true);
    assert!(text.contains("  warm start: 12 ms to 34 ms from fork to script\n"), "{text}");
}
