//! What ranks resume from, after a failure and at the start, with a job that saves without torch.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::harness::{End, Job, Running, SOON, nvlaunch};

/// A job whose ranks do what `plan` says; see `scripts/trainer.py`.
pub fn job(plan: &str, options: &[&str]) -> Job {
    let job = Job::new()
        .file("script.py", include_str!("scripts/trainer.py"))
        .env("DO", plan)
        .args(["--nproc", "2", "--json-report", "report.json", "--log-dir", "logs"])
        .args(options)
        .args(["script.py", "--lr", "1"]);
    std::fs::create_dir(job.dir.path().join("ckpt")).expect("a folder for checkpoints");
    job
}

/// Where it saves, and no wait between attempts.
pub const SAVES: &[&str] = &[
    "--checkpoint-dir",
    "ckpt",
    "--checkpoint-layout",
    "files",
    "--checkpoint-pattern",
    "step_{step}.pt",
    "--restart-backoff",
    "0s",
];

/// [`SAVES`] and more.
pub fn saves<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [SAVES, more].concat()
}

/// What a rank of an attempt saw.
pub fn seen(end: &End, attempt: u32, rank: u32) -> Value {
    let text = std::fs::read(end.path(&format!("seen/{attempt}-{rank}.json")));
    let text = text.unwrap_or_else(|error| panic!("attempt {attempt}: {error}\n{}", end.stderr));
    serde_json::from_slice(&text).expect("JSON")
}

/// What all ranks of an attempt resumed from: the file's name, where there is one.
pub fn resumed(end: &End, attempt: u32) -> Option<String> {
    let [first, second] = [0, 1].map(|rank| seen(end, attempt, rank));
    assert_eq!(first["env"], second["env"], "every rank gets the same one");
    assert_eq!(first["args"], second["args"]);
    let path = first["env"]["NVLAUNCH_RESUME_FROM"].as_str()?;
    let path = Path::new(path);
    assert!(path.is_absolute(), "{}", path.display());
    Some(path.file_name().expect("a name").to_str().expect("text").to_owned())
}

/// The only run folder below `logs`.
pub fn run_folder(dir: &Path) -> Option<PathBuf> {
    let mut entries = std::fs::read_dir(dir.join("logs")).ok()?;
    Some(entries.next()?.ok()?.path())
}

/// Waits until the record of a run has these words.
pub fn wait_for_record(job: &Running, words: &str) {
    crate::harness::wait_until(words, SOON, || {
        let record = run_folder(job.dir.path()).map(|folder| folder.join("events.jsonl"));
        record
            .and_then(|file| std::fs::read_to_string(file).ok())
            .is_some_and(|t| t.contains(words))
    });
}

