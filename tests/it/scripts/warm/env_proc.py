"""What others see of the process in /proc."""

import os
from seen import each, say

with open("/proc/self/environ", "rb") as file:
    entries = file.read().split(b"\0")[:-1]
each("environ", sorted((e.partition(b"=")[0].decode(), e) for e in entries))
say("order", [e.partition(b"=")[0].decode() for e in entries])
say("as Python's", [e.split(b"=", 1) for e in entries] == [list(i) for i in os.environb.items()])
for name in ("cmdline", "comm", "oom_score_adj", "coredump_filter", "timerslack_ns", "loginuid"):
    try:
        with open("/proc/self/" + name, "rb") as file:
            say(name, file.read())
    except OSError as error:
        say(name, type(error).__name__)
for name in ("exe", "cwd", "root"):
    say(name, os.readlink("/proc/self/" + name))
