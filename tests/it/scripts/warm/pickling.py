import copy
import multiprocessing
import pickle
from seen import say


class Thing:
    def __init__(self, value):
        self.value = value


def work(thing):
    return type(thing), thing.value


bytes_of_it = pickle.dumps(Thing(3))
say("bytes", bytes_of_it)
say("back", type(pickle.loads(bytes_of_it)) is Thing)
say("function", pickle.dumps(work))
say("copy", copy.deepcopy(Thing(4)).value)
say("repr", (Thing.__module__, Thing.__qualname__, work))
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        kind, value = pool.apply(work, (Thing(5),))
    say("through a process", (kind is Thing, kind.__module__, value))