/// `nvlaunch replay` takes the same decisions.
pub fn assert_replays(end: &End) {
    let record = run_folder(end.dir.path()).expect("a run folder").join("events.jsonl");
    let output = std::process::Command::new(nvlaunch()).arg("replay").arg(record).output();
    let output = output.expect("nvlaunch starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("every decision as recorded"), "{text}");
}

/// A checkpoint as the script writes it, or half of one; so many seconds old.
fn put(job: &Job, step: u32, is_whole: bool, age: u64) {
    const SAVE: &str = "import sys, zipfile, os
file = zipfile.ZipFile(sys.argv[1], 'w')
file.writestr('archive/data.pkl', b'\\x80\\x02}q\\x00.')
file.writestr('archive/byteorder', b'little')
file.writestr('archive/data/0', bytes(64))
file.writestr('archive/version', b'3\\n')
file.close()
";
    let path = job.dir.path().join(format!("ckpt/step_{step}.pt"));
    let made = std::process::Command::new(crate::harness::venv("python"))
        .args(["-c", SAVE])
        .arg(&path)
        .status();
    assert!(made.expect("python starts").success());
    let file = std::fs::File::options().write(true).open(&path).expect("the checkpoint");
    if !is_whole {
        let size = file.metadata().expect("its size").len();
        file.set_len(size - 30).expect("it is cut");
    }
    let time = SystemTime::now() - Duration::from_secs(age);
    file.set_modified(time).expect("its age");
}

fn names(end: &End) -> Vec<String> {
    let entries = std::fs::read_dir(end.path("ckpt")).expect("the folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("an entry").file_name().into_string().expect("text")
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

#[test]
pub fn each_attempt_resumes_from_the_newest_whole_checkpoint_and_the_first_from_nothing() {
    let plan = "save=10 kill; save=20 torn=30 exit=3; save=40 exit=0";
    let resume = ["--max-restarts", "3", "--resume-arg", "--resume {path} --at={step}"];
    let end = job(plan, &saves(&resume))
        .env("NVLAUNCH_RESUME_FROM", "/outer")
        .env("NVLAUNCH_RESUME_STEP", "7")
        .run_within(SOON * 2)
        .expect_code(0);
    assert_eq!(resumed(&end, 0), None, "nothing of an outer run is left");
    assert_eq!(seen(&end, 0, 0)["args"], serde_json::json!(["--lr", "1"]));
    assert_eq!(resumed(&end, 1).as_deref(), Some("step_10.pt"));
    assert_eq!(resumed(&end, 2).as_deref(), Some("step_20.pt"));
    let last = seen(&end, 2, 1);
    assert_eq!(last["env"]["NVLAUNCH_RESUME_STEP"], "20");
    let path = last["env"]["NVLAUNCH_RESUME_FROM"].as_str().expect("a path");
    assert_eq!(last["args"], serde_json::json!(["--lr", "1", "--resume", path, "--at=20"]));
    let passed = "nvlaunch: note: checkpoint step_30.pt is not whole: ";
    assert!(end.stderr.contains(passed), "{}", end.stderr);
    assert!(end.stderr.contains("step_20.pt (step 20)"), "{}", end.stderr);
    assert!(end.stderr.contains("restart 1 of 3 since step 20"), "{}", end.stderr);
    let folder = run_folder(end.dir.path()).expect("a run folder");
    let receipt: Value =
        serde_json::from_slice(&std::fs::read(folder.join("resume-2.json")).expect("a receipt"))
            .expect("JSON");
    assert_eq!((&receipt["step"], &receipt["layout"]), (&20.into(), &"files".into()));
    assert_eq!(receipt["arguments"][0], "--resume");
    assert!(receipt["bytes"].as_u64() > Some(100), "{receipt}");
    let over = receipt["passed_over"][0]["path"].as_str().expect("a path");
    assert!(over.ends_with("step_30.pt"), "{over}");
    let report = crate::doubles::report(&end);
    assert_eq!(report["resumed_from"]["step"], 20);
    assert_eq!(report["past"][1]["resumed_from"]["step"], 10);
    assert_replays(&end);
}

#[test]
pub fn warm_ranks_are_told_the_same_as_cold_ones() {
    crate::harness::warm("json", || {
        let resume = ["--max-restarts", "1", "--resume-arg", "--resume={path}"];
        let end = job("save=10 kill; save=20 exit=0", &saves(&resume))
            .run_within(SOON * 2)
            .expect_code(0);
        assert_eq!(resumed(&end, 0), None);
        assert_eq!(resumed(&end, 1).as_deref(), Some("step_10.pt"));
        let last = seen(&end, 1, 0);
        let path = last["env"]["NVLAUNCH_RESUME_FROM"].as_str().expect("a path");
        assert_eq!(last["args"][2], format!("--resume={path}"));
    });
}

#[test]
fn a_broken_newer_one_is_put_aside_where_that_is_asked_for_and_nothing_else_is() {
    for quarantine in [false, true] {
        let options = if quarantine { saves(&["--quarantine"]) } else { saves(&[]) };
        let job = job("save=40 exit=0", &options);
        put(&job, 10, true, 3600);
        put(&job, 20, false, 3600);
        put(&job, 30, false, 20);
        put(&job, 5, false, 3600);
        let end = job.run().expect_code(0);
        assert_eq!(resumed(&end, 0).as_deref(), Some("step_10.pt"));
        let aside = ".nvlaunch-quarantine~1~step~20~pt~aside";
        let expected: &[&str] = if quarantine {
            // The one that another job may be writing stays, and so does what is older.
            &[aside, "step_10.pt", "step_30.pt", "step_40.pt", "step_5.pt"]
        } else {
            &["step_10.pt", "step_20.pt", "step_30.pt", "step_40.pt", "step_5.pt"]
        };
        assert_eq!(names(&end), expected, "{}", end.stderr);
        assert_eq!(end.stderr.contains(aside), quarantine, "{}", end.stderr);
        assert_eq!(end.stderr.contains("perhaps by another job"), quarantine, "{}", end.stderr);
    }
}

#[test]
fn nothing_is_passed_where_nothing_is_whole() {
    let job = job("save=40 exit=0", &saves(&["--resume-arg", "--resume {path}"]));
    put(&job, 10, false, 3600);
    let end = job.run().expect_code(0);
    assert_eq!(resumed(&end, 0), None);
    assert_eq!(seen(&end, 0, 0)["args"], serde_json::json!(["--lr", "1"]));
    assert!(end.stderr.contains("starting from the beginning"), "{}", end.stderr);
}

#[test]
fn what_was_removed_while_the_job_waited_is_not_passed() {
    let mut options = saves(&["--max-restarts", "1"]);
    options.extend(["--restart-backoff", "1s"]);
    let mut job = job("save=10 save=20 kill; save=30 exit=0", &options).start();
    job.stderr_line("restart 1 of 1");
    std::fs::remove_file(job.dir.path().join("ckpt/step_20.pt")).expect("it was saved");
    let end = job.end_within(SOON).expect_code(0);
    assert_eq!(resumed(&end, 1).as_deref(), Some("step_10.pt"));
}

#[test]
fn what_is_being_written_at_the_start_is_waited_for_and_what_goes_meanwhile_is_not_passed() {
    let job = job("save=30 exit=0", &saves(&[]));
    put(&job, 10, true, 3600);
    put(&job, 20, true, 0);
    let job = job.start();
    wait_for_record(&job, "\"prepare\"");
    let _ = std::fs::remove_file(job.dir.path().join("ckpt/step_20.pt"));
    let end = job.end_within(SOON).expect_code(0);
    assert_eq!(resumed(&end, 0).as_deref(), Some("step_10.pt"), "{}", end.stderr);
}

#[test]
fn a_folder_that_does_not_answer_in_time_is_said_and_nothing_is_started() {
    let profile = "version: 1\ncheckpoint:\n  dir: ckpt\n  deadline: 1ns\n";
    let job = job("exit=0", &["--profile", "slow.yaml"]).file("slow.yaml", profile);
    put(&job, 10, true, 3600);
    let end = job.run().expect_code(69);
    assert!(end.stderr.contains("nvlaunch: no rank was started: the checkpoint folder"));
    assert!(end.stderr.contains("in time"), "{}", end.stderr);
    assert!(!end.path("seen").exists());
    assert_eq!(crate::doubles::report(&end)["exit_code"], 69);
}

#[test]
fn a_success_without_a_new_checkpoint_is_suspicious() {
    let job = job("exit=0", &saves(&[]));
    put(&job, 10, true, 3600);
    let end = job.run().expect_code(0);
    let warning = "nvlaunch: warning: every rank ended with 0, but nothing newer was saved than \
                   step_10.pt, which was there before\n";
    assert!(end.stderr.contains(warning), "{}", end.stderr);
    assert!(crate::doubles::report(&end)["suspicious"].is_string());
    // With a new one there is nothing to say.
    let end = job_that_saves().run().expect_code(0);
    assert!(!end.stderr.contains("warning"), "{}", end.stderr);
    assert_eq!(crate::doubles::report(&end)["suspicious"], Value::Null);
}

/// Only what the last attempt did says whether it went on.
#[test]
fn a_success_after_a_restart_is_suspicious_where_that_attempt_did_nothing() {
    let restarts = ["--max-restarts", "1"];
    let end = job("save=10 kill; exit=0", &saves(&restarts)).run_within(SOON * 2).expect_code(0);
    let why = "nothing newer was saved than step_10.pt, which was there before";
    assert!(end.stderr.contains(why), "{}", end.stderr);
    assert!(crate::doubles::report(&end)["suspicious"].is_string());
    // The step that an attempt lost again was not reached.
    let expects = saves(&["--max-restarts", "1", "--expect-step", "30"]);
    let end = job("save=10 step=30 kill; exit=0", &expects).run_within(SOON * 2).expect_code(0);
    let why = "step 30 was not reached: the newest whole checkpoint is of step 10";
    assert!(end.stderr.contains(why), "{}", end.stderr);
    // One that was saved needs nothing more, and what the last attempt says counts.
    for plan in ["save=30 kill; exit=0", "save=10 kill; step=30 exit=0"] {
        let end = job(plan, &expects).run_within(SOON * 2).expect_code(0);
        assert!(!end.stderr.contains("warning"), "{plan}: {}", end.stderr);
    }
}

fn job_that_saves() -> Job {
    job("save=10 exit=0", &saves(&[]))
}

#[test]
fn a_success_short_of_the_expected_step_is_a_failure_where_that_is_asked_for() {
    let fail = ["--expect-step", "20", "--on-suspicious-success", "fail"];
    let end = job(
        "save=10 exit=0; save=20 exit=0",
        &saves(&[&fail[..], &["--max-restarts", "1"]].concat()),
    )
    .run()
    .expect_code(0);
    assert_eq!(resumed(&end, 1).as_deref(), Some("step_10.pt"));
    assert_eq!(crate::doubles::report(&end)["past"][0]["rank"], Value::Null);
    let end = job("save=10 exit=0", &saves(&fail)).run().expect_code(65);
    let words = "step 20 was not reached: the newest whole checkpoint is of step 10";
    assert!(end.stderr.contains(words), "{}", end.stderr);
    // A script that says how far it is needs no checkpoint.
    let end = job("step=20 exit=0", &fail).run().expect_code(0);
    assert!(!end.stderr.contains("not reached"), "{}", end.stderr);
    let end = job("step=19 exit=0", &fail).run().expect_code(65);
    assert!(end.stderr.contains("the last one reported is 19"), "{}", end.stderr);
}

/// The thread of nvlaunch that looks at checkpoints.
fn looking_thread(nvlaunch: i32) -> i32 {
    let threads = std::fs::read_dir(format!("/proc/{nvlaunch}/task")).expect("its threads");
    let mut ids = threads.map(|entry| entry.expect("a thread").file_name());
    let is_it = |id: &std::ffi::OsString| {
        let name = Path::new("/proc").join(nvlaunch.to_string()).join("task").join(id).join("comm");
        std::fs::read_to_string(name).is_ok_and(|name| name.trim() == "checkpoints")
    };
    let id = ids.find(is_it).expect("a thread of that name");
    id.to_str().and_then(|id| id.parse().ok()).expect("a number")
}

/// No file system here can be made to hang; a thread that a debugger has stopped is the same to the
/// others.
#[test]
fn a_look_that_hangs_holds_nobody_and_the_next_one_is_made_by_another_thread() {
    let profile = "version: 1\ncheckpoint:\n  dir: ckpt\n  layout: files\n  deadline: 1s\n";
    let options = ["--profile", "slow.yaml", "--max-restarts", "1", "--restart-backoff", "0s"];
    let job = job("save=10 gate kill; save=20 exit=0", &options).file("slow.yaml", profile);
    let mut job = job.start();
    crate::harness::wait_until("both ranks run", SOON, || {
        ["0-0", "0-1"].iter().all(|n| job.dir.path().join(format!("seen/{n}.json")).exists())
    });
    let thread = looking_thread(job.pid()).to_string();
    let freeze = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scripts/freeze.py");
    let mut freezer =
        Job::python().arg(freeze).arg(thread).stdin(std::process::Stdio::piped()).start();
    let line = freezer.stdout_line("");
    if line.starts_with("cannot") {
        println!("skipped: a thread cannot be stopped here: {line}");
        std::fs::write(job.dir.path().join("seen/go"), "").expect("a file");
        job.end_within(SOON).expect_code(0);
        return;
    }
    std::fs::write(job.dir.path().join("seen/go"), "").expect("a file");
    let line = job.stderr_line("how far the job came is not known");
    assert!(line.contains("/ckpt did not answer within 1s"), "{line}");
    // A process ends only when nobody holds its threads.
    freezer.close_stdin();
    let end = job.end_within(SOON).expect_code(0);
    freezer.end_within(SOON).expect_code(0);
    assert_eq!(resumed(&end, 1).as_deref(), Some("step_10.pt"));
    assert_replays(&end);
}
