//! No secret in anything that nvlaunch prints or writes, however it got hold of it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::harness::{End, Job};

/// In every secret that is planted, and in nothing else.
const MARK: &str = "Zq7Xw";

/// Where people keep them: name and value.
fn variables() -> Vec<(String, String)> {
    let plain = [
        "HF_TOKEN",
        "WANDB_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "DB_PASSWORD",
        "SSH_PASSPHRASE",
        "GOOGLE_CREDENTIALS",
        "REGISTRY_AUTH",
        "OPENAI_KEY",
        // Those that preflight and the plan look at.
        "TORCH_API_KEY",
        "NCCL_AUTH_TOKEN",
        "PYTHON_PASSWORD",
        "NVIDIA_ACCESS_TOKEN",
    ];
    let odd = [
        ("TORCH_MIRROR", "https://me:{}@mirror/x"),
        ("NCCL_PROXY", "http://me:{}/slash@proxy:80"),
        ("UCX_NOTE", "see Authorization: Bearer {}"),
        ("CUDA_NOTE", "{\"api_key\": \"{}\"}"),
        ("TORCH_NOTE", "hf_{}abcdefghijklmnop123"),
        ("PIP_INDEX_URL", "https://{}@index/simple"),
        // An option, as a variable.
        ("NVLAUNCH_LOG_LINE_PREFIX_TEMPLATE", "token={} "),
    ];
    let plain = plain.iter().map(|name| ((*name).to_owned(), format!("{MARK}-{name}")));
    let odd = odd.iter().map(|(name, text)| ((*name).to_owned(), text.replace("{}", MARK)));
    plain.chain(odd).collect()
}

/// On the command line of the script.
fn arguments() -> Vec<String> {
    let texts = [
        "--hf-token=Zq7Xw",
        "--api-key",
        "Zq7Xw",
        "--wandb.password=Zq7Xw",
        "+logger.token=Zq7Xw",
        "https://user:Zq7Xw@host/path",
        "--data=s3://bucket?token=Zq7Xw&part=1",
        "--config={\"secret\": \"Zq7Xw\"}",
        "sk-Zq7Xwabcdefghijklmnop1",
    ];
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Fails with every line that gives one away.
fn look_for(what: &str, text: &str, found: &mut String) {
    for line in text.lines().filter(|line| line.contains(MARK)) {
        let _ = writeln!(found, "{what}: {line}");
    }
}

fn look_in_folder(folder: &Path, found: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            look_in_folder(&path, found);
        } else if let Ok(bytes) = fs::read(&path) {
            look_for(&path.display().to_string(), &String::from_utf8_lossy(&bytes), found);
        }
    }
}

fn planted() -> Job {
    let job = Job::new().env("NVLAUNCH_LOG", "trace");
    variables().iter().fold(job, |job, (name, value)| job.env(name, value))
}

/// A rank that starts a process that stays, with a secret in its command line, and fails with
/// one in its last words.
const RANK: &str = "
import os, subprocess, sys
mark = 'Zq7' + 'Xw'
stay = 'import time; time.sleep(600)'
subprocess.Popen([sys.executable, '-c', stay, '--token', mark], start_new_session=True)
print('cannot fetch https://me:' + mark + '@host/x', file=sys.stderr)
raise SystemExit(3)
";

