"""nvlaunch's compatibility layer: scripts that insist on CUDA start where there is none.

`init` runs in each Python process of a rank, right after `torch` is imported: as an entry point of
PyTorch 2.5 and later, before that by the import hook in the `sitecustomize` beside this file. Which
pieces there are was decided by nvlaunch and stands in `plan.json`.

- A piece replaces one function of PyTorch (or of MMEngine) in this process. Nothing on the disk is
  touched, and what has CUDA devices at the time of a call is not changed.
- Nothing is imported, asked of a device or read of a rank's own variables before a script calls one
  of those functions: `import torch` costs what it did, and forked processes can use devices.
- An error in here is one line on stderr; the script then sees PyTorch as it is.

It runs on Python 3.8 with PyTorch 1.10 and on everything newer.
"""

import _thread
import functools
import json
import operator
import os
import re
import sys
import types

#: Backends that need devices or plugins of a vendor.
OF_VENDORS = ("nccl", "eccl", "hccl", "cncl", "mccl", "xccl", "bkcl", "ccl")

_layer = None


def init():
    """Put the pieces in their places, once; never raise."""
    global _layer
    if _layer is not None:
        return
    try:
        with open(os.path.join(_folder(), "plan.json"), encoding="utf-8") as plan:
            _layer = Layer(json.load(plan))
        _layer.install()
    except Exception as error:
        _step_aside("it", error)


def _folder():
    return os.path.dirname(os.path.abspath(__file__))


def _is_first_to_say(what):
    """Whether nobody in this job has said it yet."""
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        os.close(os.open(os.path.join(_folder(), "said-" + what), flags, 0o600))
    except FileExistsError:
        return False
    except OSError:
        # A folder that cannot be written is no reason to keep silent.
        pass
    return True


def _say(text):
    try:
        sys.stderr.write("".join("nvlaunch compat: " + line + "\n" for line in text.split("\n")))
        sys.stderr.flush()
    except Exception:
        pass  # There is no stderr, or nobody reads it.


def _step_aside(what, error):
    if _is_first_to_say("aside"):
        words = " ".join(str(error).split())[:300]
        _say("%s steps aside: %s: %s" % (what, type(error).__name__, words))


