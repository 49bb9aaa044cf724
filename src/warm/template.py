"""nvlaunch's template: one interpreter that imports modules once and is forked into ranks.

It runs as `sitecustomize` of an interpreter that was started exactly as a rank is, `python -u
script.py args`: before the interpreter looks at the script. In the template this module never
ends. In a forked rank it ends, and the interpreter goes on by itself: it finds the script, makes
`__main__`, runs it, and finalises. So nothing of this file is on a rank's stack, in its
tracebacks or in its way to exit.

What it never does: touch a device, start a thread, leave a rank half made. What fails before a
rank was told to go is said to nvlaunch, and the rank ends; nvlaunch then starts cold ranks.

Messages are packets of fields that end in NUL; `protocol.rs` says which there are.
"""

import os
import sys

#: The check that runs before (`check.py`) looks for this.
NVLAUNCH_TEMPLATE = 1

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_MM = 35
PR_SET_MM_MAP = 14
SIGKILL = 9
#: Bytes that one message may have.
PACKET = 1 << 18
#: How long a rank waits for its new parent once its old one is gone, in seconds.
ADOPTION = 5.0


class Fields:
    """The fields of a packet, one after the other."""

    def __init__(self, packet):
        self.fields = iter(packet.split(b"\0"))

    def one(self):
        return next(self.fields)

    def number(self):
        return int(self.one())

    def many(self):
        return [self.one() for _ in range(self.number())]


class RefusedError(Exception):
    """Ranks cannot be warm; the text says why, in one line."""


class Channel:
    """A packet socket, without the `socket` module: scripts may look at `sys.modules`."""

    def __init__(self, fd):
        import _socket

        self.socket = _socket.socket(fileno=fd)
        self.rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)
        self.peek = _socket.MSG_PEEK
        self.dont_wait = _socket.MSG_DONTWAIT
        self.close_on_exec = getattr(_socket, "MSG_CMSG_CLOEXEC", 0)
        self.room = _socket.CMSG_SPACE(16)

    def look(self):
        """Return the next packet, which stays."""
        return self.socket.recv(PACKET, self.peek)

    def receive(self):
        """Return the next packet and its descriptors; an empty packet is the end."""
        packet, extra, _, _ = self.socket.recvmsg(PACKET, self.room, self.close_on_exec)
        fds = []
        for level, kind, data in extra:
            if (level, kind) == self.rights:
                for at in range(0, len(data) - len(data) % 4, 4):
                    fds.append(int.from_bytes(data[at : at + 4], sys.byteorder))
        return packet, fds

    def send(self, *fields, wait=True):
        fields = [field if isinstance(field, bytes) else str(field).encode() for field in fields]
        self.socket.send(b"\0".join(fields), 0 if wait else self.dont_wait)

    def close(self):
        self.socket.close()


def one_line(error):
    text = " ".join(str(error).split())
    name = type(error).__name__
    return (f"{name}: {text}" if text else name).encode("utf-8", "replace")[:400]


class Watch:
    """Which variables that differ from rank to rank are read while modules are imported.

    Such a value would be that of no rank, for all of them. Every way to read one variable of
    `os.environ` goes through its `encodekey`; a copy of the whole only has what is there.
    """

    def __init__(self, names):
        self.names = set(names)
        self.reader = None

    def __enter__(self):
        self.saved = [(env, env.encodekey) for env in (os.environ, os.environb)]
        for env, encode in self.saved:
            env.encodekey = self.recorder(encode)
        return self

    def __exit__(self, *_):
        for env, encode in self.saved:
            env.encodekey = encode

    def recorder(self, encode):
        def record(key):
            encoded = encode(key)
            if encoded in self.names and self.reader is None:
                self.reader = (who_asks(sys._getframe(1)), os.fsdecode(encoded))
            return encoded

        return record


def who_asks(frame):
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name not in ("os", "_collections_abc", "collections.abc"):
            return name
        frame = frame.f_back
    return "something"


def script_folder(argv0):
    """Say what `sys.path[0]` will be (Python itself sets it, after this module)."""
    if getattr(sys.flags, "safe_path", False):
        return None
    if argv0 == "-m":
        return os.getcwd()
    if os.path.isdir(argv0) or argv0.endswith((".zip", ".pyz")):
        return argv0
    return os.path.dirname(os.path.realpath(argv0))


def import_all(names):
    main = sys.modules["__main__"]
    argv0 = sys.argv[0]
    folder = script_folder(argv0)
    if folder is not None:
        sys.path.insert(0, folder)
    if argv0 != "-m":
        # A main module without a file is what an interactive session looks like.
        main.__file__ = argv0
    try:
        for name in names:
            name = os.fsdecode(name)
            try:
                __import__(name)
            except BaseException as error:
                text = one_line(error).decode("utf-8", "replace")
                raise RefusedError(f"`import {name}` ends with {text}") from None
    finally:
        main.__dict__.pop("__file__", None)
        if folder is not None:
            if folder in sys.path:
                sys.path.remove(folder)
            sys.path_importer_cache.pop(folder, None)


