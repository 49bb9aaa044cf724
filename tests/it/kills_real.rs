//! Trainings with `PyTorch`'s own checkpoints, files of `torch.save`, and the Hugging Face Trainer,
//! killed again and again.

use crate::kills::Training;

#[test]
fn distributed_checkpoints_survive_kills() {
    let training = Training {
        example: "dcp_train.py",
        args: &["--checkpoint-dir", "saved", "--steps", "300"],
        depth: 0,
        warm: "torch,torch._dynamo,torch.distributed.fsdp,torch.distributed.checkpoint",
        options: &["--quarantine"],
        env: Vec::new(),
    };
    println!("{}", training.survives_kills());
}

#[test]
fn the_trainer_survives_kills() {
    let training = Training {
        example: "hf_trainer.py",
        args: &["--output_dir", "saved", "--max_steps", "300"],
        depth: 0,
        warm: "torch,torch._dynamo,transformers.trainer",
        options: &["--quarantine", "--resume-style", "hf"],
        env: Vec::new(),
    };
    println!("{}", training.survives_kills());
}
