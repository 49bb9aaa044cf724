r"""Train a small model with MMEngine's Runner, on made-up data.

    nvlaunch --nproc 2 --checkpoint-dir work --resume-style mmengine \
        examples/mmengine_train.py --work-dir work

MMEngine writes its files in place, and `resume=True` alone follows `last_checkpoint` wherever it
leads. nvlaunch fills in `--resume PATH` with the newest file that is whole, or nothing where there
is none. After any number of restarts the last line is the same, to the last digit.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn


class Model(BaseModel):
    """A small network."""

    def __init__(self, width: int) -> None:
        """Make the layers."""
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(32, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 1)
        )

    def forward(self, inputs: Tensor, targets: Tensor, mode: str = "tensor") -> Any:
        """Return the loss, or what the network says."""
        outputs = self.net(inputs)
        if mode == "loss":
            return {"loss": nn.functional.mse_loss(outputs, targets)}
        return outputs


class RandomStates(Hook):
    """Keeps each rank's random state in the checkpoints."""

    priority = "VERY_LOW"

    def __init__(self) -> None:
        """Begin with none."""
        self.states: list[Tensor] = []

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add what was gathered at the end of the step."""
        checkpoint["random"] = self.states

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Remember them until the training goes on."""
        self.states = checkpoint["random"]

    def before_train_epoch(self, runner: Runner) -> None:
        """Set this rank's own; the data loader has drawn its numbers."""
        if self.states:
            torch.set_rng_state(self.states[runner.rank])
        else:
            torch.manual_seed(1 + runner.rank)


class Gather(Hook):
    """Gathers the random states before the checkpoint hook saves them: every rank comes here."""

    priority = "ABOVE_NORMAL"

    def __init__(self, kept: RandomStates, losses: list[Tensor]) -> None:
        """Remember where to put them."""
        self.kept, self.losses = kept, losses

    def after_train_epoch(self, runner: Runner) -> None:
        """Gather."""
        states: list[Any] = [None] * runner.world_size
        dist.all_gather_object(states, torch.get_rng_state())
        self.kept.states = states

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Remember the loss."""
        self.losses[:] = [outputs["loss"].detach()]


def main() -> None:
    """Run the job."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--work-dir", default="work")
    parser.add_argument("--resume", metavar="PATH", help="checkpoint to continue from")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--width", type=int, default=128, help="of the hidden layer")
    args = parser.parse_args()

    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(40, 32, generator=generator)
    data = [(vector, vector.sum(0, keepdim=True).sin()) for vector in vectors]
    torch.manual_seed(0)
    # MMEngine 0.10 is from before PyTorch 2.6: its checkpoints hold more than plain weights.
    os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    # MMEngine 0.10 asks for a CUDA device before it makes the group itself.
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    random, losses = RandomStates(), []
    source = args.resume or os.environ.get("NVLAUNCH_RESUME_FROM")
    runner = Runner(
        model=Model(args.width),
        work_dir=args.work_dir,
        train_dataloader=dict(
            batch_size=4,
            dataset=data,
            sampler=dict(type="DefaultSampler", shuffle=True, seed=0),
            collate_fn=dict(type="default_collate"),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=args.epochs),
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=0.001)),
        default_hooks=dict(logger=None, checkpoint=dict(type="CheckpointHook", interval=1)),
        custom_hooks=[random, Gather(random, losses)],
        resume=bool(source),
        load_from=source,
        launcher="pytorch",
        # Without a wrapper of its own choice it names a CUDA device for each rank.
        cfg=dict(model_wrapper_cfg=dict(type="MMDistributedDataParallel", device_ids=None)),
        env_cfg=dict(dist_cfg=dict(backend="gloo")),
        randomness=dict(seed=0),
        log_level="ERROR",
        experiment_name=Path(args.work_dir).name,
    )
    runner.train()

    total = losses[0].clone()
    dist.all_reduce(total)
    digest = hashlib.sha256()
    for weight in runner.model.parameters():
        digest.update(weight.detach().cpu().numpy().tobytes())
    if runner.rank == 0:
        done = f"done: step {runner.iter} loss {total.item():.9g}"
        print(f"{done} weights {digest.hexdigest()[:16]}", flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
