"""Runs a command on a pseudo-terminal of its own and types into it.

The first argument is JSON: a list of steps {"expect": TEXT} (wait for it), {"after": SECONDS},
{"type": TEXT}, {"stopped": true} (wait until the command is stopped), {"continue": true}.
Prints JSON: the exit code, the signal, the output.
"""

import json
import os
import pty
import select
import signal
import sys
import time

LIMIT = 60


def main():
    steps = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.argv[2], sys.argv[2:])
    end = time.monotonic() + LIMIT
    seen = b""

    def read(seconds):
        nonlocal seen
        if not select.select([terminal], [], [], seconds)[0]:
            return True
        try:
            data = os.read(terminal, 65536)
        except OSError:  # EIO: nobody has the other side open any more
            return False
        seen += data
        return bool(data)

    # Before the terminal is the command's, it would have nobody to interrupt.
    while os.tcgetpgrp(terminal) != pid:
        pass
    begun = 0
    for step in steps:
        if "expect" in step:
            while (at := seen.find(step["expect"].encode(), begun)) < 0:
                if time.monotonic() > end or not read(0.1):
                    fail(pid, f"never saw {step['expect']!r}", seen)
            begun = at + len(step["expect"])
        elif "after" in step:
            until = time.monotonic() + step["after"]
            while (left := until - time.monotonic()) > 0 and read(left):
                pass
        elif "type" in step:
            os.write(terminal, step["type"].encode())
        elif "stopped" in step:
            while not os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED | os.WNOHANG)[1]):
                if time.monotonic() > end:
                    fail(pid, "never stopped", seen)
                read(0.01)
        elif "continue" in step:
            os.kill(pid, signal.SIGCONT)
    while read(0.5):
        if time.monotonic() > end:
            fail(pid, "no end", seen)
    status = os.waitpid(pid, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    print(
        json.dumps(
            {
                "code": code if code >= 0 else None,
                "signal": -code if code < 0 else None,
                "output": seen.decode(errors="replace"),
            }
        )
    )


def fail(pid, why, seen):
    os.kill(pid, signal.SIGKILL)
    sys.exit(f"{why}; seen: {seen.decode(errors='replace')}")


main()
