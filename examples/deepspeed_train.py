r"""Train a small model with DeepSpeed (ZeRO stage 1), on made-up data.

    nvlaunch --nproc 2 --checkpoint-dir save --resume-style deepspeed \
        examples/deepspeed_train.py --save_dir save

`latest` may name a folder that other ranks still write. nvlaunch fills in `--load_dir DIR --ckpt_id
TAG` with the newest that is whole, or nothing where there is none. After any number of restarts the
last line is the same, to the last digit.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path

import deepspeed
import torch
import torch.distributed as dist
from torch import nn


def main() -> None:
    """Run the job."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--save_dir", default="save")
    parser.add_argument("--load_dir", metavar="DIR", help="where to continue from, with --ckpt_id")
    parser.add_argument("--ckpt_id", metavar="TAG")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--checkpoint_every", type=int, default=5, metavar="N")
    parser.add_argument("--width", type=int, default=128, help="of the hidden layer")
    args = parser.parse_args()
    source = os.environ.get("NVLAUNCH_RESUME_FROM")
    if not args.load_dir and source:
        args.load_dir, args.ckpt_id = str(Path(source).parent), Path(source).name

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(32, args.width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(args.width, 1)
    )
    has_gpu = torch.cuda.is_available()
    deepspeed.init_distributed("nccl" if has_gpu else "gloo")
    rank = dist.get_rank()
    engine, *_ = deepspeed.initialize(
        model=net,
        # DeepSpeed's own optimizers are built on the first use.
        optimizer=torch.optim.AdamW(net.parameters(), lr=1e-3),
        config={
            "train_micro_batch_size_per_gpu": 16,
            "zero_optimization": {"stage": 1},
            "bf16": {"enabled": True},
            "zero_allow_untested_optimizer": True,
        },
    )
    # From here on each rank draws its own numbers (dropout).
    torch.manual_seed(1 + rank)
    done = 0
    if args.load_dir:
        path, state = engine.load_checkpoint(args.load_dir, tag=args.ckpt_id)
        if path is None:
            raise RuntimeError(f"DeepSpeed found nothing in {args.load_dir} for {args.ckpt_id}")
        done = state["step"]
        torch.set_rng_state(state["random"][rank])
        if rank == 0:
            print(f"continuing after step {done} from {args.load_dir}", flush=True)

    loss = torch.zeros(())
    while done < args.steps:
        generator = torch.Generator().manual_seed(1000 * done + rank)
        inputs = torch.randn(16, 32, generator=generator)
        targets = inputs.sum(1, keepdim=True).sin()
        inputs, targets = inputs.to(engine.device), targets.to(engine.device)
        loss = nn.functional.mse_loss(engine(inputs.bfloat16()).float(), targets)
        engine.backward(loss)
        engine.step()
        done += 1
        if done % args.checkpoint_every == 0 and done < args.steps:
            random = [torch.empty(0) for _ in range(dist.get_world_size())]
            dist.all_gather_object(random, torch.get_rng_state())
            state = {"step": done, "random": random}
            engine.save_checkpoint(args.save_dir, client_state=state)

    total = loss.detach().clone()
    dist.all_reduce(total)
    digest = hashlib.sha256()
    for weight in engine.module.parameters():
        digest.update(weight.detach().float().cpu().numpy().tobytes())
    if rank == 0:
        text = f"done: step {done} loss {total.item():.9g} weights {digest.hexdigest()[:16]}"
        print(text, flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
