"""`nvlaunch smoke` beside ranks that are started by hand and torchrun, all with the same program.

From start to end, in ms. The program is the one that nvlaunch carries; its tensors are small, so
that the time is that of starting, importing and meeting, which every contender spends.
"""

import subprocess
import tempfile
import time
from pathlib import Path

import contenders
from contenders import Run

import warm

SIZES = "4,64k,4m"
BY_HAND = """
rank=0
while [ $rank -lt $2 ]; do
    RANK=$rank LOCAL_RANK=$rank $1 -u $3 $4 &
    rank=$((rank + 1))
done
wait
"""
ORDER = '{"sizes":[4,65536,4194304]}'


def start(name, ranks, program):
    """Starts a contender; all ranks have one thread for computing."""
    env = {"OMP_NUM_THREADS": "1"}
    python = str(contenders.PYTHON)
    if name == "floor":
        env |= {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1"}
        env |= {"MASTER_PORT": str(warm.free_port())}
        return Run(["/bin/sh", "-c", BY_HAND, "sh", python, str(ranks), program, ORDER], env)
    words = [f"--nproc-per-node={ranks}"]
    if name == "torchrun":
        return Run([str(contenders.TORCHRUN), "--standalone", *words, program, ORDER], env)
    words += ["--python", python, "--sizes", SIZES, "--timeout", "170s"]
    return Run([str(contenders.NVLAUNCH), "smoke", *words], env)


def cases(config, progress):
    """Two and four ranks, in turn, beginning with another contender each round."""
    names = ("floor", "nvlaunch", "torchrun")
    with tempfile.TemporaryDirectory(prefix="nvlaunch-bench-") as folder:
        program = Path(folder, "smoke.py")
        words = [str(contenders.NVLAUNCH), "smoke", "--print-program"]
        program.write_bytes(subprocess.run(words, capture_output=True, check=True).stdout)
        for ranks, full in ((2, 11), (4, 7)):
            samples = {name: [] for name in names}
            for number in range(config.rounds(full)):
                turn = number % len(names)
                for name in names[turn:] + names[:turn]:
                    progress(f"smoke, {ranks} ranks, round {number + 1}, {name}")
                    with start(name, ranks, str(program)) as run:
                        run.wait()
                        samples[name].append((time.monotonic_ns() - run.began) / 1e6)
            what = f"smoke, {ranks} ranks"
            yield {"what": what, "unit": "ms", "samples": samples, "whole": True}
