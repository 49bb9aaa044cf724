//! Preflight as a user meets it: `nvlaunch preflight`, `explain`, and the look before a launch.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::doubles::report;
use crate::harness::{End, Job, SOON, nvlaunch};
use crate::pty::on_terminal;

/// Says what it was given, and that it ran.
const RANK: &str = "
import json, os
open('ran', 'w').close()
names = ['NVLAUNCH_BACKEND', 'TORCH_NCCL_ASYNC_ERROR_HANDLING']
print(json.dumps({name: os.environ.get(name) for name in names}))
";

/// What a launch says at most.
const LAUNCH_LINES: usize = 12;

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder of the tree");
    fs::write(path, text).expect("a file of the tree");
}

/// A machine whose one NVIDIA GPU is held by nouveau.
pub fn sick(job: Job) -> Job {
    let root = job.dir.path().join("sick");
    let device = "sys/bus/pci/devices/0000:01:00.0";
    for (file, text) in [
        ("vendor", "0x10de\n"),
        ("device", "0x2230\n"),
        ("class", "0x030000\n"),
        ("config", "\u{10}\u{5e}\u{30}\u{22}"),
    ] {
        write(&root, &format!("{device}/{file}"), text);
    }
    fs::create_dir_all(root.join("sys/bus/pci/drivers/nouveau")).expect("a folder");
    symlink("../../drivers/nouveau", root.join(device).join("driver")).expect("a link");
    fs::create_dir_all(root.join("sys/module/nouveau")).expect("a folder");
    write(&root, "proc/sys/kernel/osrelease", "6.8.0-60-generic\n");
    write(&root, "etc/os-release", "ID=ubuntu\nVERSION_ID=\"24.04\"\n");
    job
}

/// A machine without accelerators.
pub fn plain(job: Job) -> Job {
    let root = job.dir.path().join("plain");
    write(&root, "proc/sys/kernel/osrelease", "6.8.0-60-generic\n");
    write(&root, "etc/os-release", "ID=ubuntu\nVERSION_ID=\"24.04\"\n");
    job
}

fn preflight(job: Job, words: &[&str]) -> Job {
    job.arg("preflight").args(words)
}

fn document(end: &End) -> Value {
    serde_json::from_str(&end.stdout).unwrap_or_else(|error| panic!("{error}: {}", end.stdout))
}

fn codes(findings: &Value) -> Vec<&str> {
    let findings = findings.as_array().expect("a list");
    findings.iter().map(|finding| finding["code"].as_str().expect("a code")).collect()
}

#[test]
fn a_sick_machine_refuses_the_launch_and_starts_no_rank() {
    let end = sick(Job::new()).args(["--sysroot", "sick", "--nproc", "2"]).script(RANK).run();
    let end = end.expect_code(69);
    assert_eq!(end.stdout, "");
    assert!(!end.path("ran").exists());
    assert!(end.left_in_tmp().is_empty());
    assert!(end.stderr.lines().count() <= LAUNCH_LINES, "{}", end.stderr);
    assert!(
        end.stderr.starts_with("nvlaunch: preflight refuses the launch: NVL"),
        "{}",
        end.stderr
    );
    assert!(end.stderr.contains("nouveau"), "{}", end.stderr);
    assert!(end.stderr.contains("hint: `nvlaunch explain NVL"), "{}", end.stderr);
    // By the variable too.
    let job = sick(Job::new()).env("NVLAUNCH_SYSROOT", "sick").args(["--nproc", "2"]);
    let by_env = job.script(RANK).run().expect_code(69);
    assert_eq!(by_env.stderr, end.stderr);
}

#[test]
fn what_is_typed_wrong_is_said_before_the_machine_is_looked_at() {
    let end = sick(Job::new()).args(["--sysroot", "sick", "trian.py"]).run().expect_code(66);
    assert!(end.stderr.contains("there is no script `trian.py`"), "{}", end.stderr);
    let end = sick(Job::new()).args(["--sysroot", "nowhere"]).script(RANK).run().expect_code(66);
    assert!(end.stderr.contains("--sysroot: `nowhere` is no folder\nhint: "), "{}", end.stderr);
}

