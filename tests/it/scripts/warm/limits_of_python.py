import decimal
import math
import sys
from seen import say

say("recursion", sys.getrecursionlimit())


def deep(n):
    return 0 if n == 0 else 1 + deep(n - 1)


low, high = 0, 3000
while low < high:
    middle = (low + high + 1) // 2
    try:
        deep(middle)
        low = middle
    except RecursionError:
        high = middle - 1
say("deepest", low)
for name in "getswitchinterval get_int_max_str_digits getdlopenflags getandroidapilevel".split():
    say(name, getattr(sys, name, lambda: "-")())
say("float", (sys.float_repr_style, sys.maxsize, math.pi))
say("decimal", decimal.getcontext())
say("tracemalloc", sys.modules.get("tracemalloc") and sys.modules["tracemalloc"].is_tracing())
say("debug", (__debug__, hasattr(sys, "gettotalrefcount"), sys.api_version))
