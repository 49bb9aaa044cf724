"""How each contender is started, and how a start is timed.

All times are of CLOCK_MONOTONIC in nanoseconds, which is one clock for all processes. Every wait
has a limit.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NVLAUNCH = ROOT / "target/release/nvlaunch"
PROGRAMS = ROOT / "target/bench/release/bench-programs"
PYTHON = ROOT / ".venv/bin/python"
TORCHRUN = ROOT / ".venv/bin/torchrun"
RANK_SCRIPT = ROOT / "bench/rank.py"
LIMIT_S = 180.0


class BenchError(Exception):
    """A contender did not do what it was asked to do."""


def command(contender, ranks, target, options=()):
    """The command line that starts `target` on that many ranks.

    `target` is "python" for the script, or the words of a native program.
    """
    is_python = target == "python"
    words = [str(RANK_SCRIPT)] if is_python else [str(word) for word in target]
    if contender == "floor":
        start = [str(PYTHON), "-u"] if is_python else []
        return [str(PROGRAMS), "floor", "{stamps}/floor", str(ranks), *start, *words]
    program = {"nvlaunch": NVLAUNCH, "torchrun": TORCHRUN}[contender]
    # Both look for the interpreter in the same place; torchrun takes its own.
    given = ["--python", str(PYTHON)] if contender == "nvlaunch" and is_python else []
    native = [] if is_python else ["--no-python"]
    return [str(program), f"--nproc-per-node={ranks}", *options, *given, *native, *words]


class Run:
    """One started contender with a folder for its stamps."""

    def __init__(self, words, env=None, stdout=None):
        self.folder = Path(tempfile.mkdtemp(prefix="nvlaunch-bench-"))
        words = [word.replace("{stamps}", str(self.folder)) for word in words]
        environment = dict(os.environ, BENCH_STAMPS=str(self.folder), **(env or {}))
        # A launcher inside a rank of another run would read that one's variables.
        for name in ("RANK", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT"):
            environment.pop(name, None)
        errors = self.folder / "stderr"
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, str(errors), os.O_WRONLY | os.O_CREAT, 0o600),
        ]
        if stdout is None:
            actions.append((os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0))
        else:
            actions.append((os.POSIX_SPAWN_DUP2, stdout, 1))
        self.words = words
        self.began = time.monotonic_ns()
        self.pid = os.posix_spawn(words[0], words, environment, file_actions=actions)
        self.status = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.status is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def poll(self):
        """Whether it has ended."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def wait(self, expect=0):
        """Waits for the end."""
        if self.status is None:
            deadline = time.monotonic() + LIMIT_S
            while not self.poll():
                if time.monotonic() > deadline:
                    raise BenchError(f"{self.words[0]} did not end in {LIMIT_S:.0f} s")
                time.sleep(0.0005)
        if expect is not None and self.status != expect:
            errors = (self.folder / "stderr").read_text(errors="replace")[-2000:]
            raise BenchError(f"{self.words} ended with {self.status}:\n{errors}")

    def stop(self):
        """Ends it and its ranks."""
        os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + LIMIT_S
        while not self.poll():
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.01)

    def stamps(self, attempt=0):
        """What the ranks of an attempt have written so far, rank by rank: time, process id."""
        found = {}
        for path in self.folder.glob(f"*.{attempt}"):
            now, pid = path.read_text().split()
            found[int(path.stem)] = (int(now), int(pid))
        return found

    def wait_stamps(self, ranks, attempt=0):
        """Waits until all ranks of an attempt have written theirs."""
        deadline = time.monotonic() + LIMIT_S
        while len(found := self.stamps(attempt)) < ranks:
            if self.poll() or time.monotonic() > deadline:
                errors = (self.folder / "stderr").read_text(errors="replace")[-2000:]
                raise BenchError(f"{self.words}: {len(found)} of {ranks} stamps\n{errors}")
            time.sleep(0.005)
        return found


def build_programs():
    """Builds the benchmark's own programs."""
    manifest = ROOT / "bench/programs/Cargo.toml"
    subprocess.run(
        ["cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", manifest,
         "--target-dir", ROOT / "target/bench"],
        check=True,
    )  # fmt: skip


def build_nvml(folder):
    """Builds the floor of preflight into `folder`, and the double of NVML; their paths."""
    floor = Path(folder, "nvml")
    subprocess.run(["cc", "-O2", "-o", floor, ROOT / "bench/nvml.c", "-ldl"], check=True)
    example = ["cargo", "build", "--quiet", "--release", "--locked", "--example", "fake_nvml"]
    subprocess.run(example, cwd=ROOT, check=True)
    return floor, ROOT / "target/release/examples/libfake_nvml.so"