#[test]
fn force_starts_all_the_same_and_the_report_has_what_was_found() {
    let options = ["--sysroot", "sick", "--force", "--json-report", "report.json"];
    let end = sick(Job::new()).args(options).script(RANK).run().expect_code(0);
    assert!(end.path("ran").exists());
    assert!(end.stderr.contains("preflight would refuse this without --force"), "{}", end.stderr);
    let seen = &report(&end)["preflight"];
    assert_eq!(seen["verdict"], "refused");
    let found = seen["findings"].as_array().expect("findings");
    assert!(found.iter().any(|finding| finding["severity"] == "error"), "{seen:#}");
    let given: Value = serde_json::from_str(&end.stdout).expect("JSON");
    assert_eq!(given["NVLAUNCH_BACKEND"], seen["backend"]);
}

#[test]
fn a_job_that_failed_on_a_sick_machine_is_told_so() {
    let options = ["--sysroot", "sick", "--force"];
    let end = sick(Job::new()).args(options).script("raise SystemExit(3)").run().expect_code(3);
    assert!(end.stderr.contains("hint: before the job preflight found NVL"), "{}", end.stderr);
}

#[test]
fn a_plain_machine_says_nothing_and_gives_the_ranks_their_backend() {
    let options = ["--sysroot", "plain", "--json-report", "report.json"];
    let end = plain(Job::new()).args(options).script(RANK).run().expect_code(0);
    assert_eq!(end.stderr, "");
    let given: Value = serde_json::from_str(&end.stdout).expect("JSON");
    assert_eq!(given, json!({"NVLAUNCH_BACKEND": "gloo", "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"}));
    let seen = report(&end)["preflight"].clone();
    assert_eq!((&seen["verdict"], &seen["backend"]), (&json!("ok"), &json!("gloo")));
}

#[test]
fn on_a_terminal_a_plain_machine_is_one_line() {
    let job = plain(Job::new()).file("script.py", "print('ran')");
    let args = ["--sysroot", "plain", "--nproc", "2", "script.py"];
    let end = on_terminal(job, &json!([]), &args);
    let output = end["output"].as_str().expect("a text");
    let said: Vec<&str> = output.lines().filter(|line| line.contains("preflight")).collect();
    assert_eq!(said.len(), 1, "{output}");
    let start = "nvlaunch: preflight: cpu, gloo (no accelerator); ";
    assert!(
        said[0].trim_end().starts_with(start) && said[0].trim_end().ends_with("ms"),
        "{output}"
    );
}

