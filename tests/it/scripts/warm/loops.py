import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from seen import say


async def main():
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, done.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(done.wait(), 10)
    child = await asyncio.create_subprocess_exec("echo", "child", stdout=subprocess.PIPE)
    out, _ = await child.communicate()
    in_thread = await loop.run_in_executor(None, os.getpid)
    return type(loop).__name__, out, child.returncode, in_thread == os.getpid()


say("asyncio", asyncio.run(main()))
poll = select.epoll()
say("epoll", poll.poll(0))
one, other = socket.socketpair()
one.send(b"x")
say("sockets", other.recv(1))
say("timeout", socket.getdefaulttimeout())
say("temporary folder", tempfile.gettempdir())
say("children", subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True))
say("left", subprocess._active)
