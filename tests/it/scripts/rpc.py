"""One call from rank 0 to rank 1."""

import os
import sys

import torch
import torch.distributed.rpc as rpc

rank = int(os.environ["RANK"])
rpc.init_rpc(f"worker{rank}", rank=rank, world_size=2)
if rank == 0:
    print("sum", int(rpc.rpc_sync("worker1", torch.add, (torch.ones(1), 1))))
rpc.shutdown()
sys.stdout.flush()
# PyTorch may abort while the interpreter ends; that is not what is tested here.
os._exit(0)
