//! Real frameworks with warm ranks: each with its own modules imported once, where it can be.

use super::{BOUND, RESTART, lines, say, turn, two_ranks};
use crate::harness::{End, Job, warm};

const TRAINER: &str = include_str!("scripts/trainer.py");
const MMENGINE: &str = include_str!("scripts/mmengine_.py");
const WORKERS: &str = include_str!("scripts/workers.py");
const COMPILED: &str = include_str!("scripts/compiled.py");

/// The ranks' lines that contain this, without the mark of their rank.
fn said<'a>(end: &'a End, what: &str) -> Vec<&'a str> {
    let lines = lines(&end.stdout).into_iter().filter(|line| line.contains(what));
    lines.map(|line| &line["[rank 0] ".len()..]).collect()
}

/// Two warm ranks of the frameworks' Python with this script, to a good end.
fn run(modules: &'static str, script: &str) -> End {
    warm(modules, || two_ranks("frameworks").script(script).run_within(BOUND).expect_code(0))
}

#[test]
fn warm_accelerate() {
    let Some(_turn) = turn("warm_accelerate", &["frameworks"]) else { return };
    warm("torch,accelerate", super::accelerate);
}

#[test]
fn warm_lightning() {
    let Some(_turn) = turn("warm_lightning", &["frameworks"]) else { return };
    // Lightning's own modules read LOCAL_RANK while they are imported, so they cannot be shared;
    // with torch alone all of it is as with cold ranks.
    warm("torch", super::lightning);
    let job = two_ranks("frameworks").arg("--warm=torch,lightning").script("print('ran')");
    let end = job.run_within(BOUND).expect_code(0);
    let why = "ranks start cold: torchmetrics.utilities.prints reads LOCAL_RANK";
    assert!(end.stderr.contains(why), "{}", end.stderr);
    assert_eq!(said(&end, "ran").len(), 2, "{}", end.stdout);
}

#[test]
fn warm_hugging_face_trainer() {
    let Some(_turn) = turn("warm_hugging_face_trainer", &["frameworks"]) else { return };
    let end = run("torch,transformers", TRAINER);
    let done =
        ["done 2 0 4 DistributedDataParallel True", "done 2 1 4 DistributedDataParallel True"];
    assert_eq!(said(&end, "] done "), done);
}

#[test]
fn warm_mmengine() {
    let Some(_turn) = turn("warm_mmengine", &["frameworks"]) else { return };
    let end = run("torch,mmengine", MMENGINE);
    let name = "MMDistributedDataParallel";
    let done = [format!("done 2 0 4 {name} True"), format!("done 2 1 4 {name} True")];
    assert_eq!(said(&end, "] done "), done);
}

#[test]
fn warm_ranks_start_processes_of_their_own() {
    let test = "warm_ranks_start_processes_of_their_own";
    let Some(_turn) = turn(test, &["frameworks"]) else { return };
    let end = run("torch", WORKERS);
    for method in ["fork", "spawn", "forkserver"] {
        for line in [format!("loader {method} True [1, 2]"), format!("pool {method} [2.0, 2.0]")] {
            assert_eq!(said(&end, &line).len(), 2, "{line}: {}", end.stdout);
        }
    }
    for line in ["spawn True", "seeds of workers differ True", "sum 2"] {
        assert_eq!(said(&end, &format!("] {line}")).len(), 2, "{line}: {}", end.stdout);
    }
}

#[test]
fn warm_torch_compile_has_its_pool() {
    let test = "warm_torch_compile_has_its_pool";
    let Some(_turn) = turn(test, &["frameworks"]) else { return };
    let compilers = ["c++", "g++", "clang++"];
    if !compilers.iter().any(|name| std::process::Command::new(name).arg("-v").output().is_ok()) {
        return say(&format!("{test}: skipped: there is no C++ compiler"));
    }
    for method in ["subprocess", "fork"] {
        let job = || {
            let job = two_ranks("frameworks").env("START_METHOD", method).script(COMPILED);
            job.run_within(BOUND).expect_code(0)
        };
        let end = warm("torch", job);
        assert_eq!(said(&end, "compiled True True").len(), 2, "{method}: {}", end.stdout);
    }
}

#[test]
fn warm_restarts_come_back_a_hundred_times() {
    const TIMES: usize = 100;
    let test = "warm_restarts_come_back_a_hundred_times";
    let Some(_turn) = turn(test, &[]) else { return };
    let mut lost = Vec::new();
    for _ in 0..TIMES {
        let end = warm("torch", || {
            let job = Job::new().args(["--nproc", "2", "--max-restarts", "1"]).script(RESTART);
            job.run_within(BOUND)
        });
        if end.code != Some(0) || said(&end, "sum 3 in 1").len() != 2 {
            lost.push(format!("exit code {:?}\n{}\n{}", end.code, end.stdout, end.stderr));
        }
    }
    say(&format!("{} of {TIMES} warm restarts came back", TIMES - lost.len()));
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}
