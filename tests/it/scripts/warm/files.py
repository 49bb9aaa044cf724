"""The open files, their kinds and flags."""

import fcntl
import os
import stat
from seen import say

listed = os.open("/proc/self/fd", os.O_RDONLY)
for number in sorted(int(name) for name in os.listdir(listed)):
    if number == listed:
        continue
    try:
        mode = os.fstat(number).st_mode
    except OSError:
        continue
    link = os.readlink("/proc/self/fd/%d" % number)
    flags = fcntl.fcntl(number, fcntl.F_GETFL)
    kind = stat.filemode(mode)
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        link = link.split(":")[0]
    if link == os.path.abspath(__file__):
        link = "the script"
    close_on_exec = fcntl.fcntl(number, fcntl.F_GETFD)
    say("fd %d" % number, (kind, link, oct(flags), close_on_exec, os.isatty(number)))
say("next", os.open("/dev/null", os.O_RDONLY) - listed)
say("same pipe", os.path.sameopenfile(1, 2))
