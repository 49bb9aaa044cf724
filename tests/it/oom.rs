//! A rank that the kernel's OOM killer ended is reported as that, with the evidence.

use crate::cgroup::Cgroup;
use crate::doubles::{alone, assert_none_left, called_by, launch, marker, report};
use crate::harness::{Job, SOON};

fn in_cgroup(group: &Cgroup, marker: &str, more: &[&str], script: &str) -> Job {
    let options = ["--nproc", "2", "--json-report", "report.json", "--shutdown-timeout", "5s"];
    let options = [&options[..], more].concat();
    let enter = "echo $$ > \"$1\" && shift && exec \"$@\"";
    let entry = group.entry();
    let entry = entry.to_str().expect("the path is UTF-8");
    called_by(launch(marker, &options, script), &["sh", "-c", enter, "sh", entry])
}

/// Of 100 MB, where this machine lets one be made.
fn small_group(marker: &str) -> Option<Cgroup> {
    let group = Cgroup::make("memory", marker).and_then(|group| {
        group.set_one_of(&["memory.limit_in_bytes", "memory.max"], "100M")?;
        let _ = group.set_one_of(&["memory.memsw.limit_in_bytes"], "100M");
        let _ = group.set_one_of(&["memory.swap.max"], "0");
        Ok(group)
    });
    group.map_err(|why| println!("skipped: {why}")).ok()
}

#[test]
fn a_rank_killed_for_want_of_memory_is_reported_with_evidence() {
    let marker = marker();
    let Some(group) = small_group(&marker) else { return };
    let _alone = alone();
    let job = in_cgroup(&group, &marker, &[], "rank 1 [ eat 400 ] wait").start();
    let end = job.end_within(SOON).expect_code(137);
    assert_none_left(&marker);
    let report = report(&end);
    let failure = &report["failure"];
    assert_eq!(failure["rank"], 1, "{report:#}");
    let words = failure["words"].as_str().expect("words");
    match (&failure["oom"]["logged"], &failure["oom"]["counted"]) {
        (serde_json::Value::Object(logged), _) => {
            let line = logged["line"].as_str().expect("a line");
            assert!(line.contains(&format!("Killed process {}", failure["pid"])), "{line}");
            assert_eq!(words, "killed by the kernel's OOM killer");
        }
        (_, counted) => {
            assert!(counted["kills"].as_u64().is_some_and(|kills| kills >= 1), "{report:#}");
            assert!(words.contains("OOM killer"), "{words}");
        }
    }
    assert!(end.stderr.contains("OOM killer"), "{}", end.stderr);
    assert!(end.stderr.contains("hint: the machine (or the job's cgroup) ran out of memory"));
    println!("OOM: {} ({})", words, failure["oom"]);
}

#[test]
fn a_kill_without_evidence_is_not_called_oom() {
    let script = "rank 1 [ raise KILL ] wait";
    let options = ["--nproc", "2", "--json-report", "report.json"];
    let end = launch(&marker(), &options, script).run().expect_code(137);
    assert!(report(&end)["failure"]["oom"].is_null());
    assert!(end.stderr.contains("nvlaunch did not send this SIGKILL"), "{}", end.stderr);
}

#[test]
fn an_oom_kill_says_nothing_of_a_kill_in_the_next_attempt() {
    let marker = marker();
    let Some(group) = small_group(&marker) else { return };
    let _alone = alone();
    let options = ["--max-restarts", "1", "--profile", "p.yaml"];
    let script = "rank 1 [ attempt 0 [ eat 400 ] attempt 1 [ raise KILL ] ] wait";
    let profile = "version: 1\nrestart: {policy: {oom: retry}}\n";
    let job = in_cgroup(&group, &marker, &options, script).file("p.yaml", profile);
    let end = job.start().end_within(SOON).expect_code(137);
    let report = report(&end);
    assert_eq!(report["past"][0]["decision"]["class"], "oom", "{report:#}");
    assert!(report["failure"]["oom"].is_null(), "{report:#}");
    assert_eq!(report["decision"]["class"], "unknown", "{report:#}");
}
