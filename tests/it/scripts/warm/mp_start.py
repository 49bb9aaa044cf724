import multiprocessing as mp
import os
import sys
import threading
from seen import say


class Thing:
    value = 1


def work(queue, thing):
    main = sys.modules["__main__"]
    parent = mp.parent_process()
    current = mp.current_process()
    thread = threading.current_thread()
    queue.put(
        [
            ("thing", (thing.value, type(thing).__module__)),
            ("main", (main.__name__, main.__file__, getattr(main, "__spec__", "-"))),
            ("parent", (parent.name, parent.pid == int(os.environ["PARENT"]), parent.is_alive())),
            ("current", (current.name, current.daemon, current._identity)),
            ("argv", (sys.argv, sys.orig_argv[1:-1])),
            ("path", sys.path),
            ("environment", (os.environ["RANK"], sorted(os.environ))),
            ("thread", (thread.name, thread is threading.main_thread(), threading.active_count())),
            ("stdin", (os.readlink("/proc/self/fd/0"), sys.stdin.closed)),
            ("key", current.authkey == bytes.fromhex(os.environ["KEY"])),
        ]
    )


def main():
    os.environ["PARENT"] = str(os.getpid())
    os.environ["KEY"] = bytes(mp.current_process().authkey).hex()
    context = mp.get_context(sys.argv[1])
    say("start methods", (mp.get_start_method(allow_none=True), mp.get_all_start_methods()))
    say("process", (mp.current_process().name, mp.current_process()._identity, mp.parent_process()))
    queue = context.Queue()
    worker = context.Process(target=work, args=(queue, Thing()))
    worker.start()
    for name, value in queue.get(timeout=30):
        say("in the worker: " + name, value)
    worker.join(30)
    say("end", (worker.exitcode, worker.name, mp.active_children()))
    with context.Pool(2) as pool:
        say("pool", pool.map(abs, range(-3, 3)))
    with context.Manager() as manager:
        shared = manager.dict(a=1)
        say("manager", dict(shared))
    value = context.Value("i", 3)
    say("shared", value.value)


if __name__ == "__main__":
    main()
