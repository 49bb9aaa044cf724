import sys

before = set(sys.modules)
import os
from seen import each, say

each("module", ((name, "there") for name in sorted(before)))
say("builtins", sorted(vars(sys.modules["builtins"])))
say("sitecustomize", "sitecustomize" in before)
say(
    "from an archive",
    sorted(
        n
        for n, m in sys.modules.items()
        if "/proc/self/fd" in str(getattr(m, "__file__", "") or "")
    ),
)
say(
    "ours",
    sorted(
        n
        for n, m in sys.modules.items()
        if "nvlaunch" in str(m).lower() and n != "__main__" and os.getcwd() not in str(m)
    ),
)
