import sys
from seen import each, say

say("argv", sys.argv)
say("orig_argv", sys.orig_argv)
each("path", enumerate(sys.path))
for name in (
    "flags executable _base_executable prefix base_prefix exec_prefix platlibdir warnoptions"
    " _xoptions hash_info implementation getdefaultencoding getfilesystemencoding"
    " getfilesystemencodeerrors pycache_prefix dont_write_bytecode"
).split():
    value = getattr(sys, name)
    say(name, value() if callable(value) else value)
