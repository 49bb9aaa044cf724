"""Rank 1 fails in attempt 0, after the ranks have talked; attempt 1 completes."""

import os

import torch
import torch.distributed as dist

attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
print(f"attempt {attempt} of {os.environ['TORCHELASTIC_MAX_RESTARTS']}")
print(f"port in {attempt} is {os.environ['MASTER_PORT']}")
dist.init_process_group("gloo")
store = dist.distributed_c10d._get_default_store()
if attempt:
    # Before 2.2 there is no `check`; adding nothing makes a key of its own where none was.
    print(f"stale {bool(store.add('left-by-0', 0))} in {attempt}")
store.set(f"left-by-{attempt}", "1")
number = torch.tensor([dist.get_rank() + 1.0])
dist.all_reduce(number)
if attempt == 0:
    if dist.get_rank() == 1:
        os._exit(3)
    dist.barrier()
dist.barrier()
print(f"sum {int(number)} in {attempt}", flush=True)
dist.destroy_process_group()
# PyTorch may abort while the interpreter ends; that is not what is tested here.
os._exit(0)
