"""nvlaunch's way into PyTorch before 2.5, which looks for no entry points.

The interpreter imports this module when it starts. It waits for `torch` and then gives way to the
environment's own `sitecustomize`, as if it had not been there.
"""

import os
import sys


def _wait_for_torch():
    import nvlaunch_compat

    def then(_):
        nvlaunch_compat.init()

    nvlaunch_compat.on_import("torch", then)


def _give_way(folder):
    """Run the `sitecustomize` that this one stands before; its errors are its own."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    here = os.path.realpath(folder)
    spec = PathFinder.find_spec(
        "sitecustomize", [path for path in sys.path if os.path.realpath(path) != here]
    )
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


_here = os.path.dirname(os.path.abspath(__file__))
try:
    _wait_for_torch()
except Exception as _error:
    sys.stderr.write("nvlaunch compat: it steps aside: %s\n" % _error)
_give_way(_here)
