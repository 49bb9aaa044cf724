"""What code in C finds: getenv(3), environ(7), and what a change through Python does to it."""

import ctypes
import os
from seen import each, say

libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
environ = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
entries = []
while environ[len(entries)] is not None:
    entries.append(environ[len(entries)])
names = [entry.partition(b"=")[0] for entry in entries]
each("getenv", sorted((name.decode(), repr(libc.getenv(name))) for name in names))
say("count", len(names) - len(set(names)))
say("same as Python's", dict(entry.split(b"=", 1) for entry in entries) == dict(os.environb))
say("sorted", names == sorted(names))
for name in (b"LD_PRELOAD", b"PYTHONPATH", b"PYTHONHASHSEED", b"PYTHONUNBUFFERED"):
    say("getenv " + name.decode(), libc.getenv(name))
os.environ["NEW"] = "set"
say("set", libc.getenv(b"NEW"))
del os.environ["RANK"]
say("removed", libc.getenv(b"RANK"))
