"""The rank store beside PyTorch's own, with the same native clients.

The column `torchrun` is torch's libuv server, which torchrun's agents and rank 0 use; there is no
floor. Each server is a process of its own that holds nothing else; the clients are one process.
"""

import subprocess
import time
from pathlib import Path

import contenders
from contenders import LIMIT_S, PROGRAMS, PYTHON, ROOT, BenchError

# The ranks of one launch say their port and stay until their standard input ends.
RANK = ["--no-python", "sh", "-c", "echo $MASTER_PORT; exec cat >/dev/null"]


class Server:
    """A store of one kind."""

    def __init__(self, kind):
        if kind == "nvlaunch":
            words = [contenders.NVLAUNCH, "--stdin", "0", "--log-dir", "/dev/null", *RANK]
        else:
            words = [PYTHON, ROOT / "bench/torch_store.py", kind]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        port = self.process.stdout.readline().decode().strip()
        if not port.isdigit():
            self.process.kill()
            raise BenchError(f"the store of {kind} did not say its port")
        # torch's server looks up the names of some clients. One that comes over IPv4 has a mapped
        # address, which only a name server knows: where none answers, a look takes 5 s.
        self.address = f"127.0.0.1:{port}" if kind == "nvlaunch" else f"[::1]:{port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(timeout=LIMIT_S)

    def client(self, what, *words):
        """Runs the clients; the nanoseconds they took."""
        command = [PROGRAMS, f"store-{what}", self.address, *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
        if done.returncode:
            raise BenchError(f"store-{what} {words}: {done.stderr.strip()}")
        return int(done.stdout)

    def memory(self):
        """Resident bytes of the server's process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024


KINDS = {"nvlaunch": "nvlaunch", "torchrun": "libuv"}


def rounds(config, full, sample, progress):
    """Samples of each server in turn."""
    samples = {name: [] for name in KINDS}
    for number in range(config.rounds(full)):
        for name in KINDS if number % 2 else reversed(KINDS):
            progress(f"round {number + 1}, {name}")
            samples[name].append(sample(name))
    return samples


def cases(config, progress):
    """Throughput, gathering, memory."""
    count = 10_000 if config.quick else 20_000
    servers = {name: Server(kind) for name, kind in KINDS.items()}
    try:
        for operation in ("set", "get", "add", "wait"):
            for clients in (1, 8, 64):

                def sample(name, operation=operation, clients=clients):
                    times = servers[name].client("load", operation, clients, count)
                    return count / times * 1e6

                what = f"store, {operation}, {clients} client{'s' if clients > 1 else ''}"
                samples = rounds(config, 7, sample, progress)
                yield {"what": what, "unit": "kop/s", "samples": samples}
    finally:
        for server in servers.values():
            server.__exit__()

    def gather(name):
        with Server(KINDS[name]) as server:
            return server.client("gather", 512) / 1e6

    samples = rounds(config, 3, gather, progress)
    yield {"what": "store, 512 clients gather", "unit": "ms", "samples": samples}

    def fill(name):
        with Server(KINDS[name]) as server:
            before = server.memory()
            server.client("fill", 1_000_000)
            # What is left of the last packets is nothing beside a million keys.
            time.sleep(0.2)
            return (server.memory() - before) / 1e6

    samples = rounds(config, 3, fill, progress)
    yield {"what": "store, a million keys", "unit": "MB", "samples": samples}
