//! The compatibility layer with old releases of `MMEngine` and `PyTorch`, and frameworks that do
//! without it. All of it on the CPU: nothing here was run on an accelerator.

use std::path::PathBuf;

use super::{BOUND, environment, lines, say, turn, two_ranks};
use crate::harness::{End, Job};

const FIELD: &str = include_str!("../it/scripts/compat_field.py");
const BY_HAND: &str = include_str!("../it/scripts/compat_by_hand.py");
const FABRIC: &str = include_str!("scripts/fabric.py");

/// Packages of an environment, for `PYTHONPATH`.
fn packages(name: &str) -> PathBuf {
    let lib = environment(name).join("lib");
    let mut entries = std::fs::read_dir(lib).expect("an environment");
    entries.next().expect("a folder").expect("an entry").path().join("site-packages")
}

/// Two ranks of the field report's script with a release of `MMEngine`, and with what stands in
/// `.venvs/mmengine` for the rest.
fn field(version: &str, pytorch: Option<&str>, compat: &str) -> End {
    let rest = packages("mmengine").display().to_string();
    let path = match version {
        // What the rest leaves to the project's own environment lies beside each other release.
        "0.10.7" => format!("{rest}:{}", environment("mmengine-0.10.1").display()),
        _ => format!("{}:{rest}", environment(&format!("mmengine-{version}")).display()),
    };
    let job = match pytorch {
        Some(name) => two_ranks(name),
        None => Job::new().args(["--nproc", "2"]),
    };
    job.env("PYTHONPATH", path).args(["--compat", compat]).script(FIELD).run_within(BOUND)
}

/// What the layer said.
fn said(end: &End) -> usize {
    end.stderr.matches("] nvlaunch compat: ").count()
}

#[test]
fn releases_of_mmengine() {
    let needs = ["mmengine-0.7.0", "mmengine-0.8.5", "mmengine-0.10.1", "torch-2.4"];
    let Some(_turn) = turn("releases_of_mmengine", &needs) else { return };
    // The newest PyTorch takes the entry point, 2.4 the other way. What the newest does with 0.10.7 is
    // no heavy test.
    let (newest, old) = (None, Some("torch-2.4"));
    for (version, releases, without) in [
        ("0.7.0", &[newest, old][..], Some("ZeroDivisionError: integer modulo by zero")),
        ("0.8.5", &[newest], Some("RuntimeError: Found no NVIDIA driver on your system")),
        // With the newest PyTorch and Transformers beside it, it registers Adafactor twice.
        ("0.10.1", &[old], None),
        ("0.10.7", &[old], None),
    ] {
        for &pytorch in releases {
            let end = field(version, pytorch, "cpu").expect_code(0);
            for rank in 0..2 {
                let line = format!("分布式环境初始化完成 - Rank {rank}/2, Backend: gloo\n");
                assert!(end.stdout.contains(&line), "{version} {pytorch:?}: {}", end.stdout);
            }
            let trained = "] trained MMDistributedDataParallel True ";
            assert_eq!(end.stdout.matches(trained).count(), 2, "{version}: {}", end.stdout);
            say(&format!("mmengine {version}, {}: trained", pytorch.unwrap_or("the newest torch")));
        }
        let Some(without) = without else { continue };
        let end = field(version, newest, "auto").expect_code(1);
        assert!(end.stderr.contains(without), "{version}: {}", end.stderr);
        assert!(end.stderr.contains("--compat cpu starts it as it is"), "{}", end.stderr);
    }
}

#[test]
fn old_pytorch_by_hand() {
    for name in ["torch-2.1", "torch-2.4", "torch-2.8"] {
        let Some(_turn) = turn("old_pytorch_by_hand", &[name]) else { continue };
        for compat in ["cpu", "gcu"] {
            let job = two_ranks(name).env("WITH_WORKERS", "").args(["--compat", compat]);
            let end = job.script(BY_HAND).run_within(BOUND).expect_code(0);
            for rank in 0..2 {
                let line = format!("[rank {rank}] backends gloo gloo");
                assert!(lines(&end.stdout).contains(&&*line), "{name}: {}", end.stdout);
                let line = format!("[rank {rank}] gradient [[1.5, 1.5]]");
                assert!(lines(&end.stdout).contains(&&*line), "{name}: {}", end.stdout);
            }
            assert!(said(&end) >= 5, "{name}: {}", end.stderr);
        }
    }
}

/// Frameworks that look for devices by themselves do the same with the layer as without it.
#[test]
fn what_needs_no_layer_is_not_changed() {
    let test = "what_needs_no_layer_is_not_changed";
    let Some(_turn) = turn(test, &["frameworks"]) else { return };
    let seen = |compat: &str, job: Job| {
        let job = job.args(["--compat", compat]);
        // Accelerate's script is a module: its name comes last.
        let end = job.arg("-m").arg("accelerate.test_utils.scripts.test_script").run_within(BOUND);
        let end = end.expect_code(0);
        assert_eq!(said(&end), 0, "{}", end.stderr);
        // DeepSpeed, which Accelerate imports where it is there, says what time it is.
        let lines = lines(&end.stdout).into_iter().filter(|l| !l.contains("real_accelerator.py"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let accelerate = || two_ranks("frameworks").env("ACCELERATE_USE_CPU", "true");
    let without = seen("off", accelerate());
    assert!(without.len() > 50, "{without:#?}");
    assert_eq!(seen("cpu", accelerate()), without);

    let seen = |compat: &str| {
        let job = two_ranks("frameworks").args(["--compat", compat]).script(FABRIC);
        let end = job.run_within(BOUND).expect_code(0);
        assert_eq!(said(&end), 0, "{}", end.stderr);
        lines(&end.stdout).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let without = seen("off");
    assert!(without[0].starts_with("[rank 0] fabric 2 0 cpu ["), "{without:?}");
    assert_eq!(seen("cpu"), without);
}
