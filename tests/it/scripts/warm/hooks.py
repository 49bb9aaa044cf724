import sys
import threading
from seen import say

for name in "excepthook displayhook unraisablehook breakpointhook".split():
    say(name, getattr(sys, name) is getattr(sys, "__%s__" % name))
say("trace", (sys.gettrace(), sys.getprofile(), threading.excepthook is threading.__excepthook__))
say("interactive", (hasattr(sys, "ps1"), hasattr(sys, "last_value"), hasattr(sys, "last_exc")))
say("coroutines", (sys.get_coroutine_origin_tracking_depth(), sys.get_asyncgen_hooks()))


class Fails:
    def __del__(self):
        raise ValueError("nobody catches this")


Fails()
sys.unraisablehook = lambda args: say(
    "unraisable", (args.exc_type.__name__, args.err_msg, str(args.object)[:20])
)
Fails()


def hook(kind, value, trace):
    say(
        "uncaught",
        (kind.__name__, str(value), trace.tb_lineno, trace.tb_next, trace.tb_frame.f_back),
    )


sys.excepthook = hook
left = Fails()
raise KeyError("to the hook")