#[test]
fn off_looks_at_nothing_and_sets_nothing() {
    // A root that is not there would be an error.
    let options = ["--preflight", "off", "--sysroot", "nowhere", "--json-report", "report.json"];
    let job = Job::new().args(options).env("NVLAUNCH_BACKEND", "of an outer run");
    let job = job.env("NVLAUNCH_RUN_ID", "an outer run");
    let end = job.script(RANK).run().expect_code(0);
    assert_eq!(end.stderr, "");
    let given: Value = serde_json::from_str(&end.stdout).expect("JSON");
    assert_eq!(given, json!({"NVLAUNCH_BACKEND": null, "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"}));
    assert_eq!(report(&end)["preflight"], Value::Null);
    // What was typed is passed on.
    let end = Job::new().args(["--preflight", "off", "--backend", "eccl"]).script(RANK).run();
    assert!(end.expect_code(0).stdout.contains(r#""NVLAUNCH_BACKEND": "eccl""#));
}

#[test]
fn a_backend_is_used_or_refused_and_never_replaced() {
    let with = |backend: &str| {
        plain(Job::new()).args(["--sysroot", "plain", "--backend", backend]).script(RANK).run()
    };
    let end = with("gloo").expect_code(0);
    assert!(end.stdout.contains(r#""NVLAUNCH_BACKEND": "gloo""#), "{}", end.stdout);
    let end = with("nccl").expect_code(69);
    assert!(end.stderr.contains("NVL083"), "{}", end.stderr);
    assert_eq!(end.stdout, "");
}

#[test]
fn a_script_may_have_the_name_of_a_subcommand() {
    for name in ["preflight", "explain"] {
        let job = || Job::new().file(name, "print('a script')").args(["run", "--preflight", "off"]);
        assert_eq!(job().arg(name).run().expect_code(0).stdout, "a script\n");
        let path = format!("./{name}");
        let end = Job::new().file(name, "print('a script')").arg(path).run().expect_code(0);
        assert_eq!(end.stdout, "a script\n");
    }
}

/// The contract for programs: the names, their order, and the kinds of values.
#[test]
fn the_json_of_a_sick_machine_and_of_a_plain_one() {
    for (tree, code, verdict) in [("sick", 69, "refused"), ("plain", 0, "ok")] {
        let job = plain(sick(Job::new()));
        let end = preflight(job, &["--json", "--sysroot", tree]).run().expect_code(code);
        assert_eq!(end.stderr, "", "{tree}");
        let document = document(&end);
        let mut names: Vec<(usize, &String)> = document
            .as_object()
            .expect("an object")
            .keys()
            .map(|name| (end.stdout.find(&format!("\n  \"{name}\":")).expect("it is there"), name))
            .collect();
        names.sort_unstable();
        let names: Vec<&String> = names.into_iter().map(|(_, name)| name).collect();
        assert_eq!(
            names,
            [
                "schema",
                "nvlaunch",
                "verdict",
                "vendor",
                "backend",
                "backend_reason",
                "backend_evidence",
                "variables",
                "findings",
                "facts"
            ]
        );
        assert_eq!(document["schema"], 1);
        assert_eq!(document["verdict"], verdict);
        assert!(document["backend"].is_string() && document["vendor"].is_string());
        assert_eq!(document["facts"]["system"]["distribution"], "ubuntu");
        for finding in document["findings"].as_array().expect("a list") {
            for name in ["name", "severity", "summary"] {
                assert!(finding[name].is_string(), "{finding:#}");
            }
            let evidence = finding["evidence"].as_array().expect("a list");
            assert!(!evidence.is_empty(), "{finding:#}");
            assert!(
                evidence.iter().all(|one| one["source"].is_string() && one["value"].is_string())
            );
            assert!(finding["remedies"].is_array(), "{finding:#}");
            assert!(finding.get("mitigation").is_some() && finding.get("consequence_of").is_some());
        }
    }
}

#[test]
fn facts_travel_and_are_judged_as_where_they_were_read() {
    let job = sick(Job::new());
    let end = preflight(job, &["--json", "--sysroot", "sick", "--facts-out", "facts.json"]).run();
    let here = document(&end.expect_code(69));
    let job = sick(Job::new());
    let end = preflight(job, &["--sysroot", "sick", "--facts-out", "facts.json"]).run();
    let text = fs::read_to_string(end.path("facts.json")).expect("the facts");
    let facts: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(facts["schema"], 1);
    assert!(end.stdout.starts_with("preflight: refused: "), "{}", end.stdout);
    assert!(end.stdout.lines().all(|line| line.chars().count() <= 80 || line.contains("$ ")));
    for text in [text, here.to_string()] {
        let job = Job::new().file("facts.json", &text);
        let there = document(&preflight(job, &["--json", "--facts", "facts.json"]).run());
        assert_eq!(there["verdict"], "refused");
        assert_eq!(codes(&there["findings"]), codes(&here["findings"]));
    }
}

#[test]
fn facts_that_cannot_be_used_are_said() {
    let mut said = String::new();
    let newer = r#"{"schema": 2, "nvlaunch": "9.1.0"}"#;
    let cases: [(&str, &str); 7] = [
        ("missing", ""),
        ("tmp", ""),
        ("fifo", ""),
        ("huge", ""),
        ("text", "not JSON"),
        ("other", "{\"name\": 1}"),
        ("newer", newer),
    ];
    for (name, text) in cases {
        let job = Job::new();
        let path = job.dir.path().join(name);
        let job = match name {
            "missing" | "tmp" => job,
            "fifo" => {
                mkfifo(&path, Mode::from_bits_truncate(0o600)).expect("a pipe");
                job
            }
            "huge" => {
                // A hole: as large as asked for, and nothing on the disk.
                fs::File::create(&path).and_then(|file| file.set_len(300 << 20)).expect("a file");
                job
            }
            _ => job.file(name, text),
        };
        let end = preflight(job, &["--facts", name]).run().expect_code(66);
        assert_eq!(end.stdout, "", "{name}");
        let _ = write!(said, "{}", end.stderr);
    }
    insta::assert_snapshot!(said);
}

#[test]
fn facts_that_cannot_be_written_are_said_before_the_machine_is_judged() {
    for path in ["none/facts.json", "tmp", "/proc/none"] {
        let job = plain(Job::new());
        let end = preflight(job, &["--sysroot", "plain", "--facts-out", path]).run();
        let end = end.expect_code(73);
        assert_eq!(end.stdout, "");
        let start = format!("nvlaunch: cannot write the facts `{path}`: ");
        assert!(end.stderr.starts_with(&start), "{}", end.stderr);
        assert!(end.stderr.contains("\nhint: "), "{}", end.stderr);
    }
}

#[test]
fn an_interpreter_or_a_root_that_is_not_there_is_said() {
    let end = preflight(Job::new(), &["--python", "/nowhere/python"]).run().expect_code(69);
    assert!(end.stderr.contains("there is no interpreter `/nowhere/python`"), "{}", end.stderr);
    let end = preflight(Job::new(), &["--sysroot", "nowhere"]).run().expect_code(66);
    assert!(end.stderr.contains("`nowhere` is no folder"), "{}", end.stderr);
    // Without Python on PATH there is still a machine to judge.
    let end = preflight(Job::new().env("PATH", "/nowhere"), &[]).run();
    assert!(end.stdout.starts_with("preflight: "), "{}", end.stdout);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    for words in ["preflight --json --sysroot plain", "explain --list", "explain NVL001"] {
        let line = format!("set -o pipefail; '{}' {words} | head -c 1", nvlaunch().display());
        let end = plain(Job::of("bash")).args(["-c", &line]).run().expect_code(0);
        assert_eq!((end.stdout.len(), &*end.stderr), (1, ""), "{words}");
    }
}

#[test]
fn what_is_explained_and_what_is_not() {
    let end = Job::new().args(["explain", "nvl001"]).run().expect_code(0);
    assert!(
        end.stdout.starts_with("NVL001  DRIVER_LIB_MISMATCH_NEWER_USERSPACE  (error by default)\n")
    );
    let end = Job::new().args(["explain", "NVL777"]).run().expect_code(2);
    assert_eq!(
        end.stderr,
        "nvlaunch: there is no finding `NVL777`\nhint: `nvlaunch explain --list` lists the codes\n"
    );
    let end = Job::new().args(["explain", "GPU_PROBE_HUNG"]).run().expect_code(2);
    assert!(end.stderr.ends_with("did you mean `GPU_PROBE_HANG` (NVL042)?\n"), "{}", end.stderr);
}

/// Ranks count by devices that are not there: the cause is said, not only that there is none.
#[test]
fn a_count_of_gpus_that_cannot_be_is_refused_with_its_cause() {
    let options = ["--sysroot", "sick", "--nproc", "gpu"];
    let end = sick(Job::new()).args(options).script(RANK).run().expect_code(69);
    assert!(end.stderr.contains("nouveau"), "{}", end.stderr);
    let end = preflight(plain(Job::new()), &["--sysroot", "plain", "--nproc", "gpu"]).run();
    let end = end.expect_code(69);
    assert!(end.stderr.contains("there is no GPU"), "{}", end.stderr);
}

/// What a profile sets is named by its line: nothing in the shell takes it away.
#[test]
fn a_variable_of_a_profile_is_told_with_its_line() {
    let networked = || {
        let job =
            plain(Job::new()).file("if.yaml", "version: 1\nenv:\n  GLOO_SOCKET_IFNAME: ib7\n");
        let root = job.dir.path().join("plain");
        for (name, kind) in [("lo", "772\n"), ("eth0", "1\n")] {
            write(&root, &format!("sys/class/net/{name}/type"), kind);
        }
        job
    };
    let options = ["--sysroot", "plain", "--profile", "./if.yaml", "--nproc", "2"];
    let line = "take GLOO_SOCKET_IFNAME out of ./if.yaml:3";
    let remedies_of = |document: &Value| {
        let findings = document["findings"].as_array().expect("a list");
        let found = findings.iter().find(|finding| finding["code"] == "NVL072");
        found.expect("it is found")["remedies"].to_string()
    };
    let with = ["--json", "--facts-out", "facts.json"];
    let end = preflight(networked(), &options).args(with).run().expect_code(69);
    let here = document(&end);
    let said = remedies_of(&here);
    assert!(said.contains(line) && !said.contains("unset"), "{said}");
    // The line travels with the facts.
    let facts = fs::read_to_string(end.path("facts.json")).expect("the facts");
    let job = Job::new().file("facts.json", &facts);
    let there = preflight(job, &["--json", "--facts", "facts.json", "--nproc", "2"]).run();
    assert_eq!(document(&there)["findings"], here["findings"]);
    let end = networked().args(options).script(RANK).run().expect_code(69);
    assert!(end.stderr.contains(line) && !end.stderr.contains("unset"), "{}", end.stderr);
    // What the shell has comes before it, and is taken away there.
    let job = networked().env("GLOO_SOCKET_IFNAME", "ib8").args(options).script(RANK);
    let end = job.run().expect_code(69);
    assert!(end.stderr.contains("$ unset GLOO_SOCKET_IFNAME"), "{}", end.stderr);
    assert!(!end.stderr.contains(" out of ./if.yaml"), "{}", end.stderr);
}

/// The driver hangs: the launch ends in time, with the call that hung.
#[test]
fn a_driver_that_hangs_refuses_the_launch_within_its_deadline() {
    let test = std::env::current_exe().expect("the test's own program");
    let target = test.ancestors().nth(2).expect("target/PROFILE/deps/it");
    let fake = target.join("examples/libfake_nvml.so");
    assert!(fake.exists(), "{} is missing: cargo build --examples", fake.display());
    let job = plain(Job::new()).file("nvml.json", r#"{"count": 2, "hang": "nvmlInit_v2"}"#);
    let root = job.dir.path().join("plain");
    write(
        &root,
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Mon Sep  1 00:00:00 UTC 2025\n",
    );
    write(&root, "sys/module/nvidia/version", "580.95.05\n");
    write(&root, "run/nvidia-persistenced/socket", "");
    for name in ["libnvidia-ml", "libcuda"] {
        let folder = root.join("usr/lib/x86_64-linux-gnu");
        fs::create_dir_all(&folder).expect("a folder of the tree");
        let file = format!("{name}.so.580.95.05");
        fs::copy(&fake, folder.join(&file)).expect("a library of the tree");
        symlink(&file, folder.join(format!("{name}.so.1"))).expect("a link");
    }
    write(&root, "dev/nvidia0", "");
    write(&root, "dev/nvidiactl", "");
    write(&root, "dev/nvidia-uvm", "");
    let script = job.dir.path().join("nvml.json");
    let job = job.env("NVLAUNCH_NVML_LIB", fake).env("FAKE_NVML_SCRIPT", script);
    let job = job.args(["--sysroot", "plain", "--nproc", "2"]).script(RANK);
    let end = job.run_within(3 * SOON);
    let end = end.expect_code(69);
    assert!(end.stderr.contains("NVL042") && end.stderr.contains("nvmlInit"), "{}", end.stderr);
    assert!(!end.path("ran").exists());
}
