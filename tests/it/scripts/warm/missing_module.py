import sys

print("before", flush=True)
import nobody_has_this_module
