#!/usr/bin/env python3
"""A real driver mismatch on a machine with an NVIDIA GPU, and what helps against it.

    tests/gpu/mismatch.py --libs DIR [--older DIR] [--nvlaunch PROGRAM] [--python PROGRAM]

DIR holds libcuda.so.VERSION, libnvidia-ml.so.VERSION and libnvidia-ptxjitcompiler.so.VERSION of a
driver release of the kernel module's own branch, and newer than it (Ubuntu's libnvidia-compute-NNN
has them); `--older` holds a libcuda of an older branch. Nothing is installed: the libraries only
stand first on LD_LIBRARY_PATH of the processes that this script starts.

Each step prints what was expected and what happened. The exit code is 0 where all steps went as
expected, 1 where one did not, 3 where there is no GPU or no PyTorch with CUDA here.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

SONAMES = {
    "libcuda.so": "libcuda.so.1",
    "libnvidia-ml.so": "libnvidia-ml.so.1",
    "libnvidia-ptxjitcompiler.so": "libnvidia-ptxjitcompiler.so.1",
}
LIMIT_S = 180

NVML = """
import ctypes
library = ctypes.CDLL("libnvidia-ml.so.1")
print("code", library.nvmlInit_v2())
"""
CUDA = """
import ctypes
library = ctypes.CDLL("libcuda.so.1")
print("code", library.cuInit(0))
"""
TORCH = """
import torch
print("sum", torch.ones(4, device="cuda").sum().item())
"""
NCCL = """
import os, torch, torch.distributed as dist
os.environ.update(RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
torch.cuda.set_device(0)
store = dist.TCPStore("127.0.0.1", 0, 1, True)
dist.init_process_group("nccl", store=store, rank=0, world_size=1)
one = torch.ones(1, device="cuda")
dist.all_reduce(one)
print("sum", one.item())
dist.destroy_process_group()
"""
OUT_OF_MEMORY = """
import torch
torch.ones(1 << 45, dtype=torch.uint8, device="cuda")
"""


class Steps:
    """Runs the steps and counts those that went otherwise."""

    def __init__(self, python):
        self.python = python
        self.failed = 0

    def run(self, words, folder=None, **variables):
        """What a program says with `folder` first on the linker's path, and its exit code."""
        env = dict(os.environ, **variables)
        if folder:
            old = env.get("LD_LIBRARY_PATH")
            env["LD_LIBRARY_PATH"] = f"{folder}:{old}" if old else str(folder)
        try:
            ran = subprocess.run(
                words, env=env, capture_output=True, text=True, errors="replace", timeout=LIMIT_S
            )
        except subprocess.TimeoutExpired:
            return f"no end within {LIMIT_S} s", None
        return ran.stdout + ran.stderr, ran.returncode

    def expect(self, name, wanted, words, folder=None, code=None, **variables):
        """Whether what a program says has `wanted` in it (a regular expression)."""
        said, ended = self.run(words, folder, **variables)
        is_right = re.search(wanted, said) is not None and code in (None, ended)
        self.failed += not is_right
        print(f"{'ok  ' if is_right else 'FAIL'} {name}: expected /{wanted}/", flush=True)
        lines = [line for line in said.splitlines() if re.search(wanted, line)] or said.splitlines()
        for line in lines[-4:]:
            print(f"       {line[:160]}")

    def python_says(self, name, wanted, script, folder=None, **variables):
        """The same of a Python script."""
        self.expect(name, wanted, [self.python, "-c", script], folder, **variables)


def linked(folder, libraries, target):
    """A folder with links from the names that programs ask for to these libraries."""
    target.mkdir()
    for stem in libraries:
        found = sorted(folder.glob(f"{stem}.[0-9]*.[0-9]*"))
        if found:
            (target / SONAMES[stem]).symlink_to(found[-1].resolve())
    return target


def system_library(name):
    """Where the linker finds a library without a path of ours."""
    listed = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    found = re.search(rf"^\s*{re.escape(name)} \(.*\) => (\S+)$", listed, re.MULTILINE)
    return Path(found[1]) if found else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--libs", type=Path, required=True, help="newer driver libraries")
    parser.add_argument("--older", type=Path, help="a libcuda of an older branch")
    parser.add_argument("--nvlaunch", default="nvlaunch")
    parser.add_argument("--python", default=sys.executable, help="a Python with PyTorch for CUDA")
    options = parser.parse_args()
    steps = Steps(options.python)

    version = Path("/proc/driver/nvidia/version")
    if not version.exists():
        print(f"skipped: there is no {version}: no NVIDIA driver runs here")
        return 3
    print(version.read_text().strip())
    said, code = steps.run([options.python, "-c", "import torch; print(torch.version.cuda)"])
    if code or "None" in said:
        print(f"skipped: {options.python} has no PyTorch for CUDA")
        return 3

    with tempfile.TemporaryDirectory() as folder:
        newer = linked(options.libs, SONAMES, Path(folder, "newer"))
        own = Path(folder, "own")
        own.mkdir()
        ours = system_library("libnvidia-ml.so.1")
        (own / "libnvidia-ml.so.1").symlink_to(ours.resolve())

        steps.python_says("NVML as installed", r"^code 0$", NVML)
        steps.python_says("a: NVML refuses newer libraries", r"^code 18$", NVML, newer)
        steps.python_says("b: CUDA does not", r"^code 0$", CUDA, newer)
        steps.python_says("b: and PyTorch computes", r"^sum 4\.0$", TORCH, newer)
        mismatch = r"nvmlInit_v2\(\) failed: Driver/library version mismatch"
        steps.python_says("c: NCCL fails", mismatch, NCCL, newer)
        steps.python_says(
            "d: NCCL_NVML_DISABLE changes nothing", mismatch, NCCL, newer, NCCL_NVML_DISABLE="1"
        )
        steps.python_says("e: the module's own NVML alone cures it", r"^sum 1\.0$", NCCL,
                          f"{own}:{newer}")  # fmt: skip
        steps.python_says("f: CUDA told to be strict", r"^code 803$", CUDA, newer,
                          __CUDA_DISABLE_FORWARD_COMPATIBILITY="1")  # fmt: skip
        if options.older:
            older = linked(options.older, ["libcuda.so"], Path(folder, "older"))
            steps.python_says("g: an older libcuda", r"^code 803$", CUDA, older)
        said = r"NVML_SUCCESS"
        steps.python_says("h: out of memory looks like a bug", said, OUT_OF_MEMORY, newer)

        preflight = [options.nvlaunch, "preflight", "--python", options.python]
        steps.expect("nvlaunch finds nothing wrong as it is", r"preflight: ok", preflight, code=0)
        steps.expect("nvlaunch names the mismatch", r"NVL001 error", preflight, newer, code=69)
        refused = [options.nvlaunch, "--nproc", "2", "--no-python", "echo", "started"]
        steps.expect("and starts no rank", r"NVL001", refused, newer, code=69)
    print(f"{steps.failed} steps went otherwise" if steps.failed else "all as expected")
    return 1 if steps.failed else 0


if __name__ == "__main__":
    sys.exit(main())
