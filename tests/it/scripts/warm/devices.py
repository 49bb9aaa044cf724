"""Nothing of what the template did for itself is in a rank."""

import ctypes
import os
from seen import say

with open("/proc/self/maps") as maps:
    paths = [line.split(None, 5)[5].strip() for line in maps if len(line.split(None, 5)) > 5]
say("devices", sorted({p for p in paths if p.startswith("/dev/")}))
say("memory files", sorted({p for p in paths if "memfd" in p}))
say("deleted files", sorted({p for p in paths if "(deleted)" in p}))
say("shared memory", os.listdir("/dev/shm") == os.listdir("/dev/shm"))
say("libraries are those of Python", any("libc.so" in p for p in paths))
say("ctypes", ctypes.pythonapi.Py_IsInitialized())
say("locks", sum(1 for line in open("/proc/locks") if " %d " % os.getpid() in line))
say("timers", open("/proc/self/timers").read() if os.path.exists("/proc/self/timers") else "")
