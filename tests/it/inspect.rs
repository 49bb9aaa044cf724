//! `nvlaunch checkpoint inspect` as a user meets it, on folders that torch wrote.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use nix::unistd::Uid;
use serde_json::Value;

use crate::harness::{End, Job, nvlaunch, venv};

const HOUR: Duration = Duration::from_secs(3600);

fn inspect() -> Job {
    Job::new().args(["checkpoint", "inspect"])
}

/// A small checkpoint folder of each layout, by its name, with steps 10 and 20.
fn make(into: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scripts/make_checkpoints.py");
    let made = Command::new(venv("python")).arg(script).arg(into).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A file or folder and all below it, as if written half an hour before that many hours.
fn written(path: &Path, hours: u32) {
    for entry in fs::read_dir(path).into_iter().flatten() {
        written(&entry.unwrap().path(), hours);
    }
    let at = SystemTime::now() - HOUR * hours - HOUR / 2;
    File::open(path).unwrap().set_modified(at).unwrap();
}

/// What was printed, and the exit code.
fn shown(end: &End) -> String {
    let folder = end.dir.path().display().to_string();
    let text = format!("{}{}[{}]", end.stdout, end.stderr, end.code.unwrap());
    text.replace(&folder, "[folder]")
}

fn is_narrow(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "`{line}` is too long");
    }
}

#[test]
fn what_is_whole_and_what_would_be_used() {
    let job = inspect();
    let dir = job.dir.path().to_owned();
    make(&dir);
    let runs = dir.join("runs");
    fs::rename(dir.join("deepspeed ZeRO 3"), &runs).unwrap();
    let broken = runs.join("global_step20");
    let shard = broken.join("zero_pp_rank_1_mp_rank_00_optim_states.pt");
    let size = fs::metadata(&shard).unwrap().len();
    File::options().write(true).open(&shard).unwrap().set_len(size - 1).unwrap();
    written(&broken, 3);
    written(&runs.join("global_step10"), 5);
    let end = job.arg("runs").run();
    is_narrow(&end.stdout);
    insta::assert_snapshot!(shown(&end), @"
    checkpoints of deepspeed in runs, newest first

        name           step     size  age  verdict
        global_step20    20  264 KiB  3 h  broken
            zero_pp_rank_1_mp_rank_00_optim_states.pt has no end record: it was cut
              off
      > global_step10    10  264 KiB  5 h  whole

    latest names global_step20, which is not whole.
    Ranks would resume from global_step10 (step 10): it is the newest that is whole;
    1 newer one is not.
    [0]
    ");

    // The same for programs.
    let json = |dir: &Path, words: &[&str]| {
        let job = Job::new().args(["checkpoint", "inspect", "--json"]).args(words);
        let end = job.with(|command| _ = command.current_dir(dir)).run();
        (end.code, serde_json::from_str::<Value>(&end.stdout).expect("it is JSON"))
    };
    let (code, value) = json(&dir, &["runs"]);
    assert_eq!((code, &value["version"], &value["chosen"]), (Some(0), &1.into(), &1.into()));
    assert_eq!(value["candidates"][0]["verdict"], "broken", "{value}");
    let flaw = &value["candidates"][0]["because"][0];
    assert_eq!(flaw["file"], "zero_pp_rank_1_mp_rank_00_optim_states.pt", "{value}");
    assert_eq!(value["pointer"]["candidate"], 0, "{value}");

    // Every layout is found by itself, and its newest is chosen; weights alone never.
    for (folder, layout) in [
        ("dcp", "dcp"),
        ("hf", "hf"),
        ("accelerate", "accelerate"),
        ("lightning file", "lightning"),
        ("megatron", "megatron"),
        ("nemo folder", "nemo"),
        ("mmengine", "mmengine"),
        ("composer file", "composer"),
        ("files", "files"),
    ] {
        let (code, value) = json(&dir, &[folder]);
        assert_eq!((code, &value["chosen"]), (Some(0), &0.into()), "{value}");
        assert_eq!(value["layout"], layout, "{value}");
    }
    // What was asked for is not there, and something else is; a checkpoint is no folder of them.
    for (words, hint) in [
        (&["runs", "--layout", "hf"][..], "Without --layout those of deepspeed are found."),
        (&["runs/global_step10"], "It is a checkpoint itself"),
    ] {
        let (code, value) = json(&dir, words);
        assert_eq!((code, &value["chosen"]), (Some(1), &Value::Null), "{value}");
        let said = value["words"][1].as_str().unwrap_or_default();
        assert!(said.starts_with(hint), "{value}");
    }
    // Nothing whole is left.
    fs::write(runs.join("global_step10/zero_pp_rank_0_mp_rank_00_model_states.pt"), "").unwrap();
    let (code, value) = json(&dir, &["runs"]);
    assert_eq!((code, &value["chosen"]), (Some(1), &Value::Null), "{value}");
}

#[test]
fn what_is_wrong_is_said() {
    let mut said = String::new();
    for words in [
        &["checkpoint"][..],
        &["checkpoint", "inspekt", "here"],
        &["checkpoint", "runs/here"],
        &["checkpoint", "inspect"],
        &["checkpoint", "inspect", "here", "there"],
        &["checkpoint", "inspect", "here", "--jso"],
        &["checkpoint", "inspect", "here", "--layout", "deepsped"],
        &["checkpoint", "inspect", "here", "--pattern", "x.pt"],
        &["checkpoint", "inspect", "here", "--world-size", "0"],
        &["checkpoint", "inspect", "here", "--timeout", "soon"],
        &["checkpoint", "inspect", "/nowhere/at/all"],
        &["checkpoint", "inspect", "here/and/there"],
        &["checkpoint", "inspect", "a.pt"],
        &["checkpoint", "inspect", "here"],
        &["checkpoint", "inspect", "here", "--timeout", "0s"],
        &["help", "checkpoint"],
    ] {
        let job = Job::new().file("a.pt", "");
        fs::create_dir(job.dir.path().join("here")).unwrap();
        let end = job.args(words).run();
        is_narrow(&end.stdout);
        writeln!(said, "$ nvlaunch {}\n{}", words.join(" "), shown(&end)).unwrap();
    }
    insta::assert_snapshot!(said);
}

#[test]
fn what_may_not_be_read_is_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mode =
        |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    make(dir);
    mode(dir, 0o755);
    let folder = dir.join("deepspeed ZeRO 3");
    mode(&folder.join("global_step20"), 0);
    let locked = dir.join("locked");
    fs::create_dir(&locked).unwrap();
    mode(&locked, 0);
    let is_root = Uid::effective().is_root();
    if is_root && Command::new("setpriv").arg("--version").output().is_err() {
        println!("skipped: root may read everything, and there is no setpriv");
        return;
    }
    // Another user may not come to the program itself.
    let program = dir.join("program");
    fs::copy(nvlaunch(), &program).unwrap();
    let run = |folder: &Path| {
        let words = ["checkpoint", "inspect"];
        let job = if is_root {
            let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
            Job::of("setpriv").args(user).arg(&program)
        } else {
            Job::of(&program)
        };
        job.args(words).arg(folder).run()
    };
    let end = run(&folder);
    assert_eq!(end.code, Some(69), "{}", shown(&end));
    // The line breaks follow from the folder's length.
    let words = end.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("unknown cannot be read: Permission denied"), "{words}");
    assert!(words.contains("a launch would not start: what is older"), "{words}");
    assert!(!words.contains("would resume"), "{words}");
    let end = run(&locked);
    assert_eq!(end.code, Some(66), "{}", shown(&end));
    assert!(end.stderr.contains("cannot be read: Permission denied"), "{}", end.stderr);
    mode(&folder.join("global_step20"), 0o755);
    mode(&locked, 0o755);
}

