"""Train a small character-level transformer on the sources of Python's standard library.

A complete data-parallel training job in one file, written to be copied. It needs nothing but
PyTorch and downloads nothing. It runs on GPUs (NCCL) where there are any, on CPUs (gloo) elsewhere.

    nvlaunch --nproc 2 examples/train.py
    torchrun --nproc-per-node 2 examples/train.py
    python examples/train.py                        # one process, no launcher

What a job needs in order to be stopped, restarted and moved at any time, and where it is here:

- A checkpoint is whole or absent: it is written under another name, synced to the disk and then
  renamed (`save_checkpoint`).
- A new start continues: from `--resume`, from `NVLAUNCH_RESUME_FROM`, or from the newest file in
  `--checkpoint-dir` that can be read (`find_checkpoint`).
- A request to stop (SIGTERM, SIGINT) is agreed on: every rank leaves after the same step, so that
  nobody waits in a collective for a rank that is gone (`StopRequest`, and `train`).
- What a rank reads at step N follows from the seed, N and its rank alone (`Batches`), so that a
  continued run sees the data that it would have seen.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import sys
import sysconfig
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn.parallel import DistributedDataParallel

# Newline and the printable ASCII characters; everything else in the text is left out.
ALPHABET = "\n" + "".join(chr(code) for code in range(32, 127))
TEXT_LIMIT = 2_000_000
CHECKPOINTS_KEPT = 2
CHECKPOINT_NAME = re.compile(r"step-(\d{8})\.pt")


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Train a small character-level transformer on Python's standard library.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=200, help="steps in all, resumed ones too")
    parser.add_argument("--batch-size", type=int, default=16, help="sequences per rank and step")
    parser.add_argument("--context", type=int, default=128, help="characters per sequence")
    parser.add_argument("--dim", type=int, default=128, help="width of the model")
    parser.add_argument("--layers", type=int, default=2, help="transformer blocks")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and data order")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--log-every", type=int, default=20, metavar="N", help="steps per line")
    parser.add_argument(
        "--checkpoint-dir", type=Path, default=Path("checkpoints"), help="seen by every rank"
    )
    parser.add_argument(
        "--checkpoint-every", type=int, default=20, metavar="N", help="steps per checkpoint"
    )
    parser.add_argument("--resume", type=Path, metavar="PATH", help="checkpoint to continue from")
    parser.add_argument(
        "--fail-at-step", type=int, metavar="K", help="crash before step K of the first attempt"
    )
    parser.add_argument("--fail-rank", type=int, default=0, metavar="R", help="rank that crashes")
    args = parser.parse_args()
    for name in ("steps", "batch_size", "context", "layers", "log_every", "checkpoint_every"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if args.dim < 32 or args.dim % 32 != 0:
        parser.error("--dim must be a multiple of 32, the width of an attention head")
    return args


class StopRequest:
    """Notes that somebody asked this process to end; the training loop decides when."""

    def __init__(self) -> None:
        """Take over SIGTERM and SIGINT."""
        self.seen = False
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, self._note)

    def _note(self, _signum: int, _frame: FrameType | None) -> None:
        self.seen = True


def start_distributed(choice: str) -> torch.device:
    """Join the process group and return this rank's device."""
    cuda = choice == "cuda" or (choice == "auto" and torch.cuda.is_available())
    device = torch.device("cpu")
    if cuda:
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if local_rank >= torch.cuda.device_count():
            sys.exit(
                f"local rank {local_rank} has no GPU of its own: {torch.cuda.device_count()} "
                "visible here; start fewer ranks per node, or pass --device cpu"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    backend = "nccl" if cuda else "gloo"
    if "RANK" in os.environ:
        dist.init_process_group(backend)
    else:
        # No launcher: a group of one, which needs no address.
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    return device


def say(text: str) -> None:
    """Print a line, once for the whole job."""
    if dist.get_rank() == 0:
        print(text, flush=True)


def load_text() -> Tensor:
    """Return the standard library's top-level modules as indices into `ALPHABET`.

    The order is fixed by the names, so every rank reads the same text.
    """
    index = {ord(char): number for number, char in enumerate(ALPHABET)}
    codes: list[int] = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        codes.extend(index[byte] for byte in path.read_bytes() if byte in index)
        if len(codes) >= TEXT_LIMIT:
            break
    if not codes:
        sys.exit("this Python has no sources of its standard library to train on")
    return torch.tensor(codes[:TEXT_LIMIT], dtype=torch.uint8)


class Batches:
    """Cuts the text into windows and deals them out to the ranks, shuffled anew each epoch."""

    def __init__(self, text: Tensor, args: argparse.Namespace, rank: int, world: int) -> None:
        """Remember the split; nothing is drawn yet."""
        self.text, self.context, self.seed = text, args.context, args.seed
        self.rank, self.world = rank, world
        self.global_batch = args.batch_size * world
        self.windows = (len(text) - 1) // args.context
        self.steps_per_epoch = self.windows // self.global_batch
        if self.steps_per_epoch == 0:
            sys.exit(
                f"a batch of {self.global_batch} sequences needs more text than there is "
                f"({self.windows} sequences of {self.context} characters)"
            )
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.long)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Return this rank's inputs and targets for `step`, counted from 0."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            shuffle = torch.Generator().manual_seed(self.seed + epoch)
            self._order = torch.randperm(self.windows, generator=shuffle)
            self._epoch = epoch
        first = position * self.global_batch
        mine = self._order[first : first + self.global_batch][self.rank :: self.world]
        offsets = mine[:, None] * self.context + torch.arange(self.context + 1)
        chars = self.text[offsets].long()
        return chars[:, :-1], chars[:, 1:]