#[test]
fn no_secret_is_in_anything_that_is_printed_or_written() {
    let mut found = String::new();
    let mut look = |what: &str, end: &End, code: i32| {
        let all = format!("exit code {:?}\n{}\n{}", end.code, end.stdout, end.stderr);
        assert_eq!(end.code, Some(code), "{what}: {all}");
        assert!(!all.contains("internal error"), "{what}: {all}");
        look_for(what, &all, &mut found);
        all
    };
    let script = |job: Job| job.file("train.py", RANK);
    let words =
        |job: Job, first: &[&str]| script(job).args(first).arg("train.py").args(arguments());

    let plan = words(planted(), &["plan", "--nproc", "2"]).run();
    let text = look("plan", &plan, 0);
    // Where a line ends depends on how long the paths of this machine are.
    let unfolded =
        text.split_whitespace().filter(|word| *word != "\\").collect::<Vec<_>>().join(" ");
    assert!(unfolded.contains("TORCH_API_KEY=***") && unfolded.contains("--api-key ***"), "{text}");
    look("dry run", &words(planted(), &["--dry-run", "--nproc", "2"]).run(), 0);
    let json = words(planted(), &["plan", "--json"]).run();
    look("plan --json", &json, 0);
    // Other secrets, all of them.
    let before = json.stdout.replace("\"hidden\": \"", "\"hidden\": \"other");
    for options in
        [&["plan", "--diff", "before.json"][..], &["plan", "--json", "--diff", "before.json"]]
    {
        let job = planted().file("before.json", &before);
        let text = look("plan --diff", &words(job, options).run(), 1);
        assert!(text.contains("is a secret, and has changed"), "{text}");
        assert!(text.contains("a word that is kept back"), "{text}");
    }

    look("preflight", &planted().args(["preflight"]).run(), 0);
    look("preflight --json", &planted().args(["preflight", "--full", "--json"]).run(), 0);
    let facts = planted().args(["preflight", "--facts-out", "facts.json"]).run();
    look("preflight --facts-out", &facts, 0);

    for wrong in [
        &["HF_TOKEN=Zq7Xw", "train.py"][..],
        &["--master-port", "https://me:Zq7Xw@host", "train.py"],
        &["--hf-token=Zq7Xw", "train.py"],
        &["plan", "--diff", "token=Zq7Xw"],
        &["preflight", "--facts", "token=Zq7Xw"],
        &["explain", "token=Zq7Xw"],
        &["--standalone=password:Zq7Xw", "train.py"],
        &["--log-dir", "/dev/null/token=Zq7Xw", "train.py"],
        &["--python", "/nowhere/token=Zq7Xw", "train.py"],
    ] {
        let end = planted().file("train.py", "").args(wrong).run();
        assert_ne!(end.code, Some(0), "{wrong:?}");
        look(&format!("{wrong:?}"), &end, end.code.unwrap_or_default());
    }

    // A run with everything that it writes. What the ranks print themselves is theirs, on the
    // console and in their log files; here it goes to neither.
    let options = [
        "--nproc",
        "2",
        "--log-dir",
        "logs",
        "--json-report",
        "report.json",
        "--max-restarts",
        "1",
    ];
    let options = [&options[..], &["--local-ranks-filter", "1", "--stdin", "none"]].concat();
    let end = words(planted(), &options).run();
    let shown = end.stderr.lines().filter(|line| !line.starts_with("token="));
    let own = shown.collect::<Vec<_>>().join("\n");
    assert_eq!(end.code, Some(3), "{own}");
    let mut files = String::new();
    look_for("a run", &own, &mut files);
    for entry in ["logs", "tmp"] {
        look_in_folder(&end.path(entry), &mut files);
    }
    let report = fs::read_to_string(end.path("report.json")).expect("the report is there");
    assert!(report.contains("https://me:***@host/x"), "{report}");
    assert!(report.contains("--token ***"), "no leftover: {report}");
    look_for("report.json", &report, &mut files);
    let facts = fs::read_to_string(facts.path("facts.json")).expect("the facts are there");
    look_for("facts.json", &facts, &mut files);
    assert!(facts.contains("https://me:***@mirror/x"), "{facts}");
    assert!(found.is_empty() && files.is_empty(), "\n{found}{files}");
}

/// A profile with a secret in everything that is a text.
const PROFILE: &str = r#"version: 1
# The old one was ghp_Zq7Xwabcdefghijklmnop1.
description: by glpat-Zq7Xwabcdefghijklmnop1, for tests
geometry: {role: "hf_Zq7Xwabcdefghijklmnop1"}
rendezvous: {id: "npm_Zq7Xwabcdefghijklmnop1"}
env:
  HUB: hf_Zq7Xwabcdefghijklmnop1
  AWS: AKIAZq7XwEFGHIJKLMN1
  PIP_INDEX_URL: "https://ghp_Zq7Xwabcdefghijklmnop1@pypi.corp/simple"
  PROXY: {value: "http://me:Zq7X/Zq7Xw@proxy:80", why: "see https://Zq7Xw@wiki/page"}
  NCCL_NOTE: "upload --db-password 'Zq7Xw Zq7Xw' --now"
  HEADER: "Authorization: Bearer Zq7Xw"
  MY_PASSWORD: Zq7Xw
  KEY_FILE: |
    -----BEGIN RSA PRIVATE KEY-----
    Zq7Xw
    -----END RSA PRIVATE KEY-----
checkpoint:
  dir: saves
  resume-arg: "--resume {path} --hf-token Zq7Xw --api-key
    Zq7Xw"
restart: {max: 1, backoff: 10ms}
logs: {tee: "3", prefix: "sk-Zq7Xwabcdefghijklmnop1 "}
"#;

