"""The order in which things end."""

import atexit
import logging
import multiprocessing.util
import os
import threading
import weakref
from seen import say


class Module:
    def __init__(self, name):
        self.name = name

    def __del__(self, write=os.write):
        write(1, ("deleted: %s\n" % self.name).encode())


say("registered", atexit._ncallbacks() > 0)
kept = Module("global")
cycle = [Module("in a cycle")]
cycle.append(cycle)
atexit.register(say, "atexit", "first registered")
finalizer = weakref.finalize(kept, say, "finalizer", "kept")
multiprocessing.util.Finalize(None, say, ("multiprocessing", "finalized"), exitpriority=1)
getattr(threading, "_register_atexit", lambda f: None)(lambda: say("threading", "at exit"))
logging.basicConfig(format="%(message)s")
atexit.register(logging.warning, "a warning at exit")
atexit.register(lambda: 1 / 0)
atexit.register(say, "atexit", "last registered")
thread = threading.Thread(
    target=lambda: (threading.main_thread().join(), say("thread", "after main"))
)
thread.start()
