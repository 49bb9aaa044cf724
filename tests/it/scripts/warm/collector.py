import gc
from seen import say

say("enabled", (gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.garbage, gc.callbacks))
say("frozen", gc.get_freeze_count() > 0)
ring = []
ring.append(ring)
del ring
say("collects", gc.collect() >= 1)
say("after", gc.garbage)


class Counted:
    count = 0

    def __del__(self):
        Counted.count += 1


for _ in range(10_000):
    one = Counted()
    one.itself = one
say("by itself", Counted.count > 0)
