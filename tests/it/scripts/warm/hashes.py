import os
import subprocess
import sys
from seen import own, say

say("flag", (sys.flags.hash_randomization, sys.hash_info.algorithm))
say("variable", os.environ.get("PYTHONHASHSEED"))
own("hash", hash("text"))
code = "print(hash('text'))"
own("hash in a child", subprocess.run([sys.executable, "-c", code], capture_output=True).stdout)