def check_threads():
    threads = [int(thread) for thread in os.listdir("/proc/self/task")]
    if len(threads) == 1:
        return
    python = sys.modules.get("threading")
    names = {thread.ident: thread.name for thread in python.enumerate()} if python else {}
    names = sorted({name for ident, name in names.items() if ident != python.get_ident()})
    names = names or ["started by a library"]
    raise RefusedError(f"{len(threads) - 1} thread(s) survived the import: {', '.join(names)}")


def check_children():
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as children:
            left = children.read().split()
    except OSError:
        return
    for child in left:
        with open(f"/proc/{child}/comm") as comm:
            raise RefusedError(f"a process survived the import: {comm.read().strip()}")


def check_devices(prefixes):
    prefixes = tuple(os.fsdecode(prefix) for prefix in prefixes)
    opened = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            opened.append(os.readlink("/proc/self/fd/" + fd))
        except OSError:
            pass
    with open("/proc/self/maps", errors="surrogateescape") as maps:
        opened.extend(line.split(None, 5)[5].strip() for line in maps if "/dev/" in line)
    for path in opened:
        if path.startswith(prefixes):
            raise RefusedError(f"the import opened {path}")


def bad_fork():
    """Say what a forked process could not use any more, as far as PyTorch knows it."""
    for kind in ("cuda", "xpu", "mtia", "npu", "hpu", "mlu", "musa", "gcu"):
        module = sys.modules.get("torch." + kind) or sys.modules.get(f"torch_{kind}.{kind}")
        is_bad = getattr(module, "_is_in_bad_fork", None)
        if is_bad is not None and is_bad():
            return f"the import started torch.{kind}, which does not survive a fork"
        is_initialised = getattr(module, "is_initialized", None)
        if is_initialised is not None and is_initialised():
            return f"the import initialised torch.{kind}"
    return ""


