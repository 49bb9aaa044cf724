import sys
from seen import say

say("first", repr(sys.stdin.readline()))
say("at", sys.stdin.buffer.read(3))
say("rest", repr(sys.stdin.read()))
say(
    "layers",
    (type(sys.stdin.buffer).__name__, type(sys.stdin.buffer.raw).__name__, repr(sys.stdin)),
)
