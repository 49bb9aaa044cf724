import faulthandler
import signal
import threading
from seen import each, say

each(
    "handler",
    ((s.name, signal.getsignal(s)) for s in sorted(signal.valid_signals()) if hasattr(s, "name")),
)
say("blocked", sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
say("pending", sorted(signal.sigpending()))
with open("/proc/self/status") as status:
    for line in status:
        if line.startswith(("Sig", "Shd")):
            name, value = line.split()
            if name == "SigQ:":
                continue
            # Less 32 and 33, which the C library uses.
            say(name[:-1], hex(int(value, 16) & ~(3 << 31)))
say("wakeup", signal.set_wakeup_fd(-1))
say(
    "timers",
    (signal.getitimer(signal.ITIMER_REAL), signal.getitimer(signal.ITIMER_PROF), signal.alarm(0)),
)
say("faulthandler", faulthandler.is_enabled())
caught = []
signal.signal(signal.SIGUSR1, lambda number, frame: caught.append((number, frame.f_code.co_name)))
signal.raise_signal(signal.SIGUSR1)
say("caught", caught)
say("main thread", threading.current_thread() is threading.main_thread())