def try_a_fork():
    """Fork once: threads that end before a fork do so (OpenBLAS), and a child says how it is."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, bad_fork().encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        why = pipe.read().decode()
    os.waitpid(child, 0)
    if why:
        raise RefusedError(why)


class MemoryMap:
    """What `/proc/PID/environ` and `cmdline` show: prctl(2), `PR_SET_MM_MAP`."""

    def __init__(self, libc):
        import ctypes

        self.ctypes = ctypes
        self.libc = libc

    def show(self, env, argv):
        """Show this environment, and this command line unless it is None; best effort."""
        ctypes = self.ctypes
        with open("/proc/self/stat", "rb") as stat:
            after_name = stat.read().rsplit(b") ", 1)[1].split()
        # As proc(5) counts them: the first two fields and one that does not exist are cut off.
        fields = [0, 0, 0, 0] + [int(field) for field in after_name[1:]]
        self.libc.sbrk.restype = ctypes.c_void_p
        values = [*fields[26:28], *fields[45:48], self.libc.sbrk(0), fields[28]]
        values += self.block(argv) if argv is not None else fields[48:50]
        values += self.block(env)
        words = (ctypes.c_uint64 * 13)(*values, 0, 0xFFFFFFFF << 32)
        self.libc.prctl(
            PR_SET_MM,
            ctypes.c_ulong(PR_SET_MM_MAP),
            ctypes.byref(words),
            ctypes.c_ulong(ctypes.sizeof(words)),
            ctypes.c_ulong(0),
        )

    def block(self, strings):
        ctypes = self.ctypes
        text = b"".join(string + b"\0" for string in strings)
        buffer = ctypes.create_string_buffer(text, max(1, len(text)))
        # The kernel reads it for as long as the process lives.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(buffer))
        start = ctypes.addressof(buffer)
        return [start, start + len(text)]


class Template:
    """The interpreter that is forked, and what it becomes in a rank."""

    def __init__(self, control, setup):
        import ctypes

        self.control = control
        self.nvlaunch = setup.number()
        self.modules = setup.many()
        self.own_names = setup.many()
        self.devices = setup.many()
        self.python_path = setup.many()
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.ctypes = ctypes
        with open("/proc/self/comm", "rb") as comm:
            self.name = comm.read().rstrip(b"\n")
        #: The environment that the interpreter was started with, less what started this module.
        self.env = {}
        with open("/proc/self/environ", "rb") as environ:
            for entry in environ.read().split(b"\0"):
                name, _, value = entry.partition(b"=")
                if entry and name != b"PYTHONPATH":
                    self.env[name] = value
        for value in self.python_path:
            self.env[b"PYTHONPATH"] = value
        #: The environment's own `sitecustomize`, and what became of it.
        self.site = None
        self.site_error = None

    def prctl(self, what, value):
        if isinstance(value, int):
            value = self.ctypes.c_ulong(value)
        zero = self.ctypes.c_ulong(0)
        if self.libc.prctl(what, value, zero, zero, zero) != 0:
            raise OSError(self.ctypes.get_errno(), "prctl")

    def prepare(self):
        """Take back what started this module, then do what every rank would do."""
        self.prctl(PR_SET_NAME, b"nvl-template")
        archive = os.path.dirname(__file__)
        if archive in sys.path:
            sys.path.remove(archive)
        sys.path_importer_cache.pop(archive, None)
        getattr(sys.modules.get("zipimport"), "_zip_directory_cache", {}).pop(archive, None)
        os.environ.pop("PYTHONPATH", None)
        for value in self.python_path:
            os.environb[b"PYTHONPATH"] = value
        os.close(int(archive.rsplit("/", 1)[1]))
        self.find_site()
        with Watch(self.own_names) as watch:
            import_all(self.modules)
        if watch.reader is not None:
            raise RefusedError("{} reads {} while it is imported".format(*watch.reader))
        check_devices(self.devices)
        check_children()
        try_a_fork()
        check_threads()
        import gc

        gc.collect()
        if hasattr(gc, "freeze"):
            # Ranks do not write to what they share.
            gc.freeze()

    def find_site(self):
        """Import the `sitecustomize` that this one stands before, if there is one."""
        me = sys.modules.pop("sitecustomize")
        try:
            self.site = __import__("sitecustomize")
        except BaseException as error:
            if not (isinstance(error, ImportError) and error.name == "sitecustomize"):
                self.site_error = error
        sys.modules["sitecustomize"] = me

    def serve(self):
        """Fork the ranks of one attempt after the other; return in each of them."""
        while True:
            packet, fds = self.control.receive()
            if not packet:
                os._exit(0)
            child = os.fork()
            if child == 0:
                return self.breed(Channel(fds[0]), fds[1], Fields(packet))
            for fd in fds:
                os.close(fd)
            os.waitpid(child, 0)

    def breed(self, channel, gate, order):
        """Fork the ranks and end, so that they become nvlaunch's; return in each of them."""
        import time

        template = os.getppid()
        self.prctl(PR_SET_PDEATHSIG, SIGKILL)
        self.control.close()
        count = order.number()
        orphaned, parent_lives = os.pipe()
        rank = 0
        try:
            for _ in range(count):
                packet, fds = channel.receive()
                if not packet or os.getppid() != template:
                    os._exit(0)
                fields = Fields(packet)
                rank = fields.number()
                forked = time.monotonic_ns()
                child = os.fork()
                if child == 0:
                    os.close(parent_lives)
                    return Rank(self, channel, gate, orphaned, rank, forked, fields, fds)
                for fd in fds:
                    os.close(fd)
                channel.send(b"forked", rank, child)
        except BaseException as error:
            channel.send(b"failed", rank, one_line(error), wait=False)
        os._exit(0)


