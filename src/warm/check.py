"""Whether the interpreter sees modules in PYTHONPATH; then becomes the template. For any Python."""

import os
import sys

why = None
if sys.version_info < (3, 8):
    why = "Python " + sys.version.split()[0] + " is older than 3.8"
elif not getattr(sys.modules.get("sitecustomize"), "NVLAUNCH_TEMPLATE", None):
    why = sys.argv[1] + " starts Python in a way that leaves PYTHONPATH out (-I, -E or -S)"
if why is None:
    # As it was: in the C locale Python adds LC_CTYPE, which would then count as the user's.
    with open("/proc/self/environ", "rb") as environ:
        entries = [entry.partition(b"=") for entry in environ.read().split(b"\0") if entry]
    os.execve(sys.argv[1], sys.argv[1:], {name: value for name, _, value in entries})
os.write(0, b"refused\0" + why.encode("utf-8", "replace"))
