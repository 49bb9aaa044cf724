"""Asks libcuda whether it can be initialised. Started by nvlaunch (src/probe/cuda.rs)."""

import ctypes
import json
import os
import resource
import signal
import sys

parent, library = int(sys.argv[1]), sys.argv[2]
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
# nvlaunch may have died before the line above took effect. It need not be the parent: what it
# started may be a wrapper that stays.
try:
    os.kill(parent, 0)
except ProcessLookupError:
    sys.exit(1)
if os.getpgrp() != os.getpid():
    os.setsid()
resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
# Standard output is the pipe to nvlaunch; the library gets stderr in its place.
pipe = os.dup(1)
os.dup2(2, 1)


def say(message):
    """Write a line to nvlaunch; chatter may stand before it."""
    line = memoryview(("\n" + json.dumps(message) + "\n").encode())
    while line:
        line = line[os.write(pipe, line) :]


def ask():
    """Ask; the answer."""
    say({"stage": "dlopen " + library})
    try:
        cuda = ctypes.CDLL(library)
    except OSError as error:
        return {"init": {"code": -1, "text": str(error)}}

    def mapped():
        real = os.path.realpath(library)
        with open("/proc/self/maps", errors="replace") as maps:  # noqa: PTH123
            for line in maps:
                path = line[line.find("/") :].strip() if "/" in line else ""
                if path == real or "/libcuda.so" in path:
                    return path
        return None

    def number(function):
        value = ctypes.c_int()
        say({"stage": function})
        try:
            code = getattr(cuda, function)(ctypes.byref(value))
        except AttributeError:
            return None
        return value.value if code == 0 else None

    answer = {"library": mapped()}
    # The library's own version, which it knows before init.
    answer["driver_version"] = number("cuDriverGetVersion")
    say({"stage": "cuInit"})
    try:
        code = cuda.cuInit(0)
    except AttributeError as error:
        answer["init"] = {"code": -1, "text": str(error)}
        return answer
    text = ctypes.c_char_p()
    if hasattr(cuda, "cuGetErrorName"):
        cuda.cuGetErrorName(code, ctypes.byref(text))
    answer["init"] = {"code": code, "text": (text.value or b"").decode(errors="replace")}
    if code == 0:
        answer["device_count"] = number("cuDeviceGetCount")
    return answer


say({"answer": ask()})
# Without running anybody's destructors: they may hang.
os.kill(os.getpid(), signal.SIGKILL)
