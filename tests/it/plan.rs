//! `nvlaunch plan` and `--dry-run`: what a launch would do is said, and nothing of it is done.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{End, Job, nvlaunch};
use crate::hosts::corpus;

fn root(host: &str) -> PathBuf {
    corpus().join(host).join("root")
}

/// A plan for a machine of the corpus; what the machine of the tests has is not looked at.
fn planned(host: &str, words: &[&str]) -> Job {
    let job = Job::new().file("train.py", "open('ran', 'w').close()");
    job.arg("plan").arg("--sysroot").arg(root(host)).args(words)
}

/// Everything that was said, without what differs between machines of the tests.
fn said(end: &End) -> String {
    let text = format!(
        "exit code: {}\n--- stdout\n{}--- stderr\n{}",
        end.code.unwrap_or(-1),
        end.stdout,
        end.stderr
    );
    text.replace(env!("CARGO_PKG_VERSION"), "[version]")
        .replace(&end.dir.path().display().to_string(), "DIR")
        .replace(&corpus().display().to_string(), "HOSTS")
}

fn nothing_was_done(end: &End) {
    assert!(!end.path("ran").exists(), "a rank was started");
    assert!(end.left_in_tmp().is_empty(), "{:?}", end.left_in_tmp());
}

/// Lines that are wider, although they could be broken.
fn too_wide(text: &str) -> Vec<&str> {
    let is_too_wide = |line: &&str| {
        let start = line.len() - line.trim_start().len();
        line.chars().count() > 80 && line[start..].contains(' ')
    };
    text.lines().filter(is_too_wide).collect()
}

#[test]
fn plans_of_machines() {
    let gcu = planned("healthy-gcu-t20", &["--nproc", "auto", "train.py", "--lr", "1e-3"]);
    let h200 = planned("healthy-h200-nvswitch", &["--nproc", "gpu", "--rdzv-id", "j7", "train.py"]);
    let h200 = h200.env("NCCL_DEBUG", "INFO").env("RANK", "3");
    let cpu = planned("healthy-ci-container", &["--nproc", "2", "-m", "pkg.mod", "$local_rank"]);
    let sick = planned("nouveau-bound", &["--nproc", "2", "train.py"]);
    for (name, code, job) in
        [("gcu", 0, gcu), ("h200", 0, h200), ("cpu", 0, cpu), ("sick", 69, sick)]
    {
        let end = job.run().expect_code(code);
        nothing_was_done(&end);
        assert_eq!(too_wide(&end.stdout), Vec::<&str>::new(), "{name}");
        insta::assert_snapshot!(format!("plan_of_{name}"), said(&end));
    }
}

/// Programs read it: a change here is a change for each of them.
#[test]
fn the_json_of_a_plan() {
    let words = ["--json", "--nproc", "2", "--master-port", "29500", "train.py", "--token", "abc"];
    let end = planned("healthy-ci-container", &words).run().expect_code(0);
    nothing_was_done(&end);
    insta::assert_snapshot!("json_of_a_plan", said(&end));
    let plan: Value = serde_json::from_str(&end.stdout).expect("JSON");
    assert_eq!(plan["schema"], 1);
}

#[test]
fn a_refused_launch_is_planned_all_the_same() {
    let end = planned("nouveau-bound", &["--json", "--nproc", "2", "train.py"]).run();
    let plan: Value = serde_json::from_str(&end.expect_code(69).stdout).expect("JSON");
    assert_eq!(
        (&plan["starts"], &plan["preflight"]["verdict"]),
        (&false.into(), &"refused".into())
    );
    let forced = planned("nouveau-bound", &["--json", "--force", "--nproc", "2", "train.py"]).run();
    let plan: Value = serde_json::from_str(&forced.expect_code(0).stdout).expect("JSON");
    assert_eq!(plan["starts"], true);
    // What cannot be planned is said as the launch says it.
    let words = ["--nproc", "npu", "train.py"];
    let refused = planned("nouveau-bound", &words).run().expect_code(69);
    assert_eq!(refused.stdout, "");
    assert!(refused.stderr.starts_with("nvlaunch: preflight refuses"), "{}", refused.stderr);
}