#[test]
fn thousands_of_files_and_terabytes_are_looked_at_and_not_read() {
    let job = Job::of("sh");
    let dir = job.dir.path().to_owned();
    make(&dir);
    let many = dir.join("many");
    fs::create_dir(&many).unwrap();
    let whole = dir.join("files/step_20.pt");
    for step in 1..=9_990 {
        fs::hard_link(&whole, many.join(format!("step_{step}.pt"))).unwrap();
    }
    let bytes = fs::read(&whole).unwrap();
    for step in 9_991..=10_000 {
        fs::write(many.join(format!("step_{step}.pt")), &bytes[..100]).unwrap();
    }
    // It has no end record, and nobody reads on to see.
    let huge = File::create(many.join("step_10001.pt")).unwrap();
    let (two, tib) = (2, 1u64 << 40);
    if let Err(error) = huge.set_len(two * tib) {
        println!("no file of 2 TiB can be made here: {error}");
    }
    let began = Instant::now();
    let end =
        Job::new().args(["checkpoint", "inspect"]).arg(&many).run_within(Duration::from_secs(120));
    println!("10,001 files in {:?}", began.elapsed());
    assert_eq!(end.code, Some(0), "{}", end.stderr);
    let ends = "Ranks would resume from step_9990.pt (step 9,990): it is the newest that is\n\
                whole; 11 newer ones are not.\n";
    assert!(end.stdout.ends_with(ends), "{}", &end.stdout[end.stdout.len() - 300..]);
    assert_eq!(end.stdout.lines().filter(|line| line.ends_with("  whole")).count(), 9_990);
    // A reader that leaves early is no error.
    let line = format!("set -e; '{}' checkpoint inspect many | head -n 1", nvlaunch().display());
    let end = job.args(["-c", &line]).run_within(Duration::from_secs(120));
    assert_eq!((end.code, &*end.stderr), (Some(0), ""));
    assert_eq!(end.stdout, "checkpoints of files in many, newest first\n");
}
