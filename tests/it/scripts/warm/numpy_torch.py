"""With torch imported once: threads, seeds, states, and that they work."""

import os
import random
import sys

import numpy
import torch
from seen import own, say

own("numpy", numpy.random.rand())
own("numpy's generator", numpy.random.default_rng().random())
own("random", random.random())
own("initial seed", torch.initial_seed())
own("torch", torch.rand(1).item())
own("torch seed", torch.seed())
say("threads", (torch.get_num_threads(), torch.get_num_interop_threads()))
say(
    "defaults",
    (torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
)
say("matmul", (torch.ones(300, 300) @ torch.ones(300, 300)).sum().item())
model = torch.nn.Linear(3, 1)
model(torch.ones(2, 3)).sum().backward()
say("backward", model.weight.grad.tolist())
say("cuda", (torch.cuda.is_initialized(), torch.cuda._is_in_bad_fork(), torch.cuda.is_available()))
say("numpy and back", torch.from_numpy(numpy.arange(3)).tolist())
say("sharing", torch.multiprocessing.get_sharing_strategy())
say(
    "distributed",
    (
        torch.distributed.is_available(),
        torch.distributed.is_initialized(),
        torch.distributed.is_torchelastic_launched(),
    ),
)
from torch.utils.data import DataLoader

for method in ("fork", "spawn", "forkserver") if sys.argv[1:] else ("fork",):
    batches = DataLoader(range(8), batch_size=4, num_workers=2, multiprocessing_context=method)
    say("loader by " + method, [batch.tolist() for batch in batches])
sys.stdout.flush()
os._exit(0)
