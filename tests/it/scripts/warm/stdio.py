import io
import os
import sys
from seen import say

for name in ("stdin", "stdout", "stderr"):
    stream = getattr(sys, name)
    say(name, (stream is getattr(sys, "__%s__" % name), stream.fileno(), repr(stream)))
    for what in (
        "encoding errors newlines line_buffering write_through mode name closed _CHUNK_SIZE".split()
    ):
        say("%s.%s" % (name, what), repr(getattr(stream, what, "-")))
    layers = [stream, stream.buffer, getattr(stream.buffer, "raw", None)]
    say(
        name + " layers",
        [(type(l).__name__, getattr(l, "mode", "-"), getattr(l, "name", "-")) for l in layers],
    )
    say(name + " can", [stream.readable(), stream.writable(), stream.seekable(), stream.isatty()])
    raw = getattr(stream.buffer, "raw", stream.buffer)
    say(name + " closes", (raw.closefd, os.get_inheritable(stream.fileno())))
say("dumped", sorted(vars(sys.stdout)))
say("input", repr(sys.stdin.read()))
try:
    input()
except EOFError:
    say("no input", "EOFError")
# Unbuffered: what is printed is there at once, in the order of all that is written.
print("printed", end=" ")
os.write(1, b"written ")
sys.stdout.write("and again\n")
sys.stdout.buffer.write(b"bytes: \xff\n")
print("caf\u00e9 \udcff".encode("utf-8", "surrogateescape"))
try:
    print("\udcff")
except UnicodeError as error:
    say("\\nsurrogate", error)
print("to stderr \udcff", file=sys.stderr)
sys.stdout.reconfigure(line_buffering=True)
say("reconfigured", (sys.stdout.line_buffering, sys.stdout.write_through))
say("default text", (io.text_encoding(None), io.DEFAULT_BUFFER_SIZE))