class Layer:
    """The pieces, and what they need to know."""

    def __init__(self, plan):
        self.plan = plan
        self.pieces = dict(plan["pieces"])
        self.torch = sys.modules["torch"]
        self._needed = None
        self._device = None
        self.transferred = False

    def install(self):
        """Put each piece in its place; one that fails leaves the others alone."""
        for name in list(self.pieces):
            try:
                getattr(self, "install_" + name)()
            except Exception as error:
                del self.pieces[name]
                _step_aside(name, error)

    def is_needed(self):
        """Whether there is no CUDA device here. Asked at the first call, not at the import."""
        if self._needed is None:
            self._needed = not self.torch.cuda.is_available()
        return self._needed

    def device(self):
        """Return the vendor's module (`torch.gcu`), or False where the CPU takes its place."""
        if self._device is None:
            self._device = False
            if self.plan["mode"] == "gcu":
                try:
                    import torch_gcu

                    self._device = getattr(self.torch, "gcu", None) or torch_gcu
                except Exception as error:
                    words = " ".join(str(error).split())[:300]
                    self.warn(
                        "torch_gcu cannot be imported (%s):\n"
                        "  THE GCUS ARE NOT USED, tensors stay on the CPU and gloo carries them"
                        % words
                    )
        return self._device

    def is_speaker(self):
        return os.environ.get("RANK") == "0"

    def say_changes(self):
        """Say what is changed, when the first of it is: once in a job, by its first rank."""
        if self.is_speaker() and _is_first_to_say("changes"):
            head = "%s: PyTorch finds no CUDA device here, so this is changed:" % self.plan["title"]
            _say("\n".join([head] + ["  " + text for text in self.pieces.values()]))

    def warn(self, why):
        # What nvlaunch knew before the start it has said.
        if self.is_speaker() and not self.plan["is_warned"] and _is_first_to_say("warning"):
            _say("WARNING: " + why)

    def replace(self, owner, name, change):
        """Put a function before another; `change` returns what is called instead, or None.

        An error of `change` is said, and the call is as it was.
        """
        original = getattr(owner, name)

        @functools.wraps(original)
        def replaced(*args, **kwargs):
            call = None
            try:
                if self.transferred or self.is_needed():
                    call = change(original, args, kwargs)
            except Exception as error:
                _step_aside(name, error)
            function, args, kwargs = call or (original, args, kwargs)
            return function(*args, **kwargs)

        # Modules of PyTorch may have taken it by name.
        inner = [module for key, module in list(sys.modules.items()) if key.startswith("torch.")]
        for module in [owner, *inner]:
            if getattr(module, "__dict__", {}).get(name) is original:
                setattr(module, name, replaced)

    # torch.cuda.set_device

    def install_set_device(self):
        self.replace(self.torch.cuda, "set_device", self.set_device)

    def set_device(self, _, args, kwargs):
        if self.transferred:
            return None
        device = args[0] if args else kwargs.get("device")
        try:
            device = operator.index(device)
        except TypeError:
            try:
                device = self.torch.device(device)
            except (RuntimeError, TypeError):
                # PyTorch has better words for what it is not.
                return None
            own = ("cuda", "gcu") if self.plan["mode"] == "gcu" else ("cuda",)
            # Nor does it take the CPU, devices of others, or one without a number.
            if device.type not in own or device.index is None:
                return None
            device = device.index
        self.say_changes()
        vendor = self.device()
        if vendor and device >= 0:
            return vendor.set_device, (device,), {}
        return nothing, (), {}

    # init_process_group, new_group

    def install_process_group(self):
        dist = self.torch.distributed
        if dist.is_available():
            c10d = dist.distributed_c10d
            self.replace(c10d, "init_process_group", functools.partial(self.group, 0))
            self.replace(c10d, "new_group", functools.partial(self.group, 2))

    def group(self, place, original, args, kwargs):
        args, kwargs = list(args), dict(kwargs)
        device = kwargs.get("device_id")
        # A group that is bound to a device which is not there cannot be made.
        if str(device).startswith("cuda") or (isinstance(device, int) and not self.device()):
            self.say_changes()
            del kwargs["device_id"]
        asked = args[place] if len(args) > place else kwargs.get("backend")
        other = self.backend_for(asked) if isinstance(asked, str) else None
        if other is not None:
            self.say_changes()
            if self.is_speaker() and _is_first_to_say("backend"):
                _say("the backend %s cannot work here: %s takes its place" % (asked, other))
            kwargs.pop("pg_options", None)
            if len(args) > place:
                args[place] = other
            else:
                kwargs["backend"] = other
        return original, args, kwargs

    def backend_for(self, asked):
        """Return what takes the place of a backend, or None where it can work."""
        if self.can_work(asked):
            return None
        planned = self.plan["backend"]
        names = [planned] if planned else ["eccl", "gloo"] if self.device() else ["gloo"]
        # What the user asked for is never replaced by a guess.
        if not self.plan["is_asked"]:
            names.append("gloo")
        for name in names:
            if name != asked and self.can_work(name):
                if self.plan["mode"] == "gcu" and "eccl" not in name and self.device():
                    self.warn(
                        "eccl is not here, and gloo carries tensors of the CPU only:\n"
                        "  THE GCUS CANNOT EXCHANGE GRADIENTS"
                    )
                return name
        return None

    def can_work(self, backend):
        """Whether each part of `nccl` or `cpu:gloo,cuda:nccl` can; unknown names are PyTorch's."""
        names = [part.rpartition(":")[2].strip() for part in backend.lower().split(",")]
        return all(self.is_usable(name) for name in names)

    def is_usable(self, name):
        dist = self.torch.distributed
        if name not in OF_VENDORS:
            return True
        if name == "nccl":
            return False
        if name == "eccl":
            self.device()
        is_built = getattr(dist, "is_%s_available" % name, None)
        # A plugin's registration leaves an attribute.
        return is_built() if is_built else hasattr(dist.Backend, name.upper())

    # DistributedDataParallel

    def install_ddp(self):
        self.replace(self.torch.nn.parallel.DistributedDataParallel, "__init__", self.ddp)

    def ddp(self, original, args, kwargs):
        names = ("module", "device_ids", "output_device")
        given = dict(zip(names, args[1:4]))
        given.update((name, kwargs[name]) for name in names if name in kwargs)
        if self.transferred or not (given.get("device_ids") or given.get("output_device")):
            return None
        types_of_devices = {parameter.device.type for parameter in given["module"].parameters()}
        # From 2.0 on PyTorch takes them for every device, and moves the inputs there.
        is_taken = numbers_of(getattr(self.torch, "__version__", "")) >= [2]
        if "cuda" in types_of_devices or (is_taken and types_of_devices != {"cpu"}):
            return None
        self.say_changes()
        kwargs = {name: value for name, value in kwargs.items() if name not in names}
        return original, (args[0], given["module"], None, None, *args[4:]), kwargs

    # torch_gcu's own way

    def install_transfer(self):
        from torch_gcu import transfer_to_gcu  # noqa: F401

        self.transferred = True

    # MMEngine

    def install_mmengine(self):
        on_import("mmengine.dist.utils", self.patch_mmengine)

    def patch_mmengine(self, module):
        from mmengine.version import __version__

        numbers = numbers_of(__version__)
        divides = numbers <= [0, 7, 2]
        takes_rank = [0, 10, 3] <= numbers <= [0, 10, 7] and hasattr(self.torch, "musa")
        if divides or takes_rank:
            self.replace(module, "_init_dist_pytorch", functools.partial(self.mmengine, module))

    def mmengine(self, module, original, args, kwargs):
        """Give MMEngine's function a `torch` in which the local rank chooses the device."""
        self.say_changes()
        own = {"cuda": OneDevice(self.torch.cuda)}
        if hasattr(self.torch, "musa"):
            own["musa"] = OneDevice(self.torch.musa)
        scope = dict(vars(module), torch=View(self.torch, **own))
        function = types.FunctionType(
            original.__code__,
            scope,
            original.__name__,
            original.__defaults__,
            original.__closure__,
        )
        function.__kwdefaults__ = original.__kwdefaults__
        return function, args, kwargs


