r"""Train a small sharded model and keep it with PyTorch's distributed checkpoints (DCP).

    nvlaunch --nproc 2 --checkpoint-dir checkpoints --checkpoint-layout dcp \
        examples/dcp_train.py --checkpoint-dir checkpoints

Every rank writes its own shards into `step-N/`; PyTorch writes `.metadata` last. nvlaunch looks for
the newest folder that is whole and names it in `NVLAUNCH_RESUME_FROM`, the same for every rank;
where there is none, nothing is set and the training starts from nothing. After any number of
restarts the last line is the same, to the last digit.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--steps", type=int, default=40, help="steps in all, resumed ones too")
    parser.add_argument("--checkpoint-every", type=int, default=5, metavar="N")
    parser.add_argument("--checkpoint-dir", type=Path, default=Path("checkpoints"))
    parser.add_argument("--width", type=int, default=128, help="of the hidden layers")
    return parser.parse_args()


def batch(step: int, rank: int) -> tuple[Tensor, Tensor]:
    """Return the data of a step: it follows from the step and the rank alone."""
    generator = torch.Generator().manual_seed(1000 * step + rank)
    inputs = torch.randn(16, 32, generator=generator)
    return inputs, inputs.sum(1, keepdim=True).sin()


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> dict[str, Any]:
    """Return everything that a step depends on; each rank has its own random state."""
    weights, optimizers = get_state_dict(model, optimizer)
    random = {f"random_{dist.get_rank()}": torch.get_rng_state()}
    return {"model": weights, "optimizer": optimizers, "step": step, **random}


def digest(model: nn.Module) -> str:
    """Return a short digest of all weights, bit for bit."""
    total = hashlib.sha256()
    for weight in model.parameters():
        total.update(weight.full_tensor().detach().numpy().tobytes())
    return total.hexdigest()[:16]


def main() -> None:
    """Run the job."""
    args = parse_args()
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(32, args.width),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(args.width, args.width),
        nn.ReLU(),
        nn.Linear(args.width, 1),
    )
    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    # From here on each rank draws its own numbers (dropout).
    torch.manual_seed(1 + rank)

    done = 0
    source = os.environ.get("NVLAUNCH_RESUME_FROM")
    if source:
        state = state_of(model, optimizer, 0)
        dcp.load(state, checkpoint_id=source)
        set_state_dict(
            model,
            optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
        )
        torch.set_rng_state(state[f"random_{rank}"])
        done = state["step"]
        if rank == 0:
            print(f"continuing after step {done} from {source}", flush=True)

    loss = torch.zeros(())
    while done < args.steps:
        inputs, targets = batch(done, rank)
        loss = nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        done += 1
        if done % args.checkpoint_every == 0 and done < args.steps:
            folder = args.checkpoint_dir / f"step-{done}"
            dcp.save(state_of(model, optimizer, done), checkpoint_id=folder)

    total = loss.detach().clone()
    dist.all_reduce(total)
    weights = digest(model)
    if rank == 0:
        print(f"done: step {done} loss {total.item():.9g} weights {weights}", flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
