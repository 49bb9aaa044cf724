"""Its own words."""

import sys
import __main__
from seen import each, say

say("names", sorted(vars(__main__)))
for name in "name file doc package spec loader cached builtins annotations path dict".split():
    value = getattr(__main__, "__%s__" % name, "-")
    if name in ("loader", "builtins", "dict"):
        value = type(value).__name__
    say("__%s__" % name, value)
say("loader", getattr(__loader__, "path", "-"))
say("is itself", sys.modules["__main__"] is __main__ and vars(__main__) is globals())
if __name__ == "__main__":
    say("main", "yes")
import main_module

say("again", (main_module.__name__, main_module.__file__, main_module is __main__))
