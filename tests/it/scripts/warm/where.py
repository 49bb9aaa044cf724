import os
import sys

print(
    "where:", (__file__, sys.path[0], sys.argv, sys.orig_argv[1:], __name__, __package__, __spec__)
)
print("there:", os.path.exists(__file__), os.getcwd())
