import _thread
import contextvars
import os
import sys
import threading
from seen import say

current = threading.current_thread()
say("current", (type(current).__name__, current.name, current.daemon, current.is_alive()))
say("main", (current is threading.main_thread(), current.ident == _thread.get_ident()))
say("native", (current.native_id == os.getpid(), threading.get_native_id() == os.getpid()))
say("all", ([t.name for t in threading.enumerate()], threading.active_count(), _thread._count()))
say("tasks", len(os.listdir("/proc/self/task")))
say(
    "hooks",
    (
        threading.excepthook is threading.__excepthook__,
        threading.gettrace() if hasattr(threading, "gettrace") else None,
    ),
)
seen = []
thread = threading.Thread(
    target=lambda: seen.append((threading.current_thread().name, threading.active_count()))
)
thread.start()
thread.join()
say("another", seen)
say("stack", threading.stack_size())
say("switch", sys.getswitchinterval())
lock = threading.RLock()
with lock, lock:
    say("lock", "reentrant")
say("context", list(contextvars.copy_context().items()))
local = threading.local()
local.x = 1
say("local", vars(local))
import concurrent.futures

with concurrent.futures.ThreadPoolExecutor(2) as pool:
    say("pool", sorted(pool.map(abs, [-1, -2])))
timer = threading.Timer(0, say, ("timer", "ran"))
timer.start()
timer.join()
