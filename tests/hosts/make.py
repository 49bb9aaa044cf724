#!/usr/bin/env python3
"""Writes the hosts of the corpus: `make.py [FOLDER]`, without a folder the one it lies in.

A host is a folder with `root/` (what stands for the machine), `host.json` (the ranks' environment,
their interpreter, what is launched), `expected.json` (what must be found, and nothing else) and
sometimes `nvml.json` (what NVML answers). They are described in `descriptions/`, made here, and
committed; a test compares the two. Needs Python 3.8 and nothing else.
"""

import shutil
import sys
from pathlib import Path

sys.dont_write_bytecode = True

from descriptions import driver, environment, hardware, healthy, machine, vendors  # noqa: E402


def write(folder, host):
    """Write one host below a folder, in place of what was there."""
    target = folder / host.name
    shutil.rmtree(target, ignore_errors=True)
    for name, content in host.finish().items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, tuple):
            path.symlink_to(content[1])
        else:
            path.write_bytes(content)


# Where hosts are described; each adds its own to machine.HOSTS.
DESCRIPTIONS = (driver, environment, hardware, healthy, vendors)


def main():
    """Write all hosts, and take away those that are described no more."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    hosts = [make() for make in machine.HOSTS]
    names = [host.name for host in hosts]
    assert len(set(names)) == len(names), "two hosts of one name"
    for host in hosts:
        write(folder, host)
    for described in folder.glob("*/host.json"):
        if described.parent.name not in names:
            shutil.rmtree(described.parent)


if __name__ == "__main__":
    main()
