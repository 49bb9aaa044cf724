"""Stops one thread of a process, as a file system that does not answer would, until stdin ends."""

import ctypes
import os
import sys

SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
thread = int(sys.argv[1])


def ptrace(request):
    if libc.ptrace(request, thread, None, None):
        print(f"cannot: {os.strerror(ctypes.get_errno())}", flush=True)
        sys.exit(0)


ptrace(SEIZE)
ptrace(INTERRUPT)
os.waitpid(thread, WALL)
print("stopped", flush=True)
sys.stdin.read()
ptrace(DETACH)
