import os, sys
why = None
if sys.version_info < (3, 8):
    why = "Python %d.%d is older than 3.8" % sys.version_info[:2]
elif not getattr(sys.modules.get("sitecustomize"), "NVLAUNCH_TEMPLATE", None):
    why = "%s starts Python in a way that leaves PYTHONPATH out (-I, -E or -S)" % sys.argv[1]
if why is None:
    os.execv(sys.argv[1], sys.argv[1:])
os.write(0, b"refused\0" + why.encode("utf-8", "replace"))
