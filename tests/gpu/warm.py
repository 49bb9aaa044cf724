#!/usr/bin/env python3
"""Warm ranks on a machine with NVIDIA GPUs: NCCL, devices of their own, none in the template.

    tests/gpu/warm.py [--nvlaunch PROGRAM] [--python PROGRAM] [--ranks N]

`--python` is one with PyTorch for CUDA; `--ranks` is the number of GPUs unless it is given. Each
step prints what was expected and what happened. The exit code is 0 where all steps went as
expected, 1 where one did not, 3 where there is no GPU or no PyTorch with CUDA here.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT_S = 300

COUNT = "import torch; print(torch.version.cuda, torch.cuda.device_count())"

#: Prints the vendor's files that a process has open, or mapped, by its id.
OPENED = """
import os

def opened(pid):
    found = set()
    for fd in os.listdir("/proc/%d/fd" % pid):
        try:
            found.add(os.readlink("/proc/%d/fd/%s" % (pid, fd)))
        except OSError:
            pass
    with open("/proc/%d/maps" % pid) as maps:
        found.update(line.split(None, 5)[5].strip() for line in maps if "/dev/" in line)
    return sorted(path for path in found if path.startswith(("/dev/nvidia", "/dev/dri")))

def template():
    parent = os.getppid()
    for child in open("/proc/%d/task/%d/children" % (parent, parent)).read().split():
        if open("/proc/%s/comm" % child).read().strip() == "nvl-template":
            return int(child)
"""

#: Each rank takes its GPU, all reduce over NCCL, twice; then attempt 0 fails and 1 completes.
NCCL = (
    OPENED
    + """
import sys
import torch
import torch.distributed as dist

attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
print("attempt", attempt, "was warm", "torch._C" in sys.modules and template() is not None)
print("before:", opened(os.getpid()), torch.cuda.is_initialized(), torch.cuda._is_in_bad_fork())
torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
dist.init_process_group("nccl")
one = torch.ones(1, device="cuda")
dist.all_reduce(one)
seeds = [None] * dist.get_world_size()
dist.all_gather_object(seeds, (torch.initial_seed(), torch.cuda.initial_seed()))
print("sum", int(one), "seeds differ", len(set(seeds)) == len(seeds))
print("after:", bool(opened(os.getpid())), "template has", opened(template()))
sys.stdout.flush()
dist.barrier()
if attempt == "0" and dist.get_rank() == dist.get_world_size() - 1:
    os._exit(3)
dist.barrier()
os._exit(0)
"""
)

#: Each rank sees one GPU, its own.
VISIBLE = """
import os, torch
print("sees", os.environ["CUDA_VISIBLE_DEVICES"], torch.cuda.device_count(),
      torch.cuda.get_device_properties(0).uuid, flush=True)
torch.ones(1, device="cuda")
os._exit(0)
"""

#: A module that opens the device while it is imported: ranks must start cold.
GREEDY = """
import torch
torch.ones(1, device="cuda")
"""


class Steps:
    """Runs launches and counts those that went otherwise than expected."""

    def __init__(self, options):
        self.options = options
        self.failed = 0

    def launch(self, script, ranks, *words, files=(), **variables):
        """What a launch prints, and its exit code."""
        with tempfile.TemporaryDirectory(prefix="nvlaunch-gpu-") as folder:
            for name, text in [("script.py", script), *files]:
                Path(folder, name).write_text(text)
            words = [self.options.nvlaunch, "--python", self.options.python, *words]
            words += ["--nproc-per-node", str(ranks), "script.py"]
            env = dict(os.environ, **variables)
            try:
                ran = subprocess.run(
                    words,
                    cwd=folder,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                    timeout=LIMIT_S,
                )
            except subprocess.TimeoutExpired as late:
                said = late.stdout or b""
                return said.decode(errors="replace") if isinstance(said, bytes) else said, None
        return ran.stdout, ran.returncode

    def check(self, name, launched, code, expected):
        """Whether the exit code is this, and each text (a regular expression) is there so often."""
        said, ended = launched
        counts = {what: len(re.findall(what, said)) for what in expected}
        is_right = ended == code and all(count == expected[what] for what, count in counts.items())
        self.failed += not is_right
        print(f"{'ok  ' if is_right else 'FAIL'} {name}: exit code {ended}, expected {code}")
        for what, count in counts.items():
            print(f"       {count} of {expected[what]} /{what}/")
        if not is_right:
            print("\n".join("       | " + line[:160] for line in said.splitlines()[-30:]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nvlaunch", default="nvlaunch")
    parser.add_argument("--python", default=sys.executable, help="a Python with PyTorch for CUDA")
    parser.add_argument("--ranks", type=int)
    options = parser.parse_args()
    if not Path("/proc/driver/nvidia/version").exists():
        print("skipped: there is no /proc/driver/nvidia/version: no NVIDIA driver runs here")
        return 3
    ran = subprocess.run([options.python, "-c", COUNT], capture_output=True, text=True)
    cuda, _, count = ran.stdout.strip().partition(" ")
    if ran.returncode or cuda == "None" or int(count or 0) == 0:
        print(
            f"skipped: {options.python} has no PyTorch that sees a GPU: {ran.stdout or ran.stderr}"
        )
        return 3
    gpus = int(count)
    ranks = options.ranks or gpus
    print(f"CUDA {cuda}, {gpus} GPUs, {ranks} ranks")
    steps = Steps(options)

    launched = steps.launch(NCCL, ranks, "--warm", "--max-restarts", "2")
    steps.check(
        "NCCL from warm ranks, and again after a restart",
        launched,
        0,
        {
            r"attempt 0 was warm True": ranks,
            r"attempt 1 was warm True": ranks,
            r"before: \[\] False False": 2 * ranks,
            rf"sum {ranks} seeds differ True": 2 * ranks,
            r"after: True template has \[\]": 2 * ranks,
            r"start cold": 0,
        },
    )
    launched = steps.launch(VISIBLE, gpus, "--warm", "--virtual-local-rank")
    uuids = set(re.findall(r"sees \d+ 1 (\S+)", launched[0]))
    times = {rf"sees {gpu} 1 ": 1 for gpu in range(gpus)}
    steps.check("CUDA_VISIBLE_DEVICES of each rank", launched, 0, times | {r"start cold": 0})
    if len(uuids) != gpus:
        steps.failed += 1
        print(f"FAIL each rank has a GPU of its own: {sorted(uuids)}")
    last = str(gpus - 1)
    launched = steps.launch(VISIBLE, 1, "--warm", CUDA_VISIBLE_DEVICES=last)
    times = {rf"sees {last} 1 ": 1, r"start cold": 0}
    steps.check("the caller's CUDA_VISIBLE_DEVICES", launched, 0, times)
    launched = steps.launch(
        "import os, sys; print('greedy' in sys.modules)",
        ranks,
        "--warm=greedy",
        files=[("greedy.py", GREEDY)],
    )
    steps.check(
        "a module that opens a device",
        launched,
        0,
        {r"start cold: .*(opened /dev/nvidia|cuda)": 1, r"\bFalse\b": ranks, r"\bTrue\b": 0},
    )
    print(f"{steps.failed} steps went otherwise" if steps.failed else "all as expected")
    return 1 if steps.failed else 0


if __name__ == "__main__":
    sys.exit(main())
