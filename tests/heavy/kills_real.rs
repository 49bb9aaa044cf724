//! Trainings with Accelerate, Lightning, `MMEngine` and `DeepSpeed`, killed again and again.

use std::path::Path;

use crate::kills::Training;
use crate::{environment, say, turn};

/// `DeepSpeed` takes up to ten seconds for its first step.
const TORCH: &str = "torch,torch._dynamo";

fn training(example: &'static str) -> Training {
    let python = environment("frameworks").join("bin/python");
    Training {
        example,
        args: &[],
        depth: 0,
        warm: TORCH,
        options: &["--quarantine"],
        env: vec![("PYTHON_EXEC", python)],
    }
}

#[test]
fn accelerate_survives_kills() {
    let Some(_turn) = turn("accelerate_survives_kills", &["frameworks"]) else { return };
    let training = Training {
        args: &["--project_dir", "saved", "--steps", "300"],
        depth: 1,
        warm: "torch,torch._dynamo,accelerate",
        options: &["--quarantine", "--resume-style", "accelerate"],
        ..training("accelerate_train.py")
    };
    say(&training.survives_kills());
}

#[test]
fn lightning_survives_kills() {
    let Some(_turn) = turn("lightning_survives_kills", &["frameworks"]) else { return };
    let training = Training {
        args: &["--checkpoint_dir", "saved", "--steps", "300"],
        warm: "torch,torch._dynamo,lightning",
        options: &["--quarantine", "--resume-style", "lightning"],
        ..training("lightning_train.py")
    };
    say(&training.survives_kills());
}

#[test]
fn mmengine_survives_kills() {
    let Some(_turn) = turn("mmengine_survives_kills", &["frameworks"]) else { return };
    let training = Training {
        args: &["--work-dir", "saved", "--epochs", "60"],
        warm: "torch,torch._dynamo,mmengine.runner",
        options: &["--quarantine", "--checkpoint-layout", "mmengine", "--resume-style", "mmengine"],
        ..training("mmengine_train.py")
    };
    say(&training.survives_kills());
}

#[test]
fn deepspeed_survives_kills() {
    let Some(_turn) = turn("deepspeed_survives_kills", &["frameworks"]) else { return };
    let programs = environment("frameworks").join("bin");
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", programs.display());
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/torch-extensions");
    let mut training = Training {
        args: &["--save_dir", "saved", "--steps", "300"],
        options: &["--quarantine", "--resume-style", "deepspeed"],
        ..training("deepspeed_train.py")
    };
    // It builds a part of itself on its first use, with ninja and a C++ compiler.
    training.env.push(("PATH", path.into()));
    training.env.push(("TORCH_EXTENSIONS_DIR", built));
    say(&training.survives_kills());
}
