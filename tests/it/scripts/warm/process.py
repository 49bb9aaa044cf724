import ctypes
import os
import resource
import subprocess
import sys
from seen import each, own, say

pid = os.getpid()
say("leads", (os.getpgrp() == pid, os.getsid(0) == pid))
with open("/proc/%d/comm" % os.getppid()) as comm:
    say("parent", comm.read())
libc = ctypes.CDLL(None)
value = ctypes.c_int()
libc.prctl(2, ctypes.byref(value), 0, 0, 0)
say("parent-death signal", value.value)
libc.prctl(37, ctypes.byref(value), 0, 0, 0)
say("subreaper", value.value)
for name, number in (
    ("dumpable", 3),
    ("keepcaps", 7),
    ("timing", 13),
    ("securebits", 27),
    ("no_new_privs", 39),
    ("thp", 42),
):
    say(name, libc.prctl(number, 0, 0, 0, 0))
each(
    "limit",
    (
        (n, resource.getrlimit(getattr(resource, n)))
        for n in dir(resource)
        if n.startswith("RLIMIT_")
    ),
)
say("affinity", sorted(os.sched_getaffinity(0)))
say("scheduler", (os.sched_getscheduler(0), os.sched_getparam(0), os.nice(0)))
mask = os.umask(0)
os.umask(mask)
say("umask", oct(mask))
say("users", (os.getresuid(), os.getresgid(), os.getgroups()))
volatile = (
    "Pid",
    "PPid",
    "Tgid",
    "Ngid",
    "NStgid",
    "NSpid",
    "NSpgid",
    "NSsid",
    "Vm",
    "Rss",
    "Sig",
    "Shd",
    "Hugetlb",
    "Threads",
    "voluntary",
    "nonvoluntary",
    "untag",
    "x86",
    "State",
    "FDSize",
    "Mems",
    "Cpus_allowed_list",
)
with open("/proc/self/status") as status:
    for line in status:
        if not line.startswith(volatile):
            say("status " + line.split(":")[0], line.split(":", 1)[1].strip())
with open("/proc/self/cgroup") as cgroup:
    say("cgroup", cgroup.read() == open("/proc/%d/cgroup" % os.getppid()).read())
with open("/proc/self/stat") as stat:
    fields = stat.read().rsplit(") ", 1)[1].split()
say("tty, flags of fork without exec", (fields[4], int(fields[6]) & 0x40))
say(
    "namespaces",
    [
        os.readlink("/proc/self/ns/" + n) == os.readlink("/proc/%d/ns/%s" % (os.getppid(), n))
        for n in sorted(os.listdir("/proc/self/ns"))
    ],
)
with open("/proc/self/task/%d/children" % pid) as children:
    say("children", children.read())
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    say("nobody to wait for", "ChildProcessError")
subprocess.run(["true"], check=True)
own("pid", pid)
say("parent is the same", os.getppid() == os.getppid())
say("executable", os.path.samefile("/proc/self/exe", sys.executable))
