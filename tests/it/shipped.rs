//! The launch profiles that come with nvlaunch: each is right, and plans a machine that it is for.

use std::path::Path;

use crate::harness::Job;
use crate::hosts::corpus;

/// Where a pod of that machine finds its driver.
const DRIVER: &str = "/usr/local/nvidia/lib64";

/// A profile, and a machine of the corpus that it is for.
const PROFILES: &[(&str, &str)] = &[
    // No machine of the corpus has A100s; one without InfiniBand that has four GPUs stands for it.
    ("a100-ethernet", "healthy-rhel-h100"),
    ("cpu-ci", "healthy-ci-container"),
    ("gcu-t20", "healthy-gcu-t20"),
    ("h100-ib-slurm", "healthy-rhel-h100"),
    ("h200-kubernetes", "healthy-kubernetes-gke"),
    ("workstation", "healthy-workstation-a6000"),
];

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/launch-profiles"))
}

#[test]
fn each_is_short_right_and_known_to_editors() {
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .expect("the folder is there")
        .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned))
        .filter(|name| name != "default")
        .collect();
    files.sort();
    assert_eq!(files, PROFILES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for name in files {
        let file = folder().join(format!("{name}.yaml"));
        let text = std::fs::read_to_string(&file).expect("a profile");
        assert!(text.starts_with("# yaml-language-server: $schema=schema.json\n"), "{name}");
        let lines = text.lines().count();
        assert!((20..=60).contains(&lines), "{name} has {lines} lines");
        let end = Job::new().args(["profile", "lint"]).arg(&file).run().expect_code(0);
        assert_eq!(end.stderr, "", "{name}");
    }
}

#[test]
fn each_plans_a_machine_that_it_is_for() {
    for (name, host) in PROFILES {
        let root = corpus().join(host).join("root");
        let job = Job::new().file("train.py", "").args(["plan", "--profile", name, "--sysroot"]);
        let job = match *host {
            "healthy-kubernetes-gke" => job.env("LD_LIBRARY_PATH", DRIVER),
            _ => job,
        };
        let end = job.arg(&root).args(["train.py"]).run().expect_code(0);
        let text = format!("{}--- stderr\n{}", end.stdout, end.stderr)
            .replace(env!("CARGO_PKG_VERSION"), "[version]")
            .replace(&end.dir.path().display().to_string(), "DIR")
            .replace(&corpus().display().to_string(), "HOSTS");
        insta::assert_snapshot!(format!("plan_of_{}", name.replace('-', "_")), text);
    }
}
