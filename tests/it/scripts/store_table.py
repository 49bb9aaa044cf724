"""Does the same with the store of nvlaunch and with both of PyTorch's own; says what came of it.

One line of JSON for each case: its name, and what each server answered. A case that the installed
PyTorch does not have is left out.
"""

import datetime
import json
import os
import threading

import torch
from torch.distributed import PrefixStore, TCPStore

LONG = datetime.timedelta(seconds=20)
SHORT = datetime.timedelta(milliseconds=200)
# Those after GETNUMKEYS are others up to 2.0, which has no APPEND.
HAS_TODAYS_NUMBERS = hasattr(TCPStore, "append")


def own_server(libuv):
    """A server of PyTorch's, kept alive by what is returned."""
    try:
        return TCPStore("127.0.0.1", 0, None, True, LONG, use_libuv=libuv)
    except TypeError:  # 2.0 has one server only, and no word for it
        return TCPStore("127.0.0.1", 0, None, True, LONG) if not libuv else None
    except RuntimeError:  # a build without libuv, as 2.1 has it on the package index
        if libuv:
            return None
        raise


class Server:
    def __init__(self, host, port, keep=None):
        self.host, self.port, self.keep = host, port, keep

    def client(self, timeout=LONG):
        return TCPStore(self.host, self.port, None, False, timeout)


def servers():
    found = {"nvlaunch": Server(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))}
    for name, libuv in (("libuv", True), ("legacy", False)):
        own = own_server(libuv)
        if own is not None:
            found[name] = Server("127.0.0.1", own.port, own)
    return found


