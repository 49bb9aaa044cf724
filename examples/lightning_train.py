r"""Train a small model with Lightning, on made-up data.

    nvlaunch --nproc 2 --checkpoint-dir checkpoints --resume-style lightning \
        examples/lightning_train.py --checkpoint_dir checkpoints

nvlaunch fills in `--ckpt_path PATH` with the newest checkpoint that is whole, or nothing where
there is none. After any number of restarts the last line is the same, to the last digit.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from typing import Any

import lightning
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn


class Numbers(torch.utils.data.Dataset):
    """Vectors whose sum is to be guessed."""

    def __len__(self) -> int:
        """Return how many there are."""
        return 40

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return one of them: it follows from its index alone."""
        vector = torch.randn(32, generator=torch.Generator().manual_seed(index))
        return vector, vector.sum(0, keepdim=True).sin()


class Model(lightning.LightningModule):
    """A small network that keeps each rank's random state in its checkpoints."""

    def __init__(self, width: int) -> None:
        """Make the layers."""
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(32, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 1)
        )
        self.last_loss = torch.zeros(())
        self.random: list[Tensor] = []

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        """Return the loss of one batch."""
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        self.last_loss = loss.detach()
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _index: int) -> None:
        """Look at one batch."""
        nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the random states of all ranks; every rank comes here."""
        states: list[Any] = [None] * self.trainer.world_size
        if dist.is_initialized():
            dist.all_gather_object(states, torch.get_rng_state())
        else:
            states = [torch.get_rng_state()]
        checkpoint["random"] = states

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember them until the training goes on."""
        self.random = checkpoint["random"]

    def on_train_start(self) -> None:
        """Set this rank's own."""
        if self.random:
            torch.set_rng_state(self.random[self.global_rank])
        else:
            torch.manual_seed(1 + self.global_rank)


def main() -> None:
    """Run the job."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--checkpoint_dir", default="checkpoints")
    parser.add_argument("--ckpt_path", metavar="PATH", help="checkpoint to continue from")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--width", type=int, default=128, help="of the hidden layer")
    args = parser.parse_args()

    lightning.seed_everything(0, verbose=False)
    model = Model(args.width)
    # Between epochs, after validation: only from there Lightning goes on with the batches that it
    # would have seen.
    saver = ModelCheckpoint(
        args.checkpoint_dir, save_top_k=-1, every_n_epochs=1, save_on_train_epoch_end=False
    )
    trainer = lightning.Trainer(
        accelerator="auto" if torch.cuda.is_available() else "cpu",
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        strategy="ddp",
        max_steps=args.steps,
        callbacks=[saver],
        logger=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    source = args.ckpt_path or os.environ.get("NVLAUNCH_RESUME_FROM")
    # With a generator of its own the loader draws nothing from the random state of the rank.
    loader = torch.utils.data.DataLoader(
        Numbers(), batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(0)
    )
    checks = torch.utils.data.DataLoader(Numbers(), batch_size=8, generator=torch.Generator())
    trainer.fit(model, loader, checks, ckpt_path=source, weights_only=False)

    total = model.last_loss.clone()
    digest = hashlib.sha256()
    for weight in model.parameters():
        digest.update(weight.detach().cpu().numpy().tobytes())
    if dist.is_initialized():
        dist.all_reduce(total)
    if trainer.is_global_zero:
        done = f"done: step {trainer.global_step} loss {total.item():.9g}"
        print(f"{done} weights {digest.hexdigest()[:16]}", flush=True)
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
