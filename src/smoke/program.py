"""A rank of `nvlaunch smoke`: proves that init_process_group and the collectives work here.

It says what it does in a file of its own, one JSON object per line, before and after each step, so
that a rank that hangs, or is killed, has said where. Without arguments it says so on its standard
output; then `nvlaunch smoke --print-program > smoke.py` is a script that any launcher starts.

Written for PyTorch 1.10 on Python 3.8 and everything later.
"""

import datetime
import faulthandler
import importlib
import json
import os
import signal
import sys
import time
import traceback

BEGAN = time.monotonic()
SIZES = [4, 64 << 10, 4 << 20, 64 << 20]
# How long one size is measured, and how often at most.
MEASURE_S = 0.2
MOST_REPEATS = 100
ELEMENTS = 1000
# What PyTorch's backends (torch/csrc/distributed/c10d) and those of vendors say of a collective or
# a type that they do not have. No less than their words: a driver that is broken says "operation
# not supported" (CUDA's error 801), too.
UNSUPPORTED = (
    "does not support",
    "invalid scalar type",
    "data type is not supported for",
    "unsupported data type",
    "unhandled data type",
)


class Unsupported(Exception):
    """This PyTorch has no such collective."""


class Rank:
    """One rank: what it was told, and where it says what it does."""

    def __init__(self, settings):
        self.number = int(os.environ["RANK"])
        self.size = int(os.environ["WORLD_SIZE"])
        self.local = int(os.environ.get("LOCAL_RANK", "0"))
        self.backend = settings.get("backend") or os.environ.get("NVLAUNCH_BACKEND") or "gloo"
        self.device_type = settings.get("device", "cpu")
        self.modules = settings.get("modules", [])
        self.sizes = settings.get("sizes", SIZES)
        self.timeout = datetime.timedelta(seconds=settings.get("patience", 600))
        self.folder = settings.get("folder")
        self.device = self.torch = self.dist = self.stacks = None
        self.out = 1
        if self.folder:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self.out = os.open(self.path("jsonl"), flags, 0o600)
            self.stacks = open(self.path("stack"), "w")
            # In C: it answers while the interpreter waits inside a library, too.
            faulthandler.register(signal.SIGUSR2, self.stacks, all_threads=True)
        self.say(event="start", pid=os.getpid())

    def path(self, ending):
        return os.path.join(self.folder, "rank-%d.%s" % (self.number, ending))

    def say(self, **fields):
        fields.update(at=round(time.monotonic() - BEGAN, 6))
        os.write(self.out, (json.dumps(fields) + "\n").encode())

    def step(self, name, action, is_optional=False):
        """Does it; `action` returns nothing, or in words what is wrong with what came out."""
        self.say(event="begin", step=name)
        began = time.monotonic()
        try:
            wrong = action()
        except Exception as error:
            words = str(error) or type(error).__name__
            if is_optional and is_unsupported(error, words):
                self.say(event="skip", step=name, why="not supported by " + self.backend)
                return
            self.say(event="error", step=name, error="%s: %s" % (type(error).__name__, words))
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)  # PyTorch may abort while the interpreter ends
        seconds = round(time.monotonic() - began, 6)
        self.say(event="end", step=name, seconds=seconds, wrong=wrong)

    def begin(self):
        self.step("import", self.import_torch)
        self.say(event="about", torch=str(self.torch.__version__), python=sys.version.split()[0])
        self.step("device", self.take_device)
        self.step("init", self.init)

    def import_torch(self):
        self.torch = importlib.import_module("torch")
        self.dist = importlib.import_module("torch.distributed")
        for module in self.modules:
            importlib.import_module(module)

    def take_device(self):
        if self.device_type == "cpu":
            self.device = self.torch.device("cpu")
            return
        of_vendor = getattr(self.torch, self.device_type)
        # As with --virtual-local-rank, a rank may see one device alone.
        index = self.local % max(1, of_vendor.device_count())
        of_vendor.set_device(index)
        self.device = self.torch.device(self.device_type, index)
        self.torch.ones(1, device=self.device).add_(1)
        self.wait()

    def init(self):
        self.dist.init_process_group(self.backend, timeout=self.timeout)

    def wait(self):
        """Until the device has done what it was asked to do."""
        if self.device_type != "cpu":
            getattr(self.torch, self.device_type).synchronize()

    def row(self, value, dtype=None):
        """A tensor with the value of each index."""
        values = [value(index) for index in range(ELEMENTS)]
        return self.torch.tensor(values, dtype=dtype or self.torch.float32, device=self.device)

    def compare(self, tensor, value, what="index"):
        """In words the first element that is not as it should be."""
        for index, got in enumerate(tensor.cpu().tolist()):
            expected = value(index)
            # More than 256 ranks are more than the eight digits of bfloat16.
            slack = abs(expected) / 64 if self.size > 32 and tensor.element_size() == 2 else 0
            if not abs(got - expected) <= slack:
                return "%s %d is %r and should be %r" % (what, index, got, expected)
        return None

    def check(self):
        dist, torch = self.dist, self.torch
        self.step("barrier", self.barrier)
        for operation in "sum", "max":
            for name in "float32", "bfloat16", "int64":
                self.step(
                    "all_reduce %s %s" % (operation, name),
                    lambda op=operation, dtype=getattr(torch, name): self.all_reduce(op, dtype),
                    name != "float32",
                )
        self.step("broadcast", self.broadcast)
        self.step("all_gather", self.all_gather)
        self.step("reduce_scatter", self.reduce_scatter, True)
        self.step("all_to_all", self.all_to_all, True)
        if self.size == 1:
            self.say(event="skip", step="ring", why="one rank has no neighbour")
        else:
            self.step("ring", self.ring)
        self.step("bandwidth", self.bandwidth)
        dist.barrier()
        self.say(event="done")

    def barrier(self):
        self.dist.barrier()
        self.wait()

    def all_reduce(self, operation, dtype):
        def of(rank, index):
            if dtype == self.torch.bfloat16:
                return rank % 4 + index % 3  # sums that eight digits hold
            return (rank + 1) * (index % 7 + 1)

        join = {"sum": sum, "max": max}[operation]
        tensor = self.row(lambda index: of(self.number, index), dtype)
        self.dist.all_reduce(tensor, getattr(self.dist.ReduceOp, operation.upper()))
        return self.compare(tensor, lambda index: join(of(r, index) for r in range(self.size)))

    def broadcast(self):
        for source in range(self.size):
            is_source = source == self.number
            tensor = self.row(lambda index: source * 1000 + index if is_source else -1)
            self.dist.broadcast(tensor, source)
            wrong = self.compare(tensor, lambda index: source * 1000 + index)
            if wrong:
                return "from rank %d: %s" % (source, wrong)
        return None

    def all_gather(self):
        parts = [self.row(lambda index: -1) for _ in range(self.size)]
        self.dist.all_gather(parts, self.row(lambda index: self.number * 1000 + index))
        for source, part in enumerate(parts):
            wrong = self.compare(part, lambda index: source * 1000 + index)
            if wrong:
                return "from rank %d: %s" % (source, wrong)
        return None

    def reduce_scatter(self):
        if not hasattr(self.dist, "reduce_scatter"):
            raise Unsupported("not implemented")
        parts = [self.row(lambda index: (self.number + 1) * (part + 1) + index % 5)
                 for part in range(self.size)]  # fmt: skip
        tensor = self.row(lambda index: -1)
        self.dist.reduce_scatter(tensor, parts)
        ranks = range(self.size)
        return self.compare(
            tensor, lambda index: sum((r + 1) * (self.number + 1) + index % 5 for r in ranks)
        )

    def all_to_all(self):
        torch, ranks = self.torch, range(self.size)
        given = torch.tensor([self.number * 1000.0 + to for to in ranks], device=self.device)
        taken = torch.full_like(given, -1)
        if not hasattr(self.dist, "all_to_all_single"):
            raise Unsupported("not implemented")
        self.dist.all_to_all_single(taken, given)
        return self.compare(taken, lambda source: source * 1000 + self.number, "from rank")

    def ring(self):
        """To the next rank, from the one before; even ranks send first."""
        after, before = (self.number + 1) % self.size, (self.number - 1) % self.size
        given = self.row(lambda index: self.number * 1000 + index)
        taken = self.row(lambda index: -1)
        if self.number % 2 == 0:
            self.dist.send(given, after)
            self.dist.recv(taken, before)
        else:
            self.dist.recv(taken, before)
            self.dist.send(given, after)
        wrong = self.compare(taken, lambda index: before * 1000 + index)
        return wrong and "from rank %d: %s" % (before, wrong)

    def bandwidth(self):
        """Time of all_reduce by size; the values of large messages are checked as well."""
        first = None
        for size in self.sizes:
            wrong = self.measure(max(1, size // 4))
            # The other ranks measure on.
            if wrong and not first:
                first = "%d bytes: %s" % (size, wrong)
        return first

    def measure(self, elements):
        torch, dist = self.torch, self.dist
        tensor = torch.full((elements,), float(self.number + 1), device=self.device)
        dist.barrier()
        seconds = self.timed(tensor, 1)
        expected = self.size * (self.size + 1) // 2
        wrong = None
        is_wrong = tensor != expected
        if bool(is_wrong.any()):
            index = int(is_wrong.nonzero()[0])
            got = tensor[index].item()
            wrong = "index %d is %r and should be %r" % (index, got, expected)
        # All ranks measure equally often. The slowest one's time is what counts.
        slowest = torch.tensor([seconds], device=self.device)
        dist.all_reduce(slowest, dist.ReduceOp.MAX)
        dist.broadcast(slowest, 0)
        repeats = min(MOST_REPEATS, int(MEASURE_S / max(slowest.item(), 1e-9)))
        if repeats > 0:
            tensor.fill_(0)
            dist.barrier()
            seconds = self.timed(tensor, repeats)
        self.say(event="timing", bytes=4 * elements, seconds=seconds)
        return wrong

    def timed(self, tensor, repeats):
        self.wait()
        began = time.perf_counter()
        for _ in range(repeats):
            self.dist.all_reduce(tensor)
        self.wait()
        return (time.perf_counter() - began) / repeats


def is_unsupported(error, words):
    lower = words.lower()
    return isinstance(error, (NotImplementedError, Unsupported)) or any(
        sign in lower for sign in UNSUPPORTED
    )


def main():
    rank = Rank(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
    rank.begin()
    rank.check()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # PyTorch may abort while the interpreter ends


if __name__ == "__main__":
    main()
