"""Nothing of anybody else is on the stack."""

import inspect
import sys
import traceback
from seen import each, say

each("stack", ((f.name, (f.filename, f.lineno, f.line)) for f in traceback.extract_stack()))
say("outermost", sys._getframe().f_back)
say("inspect", [(f.filename, f.function) for f in inspect.stack()])
say("exception", sys.exc_info())
try:
    raise ValueError("no context")
except ValueError as error:
    say("context", (error.__context__, error.__cause__))
say(
    "frames",
    {n: len(traceback.extract_stack(f)) for n, f in enumerate(sys._current_frames().values())},
)
traceback.print_stack()
