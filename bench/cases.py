"""The cases. Each is a generator of work that `run.py` drives, and gives samples by contender."""

import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import contenders
from contenders import PROGRAMS, BenchError, Run, build_nvml, command

import checkpoint
import smoke
import store
import warm

MB = 1_000_000


def interleaved(rounds, names, sample, progress):
    """Takes samples in turn, beginning with another contender each round.

    `rounds` is the number of samples of each contender.
    """
    samples = {name: [] for name in names}
    for number in range(max(rounds.values())):
        order = [name for name in names if number < rounds[name]]
        turn = number % len(order)
        for name in order[turn:] + order[:turn]:
            progress(f"round {number + 1}, {name}")
            samples[name].append(sample(name))
    return samples


def launch(config, progress):
    """From the start of the launcher to the first line of the last rank, in ms."""
    results = []
    for kind, target in (("python", "python"), ("native", [PROGRAMS, "once"])):
        for ranks in (1, 8) if config.quick else (1, 8, 64):

            def sample(name, target=target, ranks=ranks):
                with Run(command(name, ranks, target)) as run:
                    run.wait()
                    return (max(at for at, _ in run.wait_stamps(ranks).values()) - run.began) / 1e6

            fast = config.rounds(31 if kind == "native" else 15 if ranks < 64 else 7)
            rounds = {"floor": fast, "nvlaunch": fast, "torchrun": config.rounds(3)}
            samples = interleaved(rounds, list(rounds), sample, progress)
            results.append({"what": f"launch, {ranks} {kind}", "unit": "ms", "samples": samples})
    return results


def respawn(config, progress):
    """From the kill of one rank to the first line of the last rank of the next attempt, in ms."""
    results = []
    for kind, target in (("python", "python"), ("native", [PROGRAMS, "stay"])):
        for ranks in (2, 8):

            def floor(ranks=ranks, target=target):
                # The bare start of the same ranks, without the start of a launcher.
                with Run(command("floor", ranks, target if target == "python" else
                                 [PROGRAMS, "once"])) as run:  # fmt: skip
                    run.wait()
                    begun = int((run.folder / "floor").read_text())
                    return (max(at for at, _ in run.stamps().values()) - begun) / 1e6

            def sample(name, target=target, ranks=ranks, floor=floor):
                if name == "floor":
                    return floor()
                words = command(name, ranks, target, ["--max-restarts=1"])
                with Run(words, {"BENCH_STAY": "1"}) as run:
                    stamps = run.wait_stamps(ranks)
                    # Until everything is quiet; torchrun looks at its ranks ten times a second, so
                    # the moment is not always the same.
                    time.sleep(0.2 + 0.013 * (time.monotonic_ns() % 8))
                    killed = time.monotonic_ns()
                    os.kill(stamps[ranks - 1][1], signal.SIGKILL)
                    again = run.wait_stamps(ranks, attempt=1)
                    run.wait()
                    return (max(at for at, _ in again.values()) - killed) / 1e6

            fast = config.rounds(15)
            rounds = {"floor": fast, "nvlaunch": fast, "torchrun": config.rounds(4)}
            samples = interleaved(rounds, list(rounds), sample, progress)
            results.append({"what": f"respawn, {ranks} {kind}", "unit": "ms", "samples": samples})
    return results


def status_kb(pid, key, file="status"):
    """A line of /proc/PID/status or smaps_rollup, in kB."""
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise BenchError(f"no {key} in /proc/{pid}/{file}")


