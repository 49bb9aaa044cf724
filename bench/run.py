"""Measures nvlaunch, torchrun and the bare floor side by side; see README.md.

    .venv/bin/python bench/run.py [--quick] [--only CASE] [--nvlaunch PROGRAM]

Prints a table and writes every sample to bench/out/bench.json.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import contenders
from cases import CASES, median
from contenders import PYTHON, ROOT, TORCHRUN, BenchError, build_programs

OUT = ROOT / "bench/out/bench.json"
COLUMNS = ("floor", "nvlaunch", "torchrun")


class Config:
    """How thorough the measurement is."""

    def __init__(self, quick):
        self.quick = quick

    def rounds(self, full):
        """How many samples to take where a full run takes `full`."""
        return max(2, full // 4) if self.quick else full


def machine():
    """What the numbers depend on."""
    info = Path("/proc/cpuinfo").read_text()
    models = [line.split(":")[1].strip() for line in info.splitlines() if "model name" in line]
    memory = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "cpu_model": models[0] if models else platform.machine(),
        "memory_bytes": memory,
        "kernel": platform.release(),
    }


def versions():
    """Of what was measured."""
    nvlaunch = subprocess.run(
        [contenders.NVLAUNCH, "--version"], capture_output=True, text=True, check=True
    )
    commit = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True
    )
    return {
        "nvlaunch": nvlaunch.stdout.split()[-1],
        "commit": commit.stdout.strip(),
        "torch": importlib.metadata.version("torch"),
        "python": platform.python_version(),
    }


def number(value):
    """Three digits that count."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratios(result):
    """nvlaunch against the floor, and torchrun against nvlaunch, each without the floor."""
    middle = {name: median(samples) for name, samples in result["samples"].items()}
    floor, ours, torch = (middle.get(name) for name in COLUMNS)
    values = {"nvlaunch/floor": ours / floor if floor else None}
    if torch and result["unit"] in ("MB/s", "kop/s"):
        values["against torchrun"] = ours / torch
    elif torch and floor and not result.get("whole"):
        values["against torchrun"] = (torch - floor) / (ours - floor) if ours > floor else None
    elif torch:
        values["against torchrun"] = torch / ours if ours else None
    return middle, values


def row(result):
    """One line of the table."""
    middle, values = ratios(result)
    cells = [number(middle.get(name)).rjust(9) for name in COLUMNS]
    over = values["nvlaunch/floor"]
    factor = values.get("against torchrun")
    return (
        f"{result['what']:<34.34}{result['unit']:>7}{''.join(cells)}"
        f"{'-' if over is None else f'{over:.2f}':>6}{number(factor):>6}"
    )[:80]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--nvlaunch", type=Path, default=contenders.NVLAUNCH, help="the program to measure"
    )
    parser.add_argument("--quick", action="store_true", help="fewer samples, smaller cases")
    parser.add_argument("--only", choices=CASES, action="append", help="this case alone")
    options = parser.parse_args()
    contenders.NVLAUNCH = options.nvlaunch.resolve()
    for path in (contenders.NVLAUNCH, PYTHON, TORCHRUN):
        if not path.exists():
            parser.error(f"{path} is missing: `make build venv` makes it")
    build_programs()

    def progress(text):
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    # Torch's pages, once, so that the first sample is like the others.
    subprocess.run([TORCHRUN, "--help"], stdout=subprocess.DEVNULL, check=True)
    began = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    load = [os.getloadavg()[0]]
    print(f"{'median of':<34}{'unit':>7}" + "".join(name.rjust(9) for name in COLUMNS), end="")
    print(f"{'x fl.':>6}{'x tr.':>6}")
    document = {
        "began": began,
        "quick": options.quick,
        "machine": machine() | {"load": load},
        "versions": versions(),
        "results": [],
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    for name in options.only or CASES:
        for result in CASES[name](Config(options.quick), progress):
            progress("")
            result["case"] = name
            result["medians"], result["ratios"] = ratios(result)
            document["results"].append(result)
            print(row(result), flush=True)
        load.append(os.getloadavg()[0])
        # After each case, so that a run that is stopped leaves what it has.
        OUT.write_text(json.dumps(document, indent=1) + "\n")
    print(f"\nx fl.: nvlaunch / floor. x tr.: torchrun / nvlaunch, the floor taken off both\n"
          f"where there is one; for MB/s nvlaunch / torchrun. Load {load[0]:.1f} before,"
          f" {load[-1]:.1f} after.\nAll samples: {OUT.relative_to(ROOT)}")  # fmt: skip


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(f"bench: {error}")
