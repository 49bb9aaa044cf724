"""Times of this process alone."""

import os
import resource
import time
from seen import say

say("own time is short", time.process_time() < 0.5)
say("thread's time is short", time.thread_time() < 0.5)
own = os.times()
say("children's", (own.children_user, own.children_system))
used = resource.getrusage(resource.RUSAGE_CHILDREN)
say("usage of children", (used.ru_utime, used.ru_stime, used.ru_maxrss))
with open("/proc/self/stat") as stat:
    fields = stat.read().rsplit(") ", 1)[1].split()
started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
say("started just now", time.clock_gettime(time.CLOCK_BOOTTIME) - started < 20)
say("waited-for children's times", fields[13:15])
say(
    "resolution",
    (time.get_clock_info("perf_counter").resolution, time.get_clock_info("time").adjustable),
)