class Block(nn.Module):
    """One transformer block: causal attention, then a feed-forward network."""

    def __init__(self, dim: int) -> None:
        """Make the layers."""
        super().__init__()
        self.heads = dim // 32
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.dropout = nn.Dropout(0.05)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, time, dim) to the same shape."""
        batch, time_, dim = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, time_, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).reshape(batch, time_, dim)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class CharModel(nn.Module):
    """A character-level language model."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Make the layers."""
        super().__init__()
        self.chars = nn.Embedding(len(ALPHABET), args.dim)
        self.places = nn.Embedding(args.context, args.dim)
        self.blocks = nn.Sequential(*(Block(args.dim) for _ in range(args.layers)))
        self.norm = nn.LayerNorm(args.dim)
        self.head = nn.Linear(args.dim, len(ALPHABET), bias=False)
        # An untrained model then knows nothing: its loss is close to ln(96) = 4.56.
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy in nats per character."""
        places = torch.arange(inputs.shape[1], device=inputs.device)
        hidden = self.norm(self.blocks(self.chars(inputs) + self.places(places)))
        return F.cross_entropy(self.head(hidden).flatten(0, 1), targets.flatten())


def learning_rate(step: int, args: argparse.Namespace) -> float:
    """Return the rate for `step`: a short warm-up, then a cosine down to a tenth."""
    warm_up = min(1.0, (step + 1) / 10)
    decay = 0.55 + 0.45 * math.cos(math.pi * min(1.0, step / args.steps))
    return args.lr * warm_up * decay


def random_state(device: torch.device) -> list[Tensor]:
    """Return this rank's random number generators: the CPU's, and the GPU's if it has one."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def set_random_state(states: list[Tensor], device: torch.device) -> None:
    """Undo `random_state`."""
    torch.set_rng_state(states[0])
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> None:
    """Write the state after `step` steps; every rank must call this.

    The rename comes after the data is on the disk, so a file with a checkpoint's name is whole
    whatever happens to this process, and the one before it is deleted last.
    """
    rng: list[list[Tensor]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(rng, random_state(device))
    if dist.get_rank() != 0:
        return
    state = {
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": rng,
    }
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{step:08d}.pt"
    partial = final.with_suffix(".pt.tmp")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(final)
    # The new name is safe once the folder itself is on the disk.
    folder_fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)
    for old in checkpoints(folder)[CHECKPOINTS_KEPT:]:
        old.unlink(missing_ok=True)
    for leftover in folder.glob("step-*.pt.tmp"):
        leftover.unlink(missing_ok=True)


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, the newest first."""
    found = [path for path in folder.glob("step-*.pt") if CHECKPOINT_NAME.fullmatch(path.name)]
    return sorted(found, reverse=True)


def find_checkpoint(args: argparse.Namespace) -> Path | None:
    """Choose what to continue from; `None` is a start from nothing.

    A checkpoint that was named must be usable. Of those found in the folder, one that cannot be
    read is passed over for the one before it.
    """
    named = args.resume or os.environ.get("NVLAUNCH_RESUME_FROM")
    if named:
        return Path(named)
    for path in checkpoints(args.checkpoint_dir):
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever is wrong with it, the older one may do
            print(f"{path} cannot be read ({error}); trying the one before it", flush=True)
        else:
            return path
    return None


def agree_on_checkpoint(args: argparse.Namespace) -> Path | None:
    """Let rank 0 choose, so that all ranks continue from the same file."""
    choice = [find_checkpoint(args) if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(choice, src=0)
    return choice[0]


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> int:
    """Restore everything from `path` and return the number of steps that are done."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    # With more ranks than before, the new ones keep the generators they started with.
    if dist.get_rank() < len(state["rng"]):
        set_random_state(state["rng"][dist.get_rank()], device)
    return int(state["step"])


