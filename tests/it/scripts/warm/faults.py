import faulthandler
import os
import signal
import sys
from seen import say

say("enabled", faulthandler.is_enabled())
faulthandler.dump_traceback()
faulthandler.register(signal.SIGUSR2)
os.kill(os.getpid(), signal.SIGUSR2)
faulthandler.enable()
say("enabled", faulthandler.is_enabled())
sys.stderr.flush()
if os.environ["RANK"] == "0":
    faulthandler._sigsegv()