def keeper_pss(pid):
    """The memory of nvlaunch's keeper, in kB; 0 where there is none."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip() == "nvl-keeper":
                return status_kb(child, "Pss", "smaps_rollup")
    return 0


def memory(config, progress):
    """Memory of the supervisor with quiet ranks, in MB (of 1,000,000 bytes)."""
    results = []
    cases = [(8, 0), (256, 0), (8, 20 * MB), (256, 1 * MB)]
    for ranks, burst in cases[::2] if config.quick else cases:
        measured = {}
        for name in ("nvlaunch", "torchrun"):
            progress(name)
            with tempfile.TemporaryDirectory(prefix="nvlaunch-bench-") as logs:
                options = ["--tee=3", f"--log-dir={logs}"] if burst else []
                # torchrun needs minutes for what nvlaunch needs seconds for.
                size = burst // 10 if name == "torchrun" else burst
                target = [PROGRAMS, "write-stay", size] if burst else [PROGRAMS, "stay"]
                with Run(command(name, ranks, target, options)) as run:
                    run.wait_stamps(ranks)
                    time.sleep(3)
                    pid = run.pid
                    for what, kb in (
                        ("peak resident", status_kb(pid, "VmHWM")),
                        ("resident", status_kb(pid, "VmRSS")),
                        ("proportional", status_kb(pid, "Pss", "smaps_rollup")),
                        ("keeper", keeper_pss(pid)),
                    ):
                        measured.setdefault(what, {})[name] = [kb * 1024 / 1e6]
        after = f" after {burst // MB} MB each" if burst else ""
        for what, samples in measured.items():
            if what == "keeper":
                samples = {"nvlaunch": samples["nvlaunch"]}
            text = f"{what}, {ranks} ranks{after}"
            results.append({"what": text, "unit": "MB", "samples": samples})
    return results


def tee(config, progress):
    """Bytes per second from 4 ranks to log files and the console, in MB/s."""
    ranks = 4
    # torchrun needs as many seconds for its share.
    each = {"floor": 200 * MB, "nvlaunch": 200 * MB, "torchrun": 40 * MB}
    if config.quick:
        each = {"floor": 100 * MB, "nvlaunch": 100 * MB, "torchrun": 20 * MB}
    results = []
    for console in ("/dev/null", "a pipe", "a file"):

        def seconds(name, size, console=console):
            with tempfile.TemporaryDirectory(prefix="nvlaunch-bench-") as logs:
                target = [PROGRAMS, "write", size]
                if name == "floor":
                    words = [PROGRAMS, "floor-files", logs, ranks, *target]
                    words = [str(word) for word in words]
                else:
                    words = command(name, ranks, target, ["--tee=3", f"--log-dir={logs}"])
                return timed(words, console, logs, ranks, size)

        starts = {}

        def sample(name, seconds=seconds, starts=starts):
            whole = seconds(name, each[name])
            # The start alone would hide torchrun's speed; each is given its own.
            return ranks * each[name] / MB / (whole - starts[name])

        rounds = {"floor": config.rounds(7), "nvlaunch": config.rounds(7), "torchrun": 3}
        starts.update((name, min(seconds(name, 0) for _ in range(3))) for name in rounds)
        samples = interleaved(rounds, list(rounds), sample, progress)
        results.append({"what": f"tee, console is {console}", "unit": "MB/s", "samples": samples})
    return results


def timed(words, console, logs, ranks, size):
    """Seconds from the start to the end, and to the last byte at the console's reader."""
    reader = None
    if console == "a pipe":
        reader = subprocess.Popen(
            [PROGRAMS, "drain"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        out = reader.stdin.fileno()
    else:
        path = "/dev/null" if console == "/dev/null" else f"{logs}/console"
        out = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        with Run(words, stdout=out) as run:
            if reader:
                reader.stdin.close()
            run.wait()
            read = int(reader.stdout.read()) if reader else None
            took = (time.monotonic_ns() - run.began) / 1e9
    finally:
        if reader:
            reader.wait()
        else:
            os.close(out)
    files = sum(path.stat().st_size for path in Path(logs).rglob("stdout.log"))
    files += sum(path.stat().st_size for path in Path(logs).glob("[0-9].log"))
    if files != ranks * size:
        raise BenchError(f"{words[0]}: the log files have {files} of {ranks * size} bytes")
    if "floor-files" not in words and read is not None and read < ranks * size:
        raise BenchError(f"{words[0]}: the console has {read} of {ranks * size} bytes")
    return took


def cpu_ns(pid):
    """CPU time of all threads of a process so far."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def idle(config, progress):
    """CPU time of the supervisor with 8 quiet ranks, in ms per 10 s."""
    ranks, seconds = 8, 10 if not config.quick else 3
    names = ["nvlaunch", "torchrun"]

    def sample(name):
        with Run(command(name, ranks, [PROGRAMS, "stay"])) as run:
            run.wait_stamps(ranks)
            time.sleep(3)
            before = cpu_ns(run.pid)
            time.sleep(seconds)
            return (cpu_ns(run.pid) - before) / 1e6 * 10 / seconds

    samples = interleaved(dict.fromkeys(names, config.rounds(3)), names, sample, progress)
    return [{"what": f"idle, {ranks} ranks", "unit": "ms/10s", "samples": samples}]


def whole_run(words, env):
    """A program from start to end, in ms; one that refuses the machine is right too."""
    with Run(words, env) as run:
        _, status = os.waitpid(run.pid, 0)
        took = (time.monotonic_ns() - run.began) / 1e6
        run.status = os.waitstatus_to_exitcode(status)
        if run.status not in (0, 69):
            raise BenchError(f"{words} ended with {run.status}")
        return took


def preflight(config, progress):
    """`nvlaunch preflight` from start to end, in ms; the floor makes the same calls to NVML."""
    with tempfile.TemporaryDirectory(prefix="nvlaunch-bench-") as folder:
        floor, library = build_nvml(folder)
        gpus = {"count": 8}
        # What the library of a real driver takes, about; a double answers in no time.
        slow = {"nvmlInit_v2": 20, "nvmlDeviceGetHandleByIndex_v2": 2}
        cases = {
            "no driver": None,
            "8 GPUs of a double": gpus,
            "8 GPUs, 36 ms of NVML": gpus | {"slow": slow},
        }
        results = []
        for what, script in cases.items():
            env = {"NVLAUNCH_NVML_LIB": ""}
            if script:
                path = Path(folder, f"{len(results)}.json")
                path.write_text(json.dumps(script))
                env = {"NVLAUNCH_NVML_LIB": str(library), "FAKE_NVML_SCRIPT": str(path)}
            check_preflight(env, 8 if script else None)
            ours = [str(contenders.NVLAUNCH), "preflight"]
            words = {"floor": [str(floor), str(library)] if script else ["/bin/true"],
                     "nvlaunch": ours}  # fmt: skip

            def sample(name, words=words, env=env):
                return whole_run(words[name], env)

            rounds = dict.fromkeys(words, config.rounds(40))
            samples = interleaved(rounds, list(rounds), sample, progress)
            results.append({"what": f"preflight, {what}", "unit": "ms", "samples": samples})
    return results


def check_preflight(env, devices):
    """Whether nvlaunch sees what it is shown."""
    words = [contenders.NVLAUNCH, "preflight", "--json"]
    ran = subprocess.run(words, env=dict(os.environ, **env), capture_output=True, text=True)
    nvidia = json.loads(ran.stdout)["facts"]["nvidia"]
    seen = nvidia["nvml"]["detail"]["device_count"] if nvidia and devices else None
    if seen != devices:
        raise BenchError(f"nvlaunch preflight sees {seen} GPUs, not {devices}")


def start(config, progress):
    """`nvlaunch --version` and `nvlaunch plan` from start to end, in ms; the floor is /bin/true.

    The plan is that of a machine without a driver, whatever the machine here has.
    """
    results = []
    plan = ["plan", "--nproc", "2", "train.py", "--lr", "1e-3"]
    env = {"NVLAUNCH_NVML_LIB": ""}
    with tempfile.TemporaryDirectory(prefix="nvlaunch-bench-") as folder:
        script = Path(folder, "train.py")
        script.touch()
        for what, options in (("--version", ["--version"]), ("plan", plan)):
            options = [str(script) if word == "train.py" else word for word in options]
            words = {"floor": ["/bin/true"], "nvlaunch": [str(contenders.NVLAUNCH), *options]}

            def sample(name, words=words):
                return whole_run(words[name], env)

            rounds = dict.fromkeys(words, config.rounds(20))
            samples = interleaved(rounds, list(rounds), sample, progress)
            results.append({"what": f"start, {what}", "unit": "ms", "samples": samples})
    return results


CASES = {
    "start": start,
    "launch": launch,
    "respawn": respawn,
    "memory": memory,
    "tee": tee,
    "idle": idle,
    "preflight": preflight,
    "store": store.cases,
    "warm": warm.cases,
    "smoke": smoke.cases,
    "checkpoint": checkpoint.cases,
}


def median(samples):
    """The median, or nothing."""
    return statistics.median(samples) if samples else None