class Rank:
    """A forked process on its way to being a rank."""

    def __init__(self, template, channel, gate, orphaned, number, forked, fields, fds):
        self.template = template
        self.channel = channel
        self.gate = gate
        self.orphaned = orphaned
        self.number = number
        self.forked = forked
        self.streams = fields.many()
        self.cpus = fields.many()
        self.env = fields.many()
        self.args = fields.many() if fields.number() else None
        self.fds = fds

    def become(self):
        """Do everything up to the script; end where that fails or is not wanted."""
        try:
            os.setsid()
            self.set_environment()
            self.set_streams()
            if self.cpus:
                os.sched_setaffinity(0, [int(cpu) for cpu in self.cpus])
            self.set_arguments()
            self.renew_state()
            self.template.prctl(PR_SET_NAME, self.template.name)
            self.wait_for_parent()
            self.channel.send(b"here", self.number)
            if not os.read(self.gate, 1):
                os._exit(0)
        except BaseException as error:
            try:
                self.channel.send(b"failed", self.number, one_line(error), wait=False)
            finally:
                os._exit(1)
        import time

        try:
            took = time.monotonic_ns() - self.forked
            self.channel.send(b"script", self.number, took, wait=False)
        except OSError:
            pass  # It is only told to people.
        os.close(self.gate)
        self.channel.close()

    def set_environment(self):
        for entry in self.env:
            name, _, value = entry.partition(b"=")
            os.environb[name] = value
            self.template.env[name] = value
        # In the order that an executed rank finds them in: what Python and modules add comes last.
        given = self.template.env
        entries = sorted(os.environb.items(), key=lambda entry: (entry[0] not in given, entry[0]))
        os.environ.clear()
        os.environb.update(entries)

    def set_streams(self):
        fds = dict(zip((int(stream) for stream in self.streams), self.fds))
        for stream in (0, 1, 2):
            if stream in fds:
                os.dup2(fds[stream], stream)
                os.close(fds[stream])
        if 0 not in fds:
            null = os.open("/dev/null", os.O_RDONLY)
            os.dup2(null, 0)
            os.close(null)
        import io

        old = sys.__stdin__
        if old is not None:
            raw = open(0, "rb", closefd=False)  # noqa: SIM115
            raw.raw.name = "<stdin>"
            new = io.TextIOWrapper(raw, old.encoding, old.errors, "\n", False, True)
            new.mode = "r"
            if sys.stdin is old:
                sys.stdin = new
            sys.__stdin__ = new
        # Handlers of `logging` hold these: they stay the same objects.
        for fd, name, text in ((1, "<stdout>", sys.__stdout__), (2, "<stderr>", sys.__stderr__)):
            raw = getattr(text, "buffer", None)
            if isinstance(raw, io.FileIO):
                raw.__init__(fd, "wb", closefd=False)
                raw.name = name
                text.__init__(raw, text.encoding, text.errors, "\n", False, True)
                text.mode = "w"

    def set_arguments(self):
        argv = None
        if self.args is not None:
            old = len(sys.argv) - 1
            args = [os.fsdecode(arg) for arg in self.args]
            sys.argv[1:] = args
            with open("/proc/self/cmdline", "rb") as cmdline:
                argv = cmdline.read().split(b"\0")[:-1]
            argv = argv[: len(argv) - old] + self.args
            if hasattr(sys, "orig_argv"):
                sys.orig_argv[len(sys.orig_argv) - old :] = args
        env = [name + b"=" + value for name, value in sorted(self.template.env.items())]
        MemoryMap(self.template.libc).show(env, argv)

    def renew_state(self):
        """Renew what executed processes do not share; Python renews `random` by itself.

        A module that seeds a generator while it is imported must not be named for warm start.
        """
        numpy_random = sys.modules.get("numpy.random")
        if numpy_random is not None:
            numpy_random.seed()
        generator = getattr(sys.modules.get("torch"), "default_generator", None)
        # Of 64 random bits; a smaller number is somebody's choice.
        if generator is not None and generator.initial_seed() >= 1 << 32:
            generator.seed()
        process = sys.modules.get("multiprocessing.process")
        if process is not None:
            process.current_process().authkey = os.urandom(32)
        threading = sys.modules.get("threading")
        if threading is not None:
            thread = threading.current_thread()
            getattr(thread, "_set_native_id", lambda: None)()
        logging = sys.modules.get("logging")
        if hasattr(logging, "_startTime"):
            # Records count their times from there, as a float or, since 3.13, in nanoseconds.
            import time

            now = time.time_ns()
            logging._startTime = now if isinstance(logging._startTime, int) else now / 1e9
        import atexit
        import gc

        if hasattr(gc, "unfreeze"):
            # The end of the interpreter collects what `__main__` held, which was frozen, too.
            atexit.register(gc.unfreeze)

    def wait_for_parent(self):
        """Wait until nvlaunch is the parent, then die with it."""
        import time

        nvlaunch = self.template.nvlaunch
        os.read(self.orphaned, 1)
        os.close(self.orphaned)
        end = time.monotonic() + ADOPTION
        while os.getppid() != nvlaunch:
            if time.monotonic() > end:
                raise RefusedError("the rank did not become a child of nvlaunch")
            time.sleep(0.0002)
        self.template.prctl(PR_SET_PDEATHSIG, SIGKILL)
        if os.getppid() != nvlaunch:
            os._exit(1)


def run():
    """Serve as the template; in each rank, give way to the environment's `sitecustomize`."""
    import fcntl
    import time

    began = time.monotonic()
    packet = Channel(os.dup(0)).look()
    setup = Fields(packet)
    setup.one()
    words = setup.many()
    if [os.fsencode(arg) for arg in sys.argv] != words:
        # Another Python, started by a program between nvlaunch and the interpreter.
        raise ImportError("not the template", name="sitecustomize")
    control = Channel(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3))
    control.receive()
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    try:
        template = Template(control, setup)
        template.prepare()
        took = int((time.monotonic() - began) * 1e6)
        control.send(b"ready", took, "{}.{}.{}".format(*sys.version_info))
        rank = template.serve()
    except RefusedError as why:
        control.send(b"refused", why)
        os._exit(0)
    except BaseException as error:
        control.send(b"refused", b"the template failed: " + one_line(error))
        os._exit(1)
    rank.become()
    if template.site_error is not None:
        raise template.site_error
    if template.site is None:
        raise ImportError("No module named 'sitecustomize'", name="sitecustomize")
    sys.modules["sitecustomize"] = template.site


if getattr(sys, "argv", ["-c"])[:1] != ["-c"]:
    run()
