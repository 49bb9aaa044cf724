"""A rank of the benchmark of warm start: says when its first `all_reduce` was finished, and stays.

It stays until there is a file `go`; in the first attempt of a run with BENCH_RESTART, for ever.
"""

import os
import time

import torch
import torch.distributed as dist

dist.init_process_group("gloo")
dist.all_reduce(torch.ones(1))
now = time.monotonic_ns()

folder = os.environ["BENCH_STAMPS"]
attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
stamp = os.path.join(folder, "%s.%s" % (os.environ["RANK"], attempt))
with open(stamp + ".part", "w") as file:
    file.write("%d %d" % (now, os.getpid()))
os.rename(stamp + ".part", stamp)
is_to_stay = os.environ.get("BENCH_RESTART") and attempt == "0"
while os.path.isdir(folder) and (is_to_stay or not os.path.exists(os.path.join(folder, "go"))):
    time.sleep(0.02)
dist.barrier()
os._exit(0)  # PyTorch may abort while the interpreter ends
