"""Warm start beside torchrun, cold nvlaunch and ranks that are started by hand, with PyTorch.

Contenders: `torchrun`; `nvlaunch` (cold); `warm` (`nvlaunch --warm`); `floor`, ranks that a shell
starts, with rank 0's own store. The ranks are `all_reduce.py`.
"""

import os
import signal
import socket
import time
from pathlib import Path

import contenders
from contenders import Run

SCRIPT = contenders.ROOT / "bench/all_reduce.py"
NAMES = ("floor", "nvlaunch", "warm", "torchrun")
MB = 1_000_000
#: Jobs whose restart fails before that is taken for an answer.
TRIES = 2

BY_HAND = """
rank=0
while [ $rank -lt $2 ]; do
    RANK=$rank LOCAL_RANK=$rank $1 -u $3 &
    rank=$((rank + 1))
done
wait
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(name, ranks, options=(), env=None):
    """Starts the ranks; all of them have one thread for computing."""
    env = {"OMP_NUM_THREADS": "1", **(env or {})}
    python = str(contenders.PYTHON)
    if name == "floor":
        env |= {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1"}
        env |= {"MASTER_PORT": str(free_port())}
        return Run(["/bin/sh", "-c", BY_HAND, "sh", python, str(ranks), str(SCRIPT)], env)
    words = [f"--nproc-per-node={ranks}", *options]
    if name == "torchrun":
        return Run([str(contenders.TORCHRUN), "--standalone", *words, str(SCRIPT)], env)
    words += ["--python", python] + (["--warm"] if name == "warm" else [])
    return Run([str(contenders.NVLAUNCH), *words, str(SCRIPT)], env)


def descendants(pid):
    """Everything below a process, not the process itself."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def proportional(pid):
    """A process' share of memory in kB (smaps_rollup), less than nothing of one that is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def first_reduce(name, ranks):
    """Seconds to the first finished all_reduce of all ranks, and MB of all of them together then.

    The template is among them; the launcher itself is not.
    """
    with start(name, ranks, ["--max-restarts=1"] if name != "floor" else ()) as run:
        stamps = run.wait_stamps(ranks)
        took = (max(at for at, _ in stamps.values()) - run.began) / 1e9
        memory = sum(map(proportional, descendants(run.pid))) * 1024 / MB
        (run.folder / "go").touch()
        run.wait()
        return took, memory


def restarted(name, ranks):
    """Seconds from `kill -9` of a rank to the first finished all_reduce of the next attempt.

    A job that does not come back is run again, and nothing is measured where the second does not
    either: torchrun's next attempt of 8 ranks fails more often than not.
    """
    for _ in range(TRIES):
        with start(name, ranks, ["--max-restarts=1"], {"BENCH_RESTART": "1"}) as run:
            stamps = run.wait_stamps(ranks)
            # As in `respawn`: at no fixed moment of torchrun's ten looks a second.
            time.sleep(0.2 + 0.013 * (time.monotonic_ns() % 8))
            (run.folder / "go").touch()
            killed = time.monotonic_ns()
            os.kill(stamps[ranks - 1][1], signal.SIGKILL)
            run.wait(expect=None)
            again = run.stamps(attempt=1)
            if len(again) == ranks:
                return (max(at for at, _ in again.values()) - killed) / 1e9
    return None


def rows(what, unit, samples):
    """One row for warm ranks and one for cold ones, beside the same others."""
    for text, ours in ((what, "warm"), ("  the same, cold", "nvlaunch")):
        others = {name: samples[name] for name in ("floor", "torchrun") if name in samples}
        yield {"what": text, "unit": unit, "samples": {"nvlaunch": samples[ours], **others},
               "whole": True}  # fmt: skip


def starts(ranks, rounds, progress):
    """Starts with so many ranks, in turn, beginning with another contender each round."""
    times, memory = ({name: [] for name in NAMES} for _ in range(2))
    for number in range(rounds):
        turn = number % len(NAMES)
        for name in NAMES[turn:] + NAMES[:turn]:
            progress(f"{ranks} ranks, round {number + 1}, {name}")
            took, megabytes = first_reduce(name, ranks)
            times[name].append(took)
            memory[name].append(megabytes)
    yield from rows(f"first all_reduce, {ranks} ranks", "s", times)
    yield from rows(f"memory of {ranks} ranks", "MB", memory)


def restarts(ranks, rounds, progress):
    """Restarts in the same way."""
    names = NAMES[1:]
    times = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            progress(f"restart of {ranks} ranks, round {number + 1}, {name}")
            took = restarted(name, ranks)
            if took is not None:
                times[name].append(took)
    yield from rows(f"restart of {ranks} ranks", "s", times)


def cases(config, progress):
    """All of it."""
    for ranks in (1, 2, 8) if config.quick else (1, 2, 8, 16):
        yield from starts(ranks, config.rounds(5 if ranks < 16 else 3), progress)
    for ranks in (2, 8):
        yield from restarts(ranks, config.rounds(5), progress)
