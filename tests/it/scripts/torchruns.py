"""Runs many torchrun launches while importing torch once: each is a fork of this process.

Usage: torchruns.py JOBS.json AT_ONCE

A job is {"dir", "args", "env", "bound"}. It gets its folder as working directory, `stdin` in it as
standard input, and leaves `stdout`, `stderr` and `code` there. What runs is the entry point of the
`torchrun` program, `torch.distributed.run.main`; one row of the table runs the program itself, to
show that this makes no difference.
"""

import json
import os
import sys
import tempfile
import time
import traceback

from torch.distributed import run


def child(job):
    os.chdir(job["dir"])
    os.environ.clear()
    os.environ.update(job["env"])
    # What Python worked out from this process' environment.
    tempfile.tempdir = None
    for number, (name, flags) in enumerate(
        [
            ("stdin", os.O_RDONLY),
            ("stdout", os.O_WRONLY | os.O_CREAT),
            ("stderr", os.O_WRONLY | os.O_CREAT),
        ]
    ):
        fd = os.open(name, flags | os.O_APPEND, 0o644)
        os.dup2(fd, number)
        os.close(fd)
    sys.argv = ["torchrun", *job["args"]]
    try:
        run.main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        # As the interpreter does at the top.
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def main():
    with open(sys.argv[1]) as file:
        waiting = json.load(file)[::-1]
    running = {}
    while waiting or running:
        while waiting and len(running) < int(sys.argv[2]):
            job = waiting.pop()
            pid = os.fork()
            if pid == 0:
                child(job)
            running[pid] = (job, time.monotonic() + job["bound"])
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in running:
            job, _ = running.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            with open(os.path.join(job["dir"], "code"), "w") as file:
                file.write(str(code))
            continue
        for pid, (_, end) in running.items():
            if time.monotonic() > end:
                os.kill(pid, 15)
        time.sleep(0.01)


# `--run-path` imports this file again in a process of its own.
if __name__ == "__main__":
    main()