def numbers_of(version):
    """Return the first three numbers of a version."""
    return [int(number) for number in re.findall(r"[0-9]+", version)[:3]]


def nothing():
    """Do what `torch.cuda.set_device` does where there is no device."""


class View:
    """Another object with some attributes of its own."""

    def __init__(self, real, **own):
        self.__dict__.update(own)
        self.__dict__["real"] = real

    def __getattr__(self, name):
        return getattr(self.__dict__["real"], name)


class OneDevice(View):
    """A device module as MMEngine's launcher should see it.

    Up to 0.7.2 it divides the rank by the number of devices, which may be 0; 0.10.3 to 0.10.7 take
    the rank itself for the number of a MUSA device. Both mean the local rank.
    """

    def device_count(self):
        return max(1, self.real.device_count())

    def set_device(self, _):
        self.real.set_device(int(os.environ["LOCAL_RANK"]))


def on_import(name, then):
    """Call `then` with a module once it is imported."""
    if name in sys.modules:
        then(sys.modules[name])
    else:
        sys.meta_path.insert(0, OnImport(name, then))


class OnImport:
    """A finder for one module that finds it as the others do, until it has been imported.

    Who asks for a spec need not import it: many only want to know whether the module is there.
    """

    def __init__(self, name, then):
        self.name = name
        self.then = then
        self.asking = set()

    def find_spec(self, name, path=None, target=None):
        thread = _thread.get_ident()
        # Another finder may ask all of them in its turn.
        if name != self.name or thread in self.asking:
            return None
        self.asking.add(thread)
        try:
            spec = None
            for finder in list(sys.meta_path):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    break
            if spec is not None:
                self.follow(spec.loader)
        except Exception as error:
            _step_aside("the hook of " + name, error)
            return None
        finally:
            self.asking.discard(thread)
        return spec

    def follow(self, loader):
        execute = loader.exec_module
        if getattr(execute, "follower", None) is self:
            return

        def exec_module(module):
            if module.__name__ != self.name:
                # Some loaders, as that of zip files, are for several modules.
                return execute(module)
            vars(loader).pop("exec_module", None)
            execute(module)
            self.end(module)

        exec_module.follower = self
        loader.exec_module = exec_module

    def end(self, module):
        """Go, now that the module is there; an import that failed may be tried again."""
        if self not in sys.meta_path:
            return
        sys.meta_path.remove(self)
        try:
            self.then(module)
        except Exception as error:
            _step_aside("the change of " + self.name, error)
