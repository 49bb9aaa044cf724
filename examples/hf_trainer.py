r"""Train a tiny GPT-2 with Hugging Face's Trainer (transformers), on made-up data.

    nvlaunch --nproc 2 --checkpoint-dir out --resume-style hf --quarantine \
        examples/hf_trainer.py --output_dir out

The Trainer's own `True` takes the highest `checkpoint-N`, whole or not. nvlaunch fills in
`--resume_from_checkpoint PATH` with the newest that is whole, or nothing where there is none. After
any number of restarts the last line is the same, to the last digit.
"""

from __future__ import annotations

import argparse
import hashlib
import os

import torch
import torch.distributed as dist
import transformers
from torch import Tensor


class Sentences(torch.utils.data.Dataset):
    """Sentences that count up, each from a place of its own."""

    def __len__(self) -> int:
        """Return how many there are."""
        return 256

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one of them."""
        tokens = (torch.arange(16) * (1 + index % 3) + index) % 64
        return {"input_ids": tokens, "labels": tokens}


def main() -> None:
    """Run the job."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--output_dir", default="out")
    parser.add_argument("--resume_from_checkpoint", metavar="PATH")
    parser.add_argument("--max_steps", type=int, default=40)
    parser.add_argument("--save_steps", type=int, default=5)
    parser.add_argument("--n_embd", type=int, default=64, help="width of the model")
    args = parser.parse_args()

    transformers.set_seed(0)
    config = transformers.GPT2Config(
        n_layer=1,
        n_embd=args.n_embd,
        n_head=2,
        vocab_size=64,
        n_positions=16,
        bos_token_id=0,
        eos_token_id=0,
    )
    trainer = transformers.Trainer(
        model=transformers.GPT2LMHeadModel(config),
        args=transformers.TrainingArguments(
            output_dir=args.output_dir,
            max_steps=args.max_steps,
            save_steps=args.save_steps,
            per_device_train_batch_size=4,
            learning_rate=1e-3,
            logging_steps=1,
            seed=0,
            use_cpu=not torch.cuda.is_available(),
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=Sentences(),
    )
    source = args.resume_from_checkpoint or os.environ.get("NVLAUNCH_RESUME_FROM")
    trainer.train(resume_from_checkpoint=source)

    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    digest = hashlib.sha256()
    for weight in trainer.model.parameters():
        digest.update(weight.detach().cpu().numpy().tobytes())
    if trainer.is_world_process_zero():
        step, weights = trainer.state.global_step, digest.hexdigest()[:16]
        print(f"done: step {step} loss {float(losses[-1]):.9g} weights {weights}", flush=True)
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