def crash_once(step: int, args: argparse.Namespace) -> None:
    """Fail if `--fail-at-step` asks for it, on the first attempt only."""
    attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    if step == args.fail_at_step and dist.get_rank() == args.fail_rank and attempt == 0:
        raise RuntimeError(f"rank {args.fail_rank} fails at step {step}, as --fail-at-step asks")


def train(args: argparse.Namespace, stop: StopRequest, device: torch.device) -> None:
    """Run the training loop to its end, or to the first request to stop."""
    rank, world = dist.get_rank(), dist.get_world_size()
    batches = Batches(load_text(), args, rank, world)
    torch.manual_seed(args.seed)
    model = CharModel(args).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    # From here on each rank draws its own numbers (dropout); the weights above are the same.
    torch.manual_seed(args.seed + 1 + rank)

    done = 0
    source = agree_on_checkpoint(args)
    if source is not None:
        done = load_checkpoint(source, model, optimizer, device)
        say(f"continuing after step {done} from {source}")
    resumed = saved = done
    parallel = DistributedDataParallel(
        model, device_ids=[device] if device.type == "cuda" else None
    )
    size = sum(weight.numel() for weight in model.parameters())
    say(f"{world} rank(s) on {device.type}, {size:,} parameters, {len(batches.text):,} characters")

    tokens_per_step = batches.global_batch * args.context
    timer, timed, loss_sum = time.perf_counter(), 0, 0.0
    stopping = False
    while done < args.steps and not stopping:
        crash_once(done + 1, args)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(done, args)
        inputs, targets = batches.at(done)
        loss = parallel(inputs.to(device), targets.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        done += 1
        timed += 1

        # One small collective per step tells everybody the mean loss and whether anybody was
        # asked to stop. All ranks see the same sum, so all leave the loop after the same step.
        shared = torch.stack([loss.detach(), loss.new_tensor(float(stop.seen))])
        dist.all_reduce(shared)
        loss_of_ranks, stops = shared.tolist()
        loss_sum += loss_of_ranks / world
        stopping = stops > 0
        if done == 1 or done % args.log_every == 0 or done == args.steps:
            now = time.perf_counter()
            speed = timed * tokens_per_step / (now - timer)
            say(f"step {done}/{args.steps}  loss {loss_sum / timed:.2f}  tokens/s {speed:.0f}")
            timer, timed, loss_sum = now, 0, 0.0
        if done % args.checkpoint_every == 0:
            save_checkpoint(args.checkpoint_dir, done, model, optimizer, device)
            saved = done

    if saved < done:
        save_checkpoint(args.checkpoint_dir, done, model, optimizer, device)
    if done < args.steps:
        say(f"stopped after step {done} as asked; saved in {args.checkpoint_dir}")
    elif done == resumed:
        say(f"nothing left of {args.steps} steps; raise --steps or remove the checkpoints")
    else:
        say(f"done: {done} steps; saved in {args.checkpoint_dir}")


@record  # writes the traceback of a failure to where the launcher looks for it
def main() -> None:
    """Run the job."""
    args = parse_args()
    stop = StopRequest()
    device = start_distributed(args.device)
    train(args, stop, device)
    # Rank 0 may still be saving, and gloo may still be ending a collective in the background (a
    # process that exits then can abort): nobody takes the connections down before all are here.
    dist.barrier(device_ids=[device.index] if device.type == "cuda" else None)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
