"""Makes its default group and another one TIMES times in one process."""

import os

import torch
import torch.distributed as dist

for number in range(int(os.environ["TIMES"])):
    dist.init_process_group("gloo")
    one = torch.ones(1)
    # The one that is last here is still in this group when another one begins the next.
    dist.all_reduce(one, group=dist.new_group(list(range(dist.get_world_size()))))
    dist.all_reduce(one)
    if number % 2:
        dist.barrier()
    world = dist.get_world_size()
    assert int(one) == world * world, one
    dist.destroy_process_group()
print(f"made {number + 1}", flush=True)
# PyTorch may abort while the interpreter ends; that is not what is tested here.
os._exit(0)
