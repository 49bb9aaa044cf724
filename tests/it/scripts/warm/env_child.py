"""What a program that the script starts finds."""

import os
import subprocess
import sys
from seen import each, say

bare = subprocess.run(["env", "-0"], capture_output=True, check=True).stdout
each("env", sorted((e.split(b"=")[0].decode(), e) for e in bare.split(b"\0") if e))
shell = subprocess.run(["sh", "-c", "echo $RANK $LOCAL_RANK"], capture_output=True).stdout
say("shell", shell)
code = "import os, sys; print(sys.path[1:], sorted(os.environ), sys.flags, len(sys.modules))"
say("python", subprocess.run([sys.executable, "-c", code], capture_output=True).stdout)
