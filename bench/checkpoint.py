"""The case `checkpoint`: finding the newest whole one of many, with warm caches."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import contenders
from contenders import PROGRAMS, PYTHON, BenchError

FOLDERS, SHARDS = 200, 64

# One checkpoint as PyTorch writes it: so many shards, so many items in each.
SAVE = """
import sys, warnings
import torch, torch.distributed.checkpoint as dcp
warnings.simplefilter("ignore")
folder, shards, items = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
state = {f"layers.{i}.weight": torch.zeros(16) for i in range(shards * items)}
dcp.save(state | {"step": 1}, storage_writer=dcp.FileSystemWriter(folder, thread_count=shards),
         no_dist=True)
"""


def save(folder, items):
    subprocess.run([PYTHON, "-c", SAVE, folder, str(SHARDS), str(items)], check=True)


def copy(model, folder):
    """The same files anew, in the order in which a save writes them."""
    folder.mkdir()
    for path in sorted(model.iterdir(), reverse=True):
        shutil.copyfile(path, folder / path.name)


def age(folder):
    """Makes files an hour older: nvlaunch takes a second look at what was just written."""
    for path in folder.iterdir():
        time_ns = path.stat().st_mtime_ns - 3_600_000_000_000
        os.utime(path, ns=(time_ns, time_ns))


def whole(words):
    """A program from start to end: ms, and the most memory it had, in MB."""
    began = time.monotonic_ns()
    actions = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    actions.append((os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0))
    pid = os.posix_spawn(words[0], words, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    took = (time.monotonic_ns() - began) / 1e6
    if os.waitstatus_to_exitcode(status) != 0:
        raise BenchError(f"{words} ended with {os.waitstatus_to_exitcode(status)}")
    return took, usage.ru_maxrss * 1024 / 1e6


def cases(config, progress):
    """`nvlaunch` that resumes a rank, without a folder and with one; `checkpoint inspect`, which
    judges all of them. 2 items in each shard, and 900 (57,600 in one index)."""
    results = []
    with tempfile.TemporaryDirectory(prefix="nvlaunch-bench-") as root:
        for items in (2, 900):
            folders = FOLDERS if items == 2 else 1
            top = Path(root, str(items))
            top.mkdir()
            progress(f"saving {folders} x {SHARDS} shards of {items} items")
            model = top / "step_1"
            save(model, items)
            for number in range(2, folders + 1):
                copy(model, top / f"step_{number}")
            for folder in top.iterdir():
                age(folder)
            results += measure(config, progress, top, folders, items)
            shutil.rmtree(top)
    return results


def measure(config, progress, top, folders, items):
    ours = str(contenders.NVLAUNCH)
    inspect = [ours, "checkpoint", "inspect", str(top)]
    seen = subprocess.run([*inspect, "--json"], capture_output=True, text=True)
    document = json.loads(seen.stdout)
    chosen = document["candidates"][document["chosen"]]["path"]
    if Path(chosen).name != f"step_{folders}":
        raise BenchError(f"nvlaunch chose {chosen}, not step_{folders}")
    run = [ours, "--nproc=1", "--preflight=off", "--no-python", str(PROGRAMS), "once"]
    words = {
        "bare": run,
        "newest": [*run[:3], f"--checkpoint-dir={top}", *run[3:]],
        "inspect": inspect,
    }
    taken = {name: [] for name in words}
    for number in range(config.rounds(20)):
        for name, line in words.items():
            progress(f"round {number + 1}, {name}")
            taken[name].append(whole(line))
    what = f"{folders} x {SHARDS} shards" if items == 2 else f"{SHARDS * items:,} items"
    rows = []
    for name, text in (("newest", "newest of"), ("inspect", "inspect")):
        times = [ms for ms, _ in taken[name]]
        if name == "newest":
            # What looking adds to a run.
            times = [ms - bare for ms, (bare, _) in zip(times, taken["bare"], strict=True)]
        for unit, samples in (("ms", times), ("MB peak", [mb for _, mb in taken[name]])):
            samples = {"nvlaunch": samples}
            rows.append({"what": f"{text} {what}", "unit": unit, "samples": samples})
    return rows
