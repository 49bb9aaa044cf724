import importlib
import importlib.metadata
import importlib.util
import os
import site
import sys
from seen import each, say

each("finder", enumerate(str(f) for f in sys.meta_path))
each("hook", enumerate(getattr(h, "__qualname__", h) for h in sys.path_hooks))
say(
    "cached folder",
    [
        p
        for p in sys.path_importer_cache
        if "/fd" in p or not p.startswith(sys.base_prefix) and p not in sys.path
    ],
)
say("site", (site.ENABLE_USER_SITE, site.getsitepackages(), site.PREFIXES))
rank = os.environ["RANK"]
os.makedirs("made%s" % rank)
with open("made%s/__init__.py" % rank, "w") as file:
    file.write("x = __name__.rstrip('01')\n")
importlib.invalidate_caches()
say("new package", importlib.import_module("made" + rank).x)
say("bytecode", (sys.dont_write_bytecode, os.path.isdir("made%s/__pycache__" % rank)))
import helper

say("helper", (helper.__name__, helper.__file__, helper.main_when_imported))
say("not there", importlib.util.find_spec("nobody_has_this"))
say("numpy", importlib.metadata.version("numpy"))
say("found again", importlib.util.find_spec("json").origin)
importlib.reload(helper)
say("reloaded", helper.__name__)
