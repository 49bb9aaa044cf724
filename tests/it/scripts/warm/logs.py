import logging
import os
import sys
import threading
import time
from seen import say

with open("/proc/self/stat") as stat:
    ticks = int(stat.read().rsplit(") ", 1)[1].split()[19])
root = logging.getLogger()
say("root", (root.level, root.handlers, root.disabled, logging.root.manager.disable))
say(
    "loggers",
    sorted(n for n in root.manager.loggerDict if not n.startswith(("concurrent", "asyncio"))),
)
say("last", (logging.lastResort, logging.lastResort.stream is sys.stderr))
say("levels", sorted(logging._nameToLevel))
logging.warning("on stderr, with a handler made now")
say("handler", root.handlers[0].stream is sys.stderr)
record = logging.LogRecord("a", 10, "b", 1, "c", (), None)
say(
    "record",
    (
        record.process == os.getpid(),
        record.processName,
        record.threadName,
        record.thread == threading.get_ident(),
    ),
)
now = time.clock_gettime(time.CLOCK_BOOTTIME) + record.created - time.time()
began = ticks / os.sysconf("SC_CLK_TCK")
say("clock began with the process", now - record.relativeCreated / 1000 > began - 0.1)
logging.shutdown()