/// Mistakes on the lines of secrets, and in them.
const WRONG: &str = r#"version: 1
extends: hf_Zq7Xwabcdefghijklmnop1
rendezvous: {idd: "nvapi-Zq7Xwabcdefghijklmnop1"}
preflight: {mode: "hf_Zq7Xwabcdefghijklmnop1", severity: {ghp_Zq7Xwabcdefghijklmnop1: error}}
backend: "--token Zq7Xw"
checkpoint: {layoutt: "--resume {path} --hf-token Zq7Xw", resume-arg: "--x {paht} --hf-token Zq7Xw"}
shutdown: {timeout: "https://Zq7Xw@host/x"}
hf_Zq7Xwabcdefghijklmnop1: 1
env:
  A: {vale: ghp_Zq7Xwabcdefghijklmnop1}
  PIP_INDEX_URL:: "https://ghp_Zq7Xwabcdefghijklmnop1@pypi.corp/simple"
"#;

#[test]
fn no_secret_of_a_profile_is_in_anything_that_is_printed_or_written() {
    let mut found = String::new();
    let mut look = |words: &[&str], code: i32| {
        let job = Job::new().file("train.py", RANK).file("ours.yaml", PROFILE);
        let job = job.file("wrong.yaml", WRONG);
        let folder = job.dir.path().join("launch-profiles");
        fs::create_dir(&folder).expect("a folder for profiles");
        let listed = format!("{PROFILE}match: {{hostname: '*'}}\n");
        fs::write(folder.join("listed.yaml"), listed).expect("a profile");
        let end = job.args(words).run();
        let all = format!("exit code {:?}\n{}\n{}", end.code, end.stdout, end.stderr);
        assert_eq!(end.code, Some(code), "{words:?}: {all}");
        assert!(!all.contains("internal error"), "{words:?}: {all}");
        look_for(&format!("{words:?}"), &all, &mut found);
        (end, all)
    };
    let secret =
        ["--resume-arg=--resume {path} --db-password Zq7Xw", "--rdzv-id=hf_Zq7Xw0123456789abcd"];
    for profile in ["--profile=./ours.yaml", "--max-restarts=0"] {
        for own in [&[][..], &secret] {
            for first in [&["plan"][..], &["plan", "--json"], &["--dry-run"]] {
                let words = [first, own, &[profile, "train.py", "--hf-token", "Zq7Xw"]].concat();
                let (_, all) = look(&words, 0);
                assert!(all.contains("--hf-token ***") || all.contains("\"***\""), "{all}");
            }
        }
    }
    let json = look(&["plan", "--json", "--profile=./ours.yaml", "train.py"], 0).0.stdout;
    assert!(json.contains("--resume {path} --hf-token *** --api-key ***"), "{json}");

    look(&["profile", "list"], 0);
    let (show, _) = look(&["profile", "show", "./ours.yaml"], 0);
    assert!(show.stdout.contains("--resume {path} --hf-token *****"), "{}", show.stdout);
    assert!(show.stdout.contains("@pypi.corp/simple"), "{}", show.stdout);
    let (effective, _) = look(&["profile", "show", "./ours.yaml", "--effective"], 0);
    assert!(effective.stdout.contains("by ***, for tests"), "{}", effective.stdout);
    look(&["profile", "lint", "ours.yaml"], 78);
    look(&["profile", "lint", "--format", "json", "ours.yaml"], 78);
    look(&["profile", "lint", "wrong.yaml"], 78);
    look(&["profile", "lint", "--format", "json", "wrong.yaml"], 78);
    look(&["profile", "show", "./wrong.yaml"], 78);
    look(&["--profile", "./wrong.yaml", "train.py"], 78);
    look(&["preflight", "--profile", "./ours.yaml"], 0);
    look(&["preflight", "--json", "--profile", "./ours.yaml"], 0);

    // The prefix is that of every line of a rank; a rank that says nothing has none.
    let words = ["--profile=./ours.yaml", "--json-report=report.json", "--log-dir=logs"];
    let (end, _) = look(&[&words[..], &["--preflight=auto", "--no-python", "false"]].concat(), 1);
    let mut files = String::new();
    look_in_folder(&end.path("logs"), &mut files);
    look_in_folder(&end.path("tmp"), &mut files);
    let report = fs::read_to_string(end.path("report.json")).expect("the report is there");
    look_for("report.json", &report, &mut files);
    assert!(found.is_empty() && files.is_empty(), "\n{found}{files}");
}