#[test]
fn what_ends_a_launch_ends_a_plan_with_the_same_words() {
    for words in [
        &["trian.py"][..],
        &["--nproc", "npu", "train.py"],
        &["--nproc", "x", "train.py"],
        &["--python", "/nowhere/python", "train.py"],
        &["--nnodes", "2", "train.py"],
        &["--stdin", "7", "train.py"],
        &["--sysroot", "nowhere", "train.py"],
        &["--no-python", "no-such-program"],
        &["--bogus", "train.py"],
    ] {
        let job = || Job::new().file("train.py", "open('ran', 'w').close()");
        let launch = job().args(words).run();
        let plan = job().arg("plan").args(words).run();
        let dry = job().arg("--dry-run").args(words).run();
        assert!(launch.code > Some(0), "{words:?}");
        let told = |end: &End| (end.code, end.stdout.clone(), end.stderr.clone());
        let normal = |(code, out, err): (Option<i32>, String, String)| {
            // `plan --help` is another page.
            (code, out, err.replace("nvlaunch plan --help", "nvlaunch --help"))
        };
        assert_eq!(normal(told(&plan)), told(&launch), "{words:?}");
        assert_eq!(told(&dry), told(&launch), "{words:?}");
        nothing_was_done(&plan);
    }
}

#[test]
fn there_are_three_ways_to_ask() {
    let ask = |words: &[&str], variable: Option<&str>| {
        let job = Job::new().file("train.py", "open('ran', 'w').close()");
        let job = variable.iter().fold(job, |job, value| job.env("NVLAUNCH_DRY_RUN", value));
        let end = job.args(words).args(["--nproc", "2", "train.py", "--dry-run"]).run();
        let end = end.expect_code(0);
        let ran = end.path("ran").exists();
        (end.stdout, ran)
    };
    let (plan, ran) = ask(&["plan"], None);
    assert!(plan.starts_with("plan: 2 ranks, which a launch would start\n") && !ran, "{plan}");
    for (words, variable) in
        [(&["run", "--dry-run"][..], None), (&["--dry-run"], None), (&["run"], Some("1"))]
    {
        assert_eq!(ask(words, variable), (plan.clone(), false), "{words:?} {variable:?}");
    }
    // What stands behind the script is the script's.
    assert!(ask(&["run"], Some("0")).1);
}

#[test]
fn without_a_script_the_rest_is_planned() {
    let end = Job::new().args(["plan", "--nproc", "2"]).run().expect_code(0);
    assert!(end.stdout.contains(" -u SCRIPT\n"), "{}", end.stdout);
    let end = Job::new().args(["plan", "-m"]).run().expect_code(0);
    assert!(end.stdout.contains(" -u -m SCRIPT\n"), "{}", end.stdout);
    let end = Job::new().args(["plan", "--no-python"]).run().expect_code(2);
    assert!(end.stderr.contains("no script to run"), "{}", end.stderr);
}

