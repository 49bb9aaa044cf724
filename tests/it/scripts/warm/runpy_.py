import os
import runpy
import sys
from seen import say

with open("other%s.py" % os.environ["RANK"], "w") as file:
    file.write("import sys\nsaid = (__name__, __file__, sys.argv, sys.path[0], __package__)\n")
say("run_path", runpy.run_path(file.name)["said"])
say("run_path as main", runpy.run_path(file.name, run_name="__main__")["said"][0])
say("run_module", sorted(n for n in runpy.run_module("seen") if n.startswith("__")))
say("after", (sys.argv, sys.modules["__main__"].__file__))
exec(compile("say('exec', __name__)", "<text>", "exec"))
