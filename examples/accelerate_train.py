r"""Train a small model with Accelerate, on made-up data.

    nvlaunch --nproc 2 --checkpoint-dir project --checkpoint-layout accelerate --quarantine \
        examples/accelerate_train.py --project_dir project

`load_state()` without a path takes the highest `checkpoint_N`, whole or not, and `save_state()`
refuses to write over one that is there: `--quarantine` puts a broken one aside. nvlaunch names the
newest that is whole in `NVLAUNCH_RESUME_FROM`. After any number of restarts the last line is the
same, to the last digit.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, set_seed
from torch import nn


class Progress:
    """What the loop must know after a restart; Accelerate saves it with the rest."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.step = 0

    def state_dict(self) -> dict[str, int]:
        """Return what is saved."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Take back what was saved."""
        self.step = state["step"]


def main() -> None:
    """Run the job."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--project_dir", default="project")
    parser.add_argument("--resume_from_checkpoint", metavar="PATH")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--checkpoint_every", type=int, default=5, metavar="N")
    parser.add_argument("--width", type=int, default=128, help="of the hidden layers")
    args = parser.parse_args()

    names = ProjectConfiguration(args.project_dir, automatic_checkpoint_naming=True)
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), project_config=names)
    set_seed(0)
    model = nn.Sequential(
        nn.Linear(32, args.width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(args.width, 1)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=args.steps)
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
    progress = Progress()
    accelerator.register_for_checkpointing(progress)
    # From here on each rank draws its own numbers (dropout).
    set_seed(1 + accelerator.process_index)

    source = args.resume_from_checkpoint or os.environ.get("NVLAUNCH_RESUME_FROM")
    if source:
        accelerator.load_state(source)
        # The next save has the next number.
        names.iteration = int(Path(source).name.rpartition("_")[2]) + 1
        accelerator.print(f"continuing after step {progress.step} from {source}", flush=True)

    loss = torch.zeros(())
    while progress.step < args.steps:
        generator = torch.Generator()
        generator.manual_seed(1000 * progress.step + accelerator.process_index)
        inputs = torch.randn(16, 32, generator=generator).to(accelerator.device)
        loss = nn.functional.mse_loss(model(inputs), inputs.sum(1, keepdim=True).sin())
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        scheduler.step()
        progress.step += 1
        if progress.step % args.checkpoint_every == 0 and progress.step < args.steps:
            accelerator.save_state()

    total = accelerator.reduce(loss.detach())
    digest = hashlib.sha256()
    for weight in model.parameters():
        digest.update(weight.detach().cpu().numpy().tobytes())
    done = f"done: step {progress.step} loss {total.item():.9g}"
    accelerator.print(f"{done} weights {digest.hexdigest()[:16]}", flush=True)
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