#[test]
fn two_plans_are_the_same_byte_for_byte() {
    let job = Job::new().file("train.py", "");
    for words in [&["plan", "--nproc", "4", "train.py"][..], &["plan", "--json", "train.py"]] {
        let run = || {
            let mut command = std::process::Command::new(nvlaunch());
            command.current_dir(job.dir.path()).args(words).env("TORCH_TOKEN", "abc");
            command.output().expect("it runs").stdout
        };
        let first = run();
        assert!(first.len() > 1000);
        assert_eq!(String::from_utf8_lossy(&first), String::from_utf8_lossy(&run()));
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut child = std::process::Command::new(nvlaunch())
        .args(["plan", "--nproc", "800", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut first = [0; 16];
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut first).expect("it writes more than a pipe holds");
    drop(stdout);
    let end = child.wait_with_output().expect("it ends");
    assert_eq!((end.status.code(), &*end.stderr), (Some(0), &b""[..]));
}

/// The words of `--diff` against what another launch planned.
fn difference(before: Job, now: impl FnOnce(&Path) -> Job, code: i32) -> String {
    let before = before.run().expect_code(0);
    let file = before.path("before.json");
    fs::write(&file, &before.stdout).expect("a file in the test's folder");
    let end = now(&file).run().expect_code(code);
    nothing_was_done(&end);
    end.stdout.replace(&file.display().to_string(), "before.json")
}

#[test]
fn what_differs_is_said_in_words() {
    let host = "healthy-gcu-t20";
    let before = || {
        let job = planned(host, &["--json", "--nproc", "8", "train.py", "--password", "one"]);
        job.env("TORCH_TOKEN", "abc").env("ECCL_DEBUG", "INFO")
    };
    let same = |file: &Path| {
        let job = planned(host, &["--nproc", "8", "--diff"]).arg(file);
        let job = job.args(["train.py", "--password", "one"]);
        job.env("TORCH_TOKEN", "abc").env("ECCL_DEBUG", "INFO")
    };
    assert_eq!(difference(before(), same, 0), "the plan is that of before.json\n");
    let other = |file: &Path| {
        let job = planned("healthy-h200-nvswitch", &["--nproc", "4", "--diff"]).arg(file);
        let job = job.args(["--master-port", "29500", "train.py", "--password", "two"]);
        job.env("TORCH_TOKEN", "abd").env("NCCL_DEBUG", "INFO")
    };
    let text = difference(before(), other, 1);
    assert_eq!(too_wide(&text), Vec::<&str>::new());
    insta::assert_snapshot!("what_differs", text);
    let json = |file: &Path| {
        other(file).with(|command| {
            // Before the script.
            let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            let program = command.get_program().to_owned();
            let dir = command.get_current_dir().map(Path::to_owned).expect("a folder");
            let mut again = std::process::Command::new(program);
            again.current_dir(dir).arg("plan").arg("--json").args(&words[1..]);
            again.env_clear().env("PATH", "/usr/bin:/bin").env("TORCH_TOKEN", "abd");
            again.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            *command = again;
        })
    };
    let differences: Value =
        serde_json::from_str(&difference(before(), json, 1)).expect("it is JSON");
    assert_eq!(differences["same"], false);
    let list = differences["differences"].as_array().expect("a list");
    let secret = list.iter().find(|one| one["name"] == "TORCH_TOKEN").expect("it has changed");
    assert_eq!(secret["now"], "*** (your environment)");
}

#[test]
fn a_file_that_is_no_plan() {
    let mut said = String::new();
    for (file, text) in [
        ("missing.json", None),
        ("tmp", None),
        ("text", Some("plan: 2 ranks\n")),
        ("facts", Some(r#"{"hostname": "node1"}"#)),
        ("newer", Some(r#"{"schema": 9, "nvlaunch": "4.5.6"}"#)),
        ("half", Some(r#"{"schema": 1, "nvlaunch": "0.1.0"}"#)),
    ] {
        let job = Job::new().args(["plan", "--diff", file]);
        let job = text.iter().fold(job, |job, text| job.file(file, text));
        let end = job.run().expect_code(66);
        assert_eq!(end.stdout, "");
        said += &end.stderr;
    }
    insta::assert_snapshot!("a_file_that_is_no_plan", said);
}

#[test]
fn what_is_not_known_for_another_reason_is_said_by_itself() {
    let end = planned("healthy-gcu-t20", &["--nproc", "9", "train.py"]).run().expect_code(0);
    let lines: Vec<&str> =
        end.stdout.lines().filter(|line| line.starts_with("  not known: ")).collect();
    let [of_rank, of_place] = lines[..] else { panic!("{lines:?}") };
    assert_eq!(of_rank, "  not known: 8 Enflame GCUs are visible");
    assert!(of_place.contains("NUMA node of 0000:31:00.0 (7 more are"), "{of_place}");
}
