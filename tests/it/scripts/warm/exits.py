"""Ends in the way that its argument says."""

import atexit
import os
import signal
import sys
import threading
import time

how = sys.argv[1]
atexit.register(print, "atexit", how)
sys.stdout.write("unfinished line")
sys.stdout.flush()


class Last:
    def __del__(self):
        os.write(1, b" deleted\n")


last = Last()


def in_thread(error):
    def fail():
        raise error

    thread = threading.Thread(target=fail, name="worker")
    thread.start()
    thread.join()


if how == "number":
    sys.exit(7)
elif how == "zero":
    sys.exit(0)
elif how == "none":
    sys.exit(None)
elif how == "text":
    sys.exit("this is why")
elif how == "object":
    sys.exit(("a", 1))
elif how == "negative":
    sys.exit(-1)
elif how == "large":
    sys.exit(256 + 3)
elif how == "raised":
    raise SystemExit
elif how == "quit":
    quit(4)
elif how == "thread":
    in_thread(SystemExit(5))
elif how == "thread fails":
    in_thread(ValueError("in a thread"))
elif how == "at once":
    os._exit(6)
elif how == "error":
    raise RuntimeError("uncaught")
elif how == "interrupt":
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30)
elif how == "keyboard":
    raise KeyboardInterrupt
elif how == "term":
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
elif how == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
elif how == "abort":
    os.abort()
elif how == "handled":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
elif how == "daemon thread":
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
elif how == "thread is waited for":
    threading.Thread(target=lambda: (time.sleep(0.05), print(" later"))).start()
elif how == "closed":
    os.close(1)
    sys.exit(0)
elif how == "exec":
    os.execv(sys.executable, [sys.executable, "-c", "import sys; print('executed'); sys.exit(8)"])
elif how == "forked":
    if os.fork() == 0:
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
elif how != "end":
    raise AssertionError(how)