def in_thread(work):
    """Starts `work`; the function it returns waits for its result."""
    box = []

    def run():
        try:
            box.append(work())
        except Exception as error:  # what it is is the result
            box.append(words(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result():
        thread.join(30)
        return box[0] if box else "did not end"

    return result


def words(error):
    """An error by its kind: the texts name ports and times."""
    return f"{type(error).__name__}"


def there(store, keys):
    """What CHECK says; before 2.2 there is no word for it, though the operation is there."""
    return store.check(keys) if hasattr(store, "check") else None


CASES = []
QUEUES = []


def case(function):
    CASES.append(function)
    return function


def queue_case(function):
    """PyTorch's older server closes the connection at a queue."""
    QUEUES.append(function)
    return case(function)


@case
def set_get(server):
    store = server.client()
    store.set("a", "one")
    store.set("a", b"\x00\xff two")
    return store.get("a"), store.get("a")


@case
def empty_value(server):
    store = server.client()
    store.set("e", "")
    return store.get("e"), there(store, ["e"])


@case
def get_waits_for_another_client(server):
    late = in_thread(lambda: server.client().get("late"))
    server.client().set("late", "here")
    return late()


@case
def get_times_out(server):
    # Up to 2.4 a client with so short a time does not even connect.
    store = server.client()
    store.set_timeout(SHORT)
    try:
        return store.get("never")
    except Exception as error:
        return words(error), there(store, ["never"])


if HAS_TODAYS_NUMBERS:  # nor was there a way to end a wait

    @case
    def a_client_works_after_its_wait_was_cancelled(server):
        store = server.client()
        try:
            store.wait(["nowhere"], SHORT)
        except Exception as error:
            kind = words(error)
        store.set("nowhere", "x")
        store.wait(["nowhere"], LONG)
        return kind, store.get("nowhere")


@case
def wait_for_several(server):
    done = in_thread(lambda: server.client().wait(["w1", "w2", "w3"], LONG))
    store = server.client()
    for key in ("w3", "w1", "w2"):
        store.set(key, key)
    return done()


@case
def add(server):
    store = server.client()
    return store.add("n", 5), store.add("n", -7), store.add("n", 0), store.get("n")


@case
def add_to_what_was_set(server):
    store = server.client()
    store.set("set", "41")
    return store.add("set", 1)


@case
def add_wakes_a_waiter(server):
    late = in_thread(lambda: server.client().wait(["counter"], LONG))
    server.client().add("counter", 1)
    return late()


@case
def add_at_the_ends_of_i64(server):
    store = server.client()
    return store.add("big", 2**62), store.add("big", 2**62 - 1), store.get("big")


@case
def add_by_many_at_once(server):
    def work():
        store = server.client()
        return [store.add("sum", 1) for _ in range(50)]

    results = [in_thread(work) for _ in range(8)]
    seen = sorted(number for result in results for number in result())
    return seen == list(range(1, 401))


@case
def compare_set(server):
    store = server.client()
    return (
        store.compare_set("c", "", "first"),
        store.compare_set("c", "other", "second"),
        store.compare_set("c", "first", "second"),
        store.get("c"),
    )


@case
def compare_set_on_what_is_not_there(server):
    store = server.client()
    return store.compare_set("cm", "expected", "x"), there(store, ["cm"])


@case
def compare_set_wakes_a_waiter(server):
    late = in_thread(lambda: server.client(datetime.timedelta(seconds=2)).get("cw"))
    server.client().compare_set("cw", "", "now")
    return late()


if hasattr(TCPStore, "check"):

    @case
    def check(server):
        store = server.client()
        store.set("k1", "")
        return store.check(["k1"]), store.check(["k1", "k2"]), store.check([])


# Up to 2.0 it has a number that means something else from 2.1 on, and nothing tells them apart.
if HAS_TODAYS_NUMBERS:

    @case
    def delete(server):
        store = server.client()
        store.set("d", "x")
        return store.delete_key("d"), store.delete_key("d"), there(store, ["d"])


@case
def num_keys(server):
    store = server.client()
    before = store.num_keys()
    store.set("nk1", "")
    store.set("nk2", "")
    if HAS_TODAYS_NUMBERS:
        store.delete_key("nk1")
    return store.num_keys() - before


if HAS_TODAYS_NUMBERS:

    @case
    def append(server):
        store = server.client()
        store.append("ap", "one")
        store.append("ap", " two")
        return store.get("ap")

    @case
    def append_wakes_a_waiter(server):
        late = in_thread(lambda: server.client().get("apw"))
        server.client().append("apw", "x")
        return late()

    @case
    def multi(server):
        store = server.client()
        store.multi_set(["m1", "m2", "m3"], ["1", "", "three"])
        return store.multi_get(["m3", "m1", "m2"])

    @case
    def multi_get_waits(server):
        late = in_thread(lambda: server.client().multi_get(["mg1", "mg2"]))
        store = server.client()
        store.set("mg2", "b")
        store.multi_set(["mg1", "mg3"], ["a", "c"])
        return late()


@case
def a_large_value(server):
    store = server.client()
    value = bytes(range(256)) * 4096
    store.set("large", value)
    return store.get("large") == value


@case
def a_large_key(server):
    store = server.client()
    key = "k" * 8000
    store.set(key, "v")
    return store.get(key)


@case
def many_keys_in_one_request(server):
    store = server.client()
    keys = [f"many{n}" for n in range(20000)]
    if not HAS_TODAYS_NUMBERS:
        for key in keys:
            store.set(key, "v")
        return store.wait(keys, LONG)
    store.multi_set(keys, ["v"] * len(keys))
    return there(store, keys), len(store.multi_get(keys))


@case
def prefixes(server):
    store = server.client()
    inner = PrefixStore("outer", PrefixStore("inner", store))
    inner.set("key", "value")
    return inner.get("key"), store.get("inner/outer/key"), inner.add("n", 2)


@case
def a_client_with_a_world_size_counts_itself(server):
    before = server.client().num_keys()
    TCPStore(server.host, server.port, 2, False, LONG, wait_for_workers=False)
    return server.client().num_keys() - before in (0, 1)


if hasattr(torch.distributed.Store, "queue_push"):

    @queue_case
    def queues(server):
        store = server.client()
        for item in ("a", "b", "c"):
            store.queue_push("q", item)
        return store.queue_len("q"), [store.queue_pop("q") for _ in range(3)], store.queue_len("q")

    @queue_case
    def a_pop_waits_for_a_push(server):
        late = in_thread(lambda: server.client().queue_pop("qw"))
        server.client().queue_push("qw", "item")
        return late()

    @queue_case
    def each_item_is_popped_once(server):
        pops = [in_thread(lambda: server.client().queue_pop("q1").decode()) for _ in range(6)]
        store = server.client()
        for number in range(6):
            store.queue_push("q1", str(number))
        return sorted(pop() for pop in pops)

    @queue_case
    def a_pop_that_does_not_block(server):
        store = server.client()
        try:
            return store.queue_pop("qe", False)
        except Exception as error:
            return words(error)

    @queue_case
    def an_empty_queue_is_no_key(server):
        store = server.client()
        store.queue_push("qk", "x")
        full = store.check(["qk"])
        store.queue_pop("qk")
        return full, store.check(["qk"])


if hasattr(torch.distributed.Store, "list_keys"):

    @case
    def list_keys(server):
        store = PrefixStore("listed", server.client())
        store.set("l1", "")
        store.add("l2", 1)
        return sorted(key for key in server.client().list_keys() if "listed" in str(key))


if hasattr(TCPStore, "barrier") or hasattr(torch.distributed.Store, "barrier"):

    @case
    def barrier(server):
        # The arguments of the barrier differ by version; what is asked is whether all come out.
        def work():
            store = server.client()
            store.barrier("bar", 3, LONG)
            return "out"

        return [result() for result in [in_thread(work) for _ in range(3)]]

    @case
    def a_barrier_that_lacks_one_times_out(server):
        try:
            server.client().barrier("bar2", 2, SHORT)
        except Exception as error:
            return words(error)
        return "came out alone"


def main():
    found = servers()
    for function in CASES:
        answers = {}
        for name, server in found.items():
            if name == "legacy" and function in QUEUES:
                continue
            try:
                answers[name] = repr(function(server))
            except Exception as error:  # what it is is the result
                answers[name] = f"raises {words(error)}: {error}"
        line = {"case": function.__name__, "answers": answers}
        print("case " + json.dumps(line), flush=True)
    print(f"done {len(CASES)} {torch.__version__}", flush=True)


if __name__ == "__main__":
    main()
