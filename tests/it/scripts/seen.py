"""Writes down what this rank sees, and waits until every rank of its attempt has done so."""

import json
import os
import resource
import sys
import time

_folder = os.environ["SEEN"]
_attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]


def _status(name):
    with open("/proc/self/status") as status:
        return next(line.split()[1] for line in status if line.startswith(name + ":"))


def _open_files():
    """Those that the launcher gave, less what the tests themselves were started with."""
    names = os.listdir("/proc/self/fd")
    there = [name for name in names if os.path.exists(f"/proc/self/fd/{name}")]
    return sorted(set(map(int, there)) - set(json.loads(os.environ["SEEN_OPEN"])))


def note(**more):
    """Writes the file, with further facts in it."""
    facts = {
        "env": dict(os.environ),
        "argv": sys.argv,
        "options": sys.orig_argv[1:],
        "python": os.path.realpath(sys.prefix),
        "cwd": os.getcwd(),
        "stdin": os.readlink("/proc/self/fd/0"),
        "open files": _open_files(),
        "leads its session": os.getsid(0) == os.getpid(),
        # Less 32 and 33, which the C library uses.
        "ignored signals": hex(int(_status("SigIgn"), 16) & ~(3 << 31)),
        "blocked signals": _status("SigBlk"),
        "umask": _status("Umask"),
        "limits": [
            resource.getrlimit(kind)
            for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_NPROC)
        ],
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "CPUs": sorted(os.sched_getaffinity(0)),
        **more,
    }
    name = os.path.join(_folder, f"{_attempt}.{os.environ['RANK']}")
    with open(name + ".part", "w") as file:
        json.dump(facts, file)
    os.rename(name + ".part", name + ".json")


def together(bound=60.0):
    """Waits for the files of the others: no rank fails before all have been seen."""
    end = time.monotonic() + bound
    files = [
        os.path.join(_folder, f"{_attempt}.{rank}.json")
        for rank in range(int(os.environ["WORLD_SIZE"]))
    ]
    while not all(map(os.path.exists, files)):
        if time.monotonic() > end:
            sys.exit("not every rank was seen")
        time.sleep(0.002)


note()
together()
