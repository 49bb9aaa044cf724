"""A rank of the benchmark of warm start: says when its first `all_reduce` was finished, and stays.

It stays until there is a file `go`; in the first attempt of a run with BENCH_RESTART, for ever.
"""

import os
import time
from pathlib import Path

import torch
import torch.distributed as dist

dist.init_process_group("gloo")
dist.all_reduce(torch.ones(1))
now = time.monotonic_ns()

folder = Path(os.environ["BENCH_STAMPS"])
attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
stamp = folder / f"{os.environ['RANK']}.{attempt}"
part = stamp.with_name(stamp.name + ".part")
part.write_text(f"{now} {os.getpid()}")
part.rename(stamp)
is_to_stay = os.environ.get("BENCH_RESTART") and attempt == "0"
while folder.is_dir() and (is_to_stay or not (folder / "go").exists()):
    time.sleep(0.02)
dist.barrier()
os._exit(0)  # PyTorch may abort while the interpreter ends
