//! The program itself on a few machines of the corpus, and every machine through a file of facts.

use std::collections::BTreeSet;

use nvlaunch::preflight::Verdict;
use serde_json::Value;

use super::{Host, fake_nvml};
use crate::harness::{End, Job};

/// Those that show another part of the output each.
const SHOWN: [&str; 9] = [
    "mismatch-a6000-unattended-upgrade",
    "mismatch-rhel-dnf",
    "container-zero-byte-libcuda",
    "dkms-not-built-for-kernel",
    "gcu-t20-mmengine-cuda-torch",
    "healthy-gcu-t20",
    "healthy-h200-nvswitch",
    "healthy-wsl2",
    "nvml-crashes",
];

const OK: i32 = 0;
/// What a refused launch ends with.
const REFUSED: i32 = 69;

fn preflight(host: &Host, options: &[&str]) -> Job {
    let mut job = Job::new().args(["preflight", "--json", "--sysroot"]).arg(host.root());
    for (name, value) in &host.about.env {
        // The program itself needs its own folder for temporary files.
        if name != "HOME" {
            job = job.env(name, value);
        }
    }
    if let Some(interpreter) = &host.about.interpreter {
        job = job.arg("--python").arg(interpreter);
    }
    if let Some(script) = host.nvml_script() {
        job = job.env("NVLAUNCH_NVML_LIB", fake_nvml()).env("FAKE_NVML_SCRIPT", script);
    }
    let wanted = &host.about.intent;
    if let Some(nproc) = wanted.nproc {
        job = job.arg("--nproc").arg(nproc.to_string());
    }
    if let Some(backend) = &wanted.backend {
        job = job.args(["--backend", backend]);
    }
    job.args(options)
}

fn document(end: &End) -> Value {
    serde_json::from_str(&end.stdout).unwrap_or_else(|error| {
        panic!("{error}\n--- stdout\n{}\n--- stderr\n{}", end.stdout, end.stderr)
    })
}

#[track_caller]
fn expect_of(host: &Host, end: &End) -> Value {
    let document = document(end);
    let name = &host.name;
    let verdict = serde_json::to_value(host.expected.verdict).expect("a word");
    assert_eq!(document["verdict"], verdict, "{name}: {document:#}");
    assert_eq!(document["vendor"], host.expected.vendor.as_str(), "{name}");
    assert_eq!(document["backend"], host.expected.backend.as_str(), "{name}");
    let findings = document["findings"].as_array().expect("a list").iter();
    let found: BTreeSet<&str> =
        findings.map(|found| found["code"].as_str().expect("a code")).collect();
    let expected: BTreeSet<&str> =
        host.expected.findings.iter().map(|expected| &*expected.code.0).collect();
    assert_eq!(found, expected, "{name}");
    let code = if host.expected.verdict == Verdict::Refused { REFUSED } else { OK };
    assert_eq!(end.code, Some(code), "{name}: {}", end.stderr);
    document
}

#[test]
fn the_program_says_what_is_wrong_with_each() {
    for name in SHOWN {
        let host = Host::named(name);
        expect_of(&host, &preflight(&host, &[]).run());
    }
}

#[test]
fn facts_that_one_machine_wrote_are_judged_the_same_on_another() {
    for name in SHOWN {
        let host = Host::named(name);
        let first = preflight(&host, &["--facts-out", "facts.json"]).run();
        let here = expect_of(&host, &first);
        let mut elsewhere = Job::new().args(["preflight", "--json", "--facts"]);
        elsewhere = elsewhere.arg(first.path("facts.json"));
        if let Some(nproc) = host.about.intent.nproc {
            elsewhere = elsewhere.arg("--nproc").arg(nproc.to_string());
        }
        let there = expect_of(&host, &elsewhere.run());
        assert_eq!(here["findings"], there["findings"], "{name}");
        assert_eq!(here["variables"], there["variables"], "{name}");
    }
}
