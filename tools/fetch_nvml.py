"""Fetch genuine versions of libnvidia-ml.so.1 for the tests, from Debian's archive.

    python3 tools/fetch_nvml.py

- They are NVIDIA's, proprietary, and never part of this project: they go to
  ${XDG_CACHE_HOME:-~/.cache}/nvlaunch/nvml/VERSION/. What is there is not fetched again.
- One version for each branch of the driver that the Debian archive of this machine's apt sources
  has, looked for in its stable releases with non-free added. apt does the work, with a
  configuration, lists and a cache of its own: it checks signatures, and the machine's own state is
  not touched.
- Prints one line for each version: the version and its folder.

Needs nothing but the standard library, apt-get and dpkg-deb, and no root. Exit code 3 means that
the libraries cannot be had here, and stderr says why; tests take that for a reason to skip.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CANNOT = 3
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SUITES = ["bookworm", "trixie"]
PACKAGE = "libnvidia-ml1"
LIBRARY = "libnvidia-ml.so"
# Branches of the driver that there must be, for nothing to be fetched again.
ENOUGH = 2
# Seconds for one run of apt-get, and for one connection of it.
LIMIT, CONNECT_LIMIT = 120, 10


class CannotError(Exception):
    """Why the libraries cannot be had."""


def cache_folder() -> Path:
    """Say where the libraries are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nvlaunch" / "nvml"


def is_complete(folder: Path) -> bool:
    """Say whether a library is in the folder."""
    return (folder / f"{LIBRARY}.1").is_file()


def versions_in(cache: Path) -> list[Path]:
    """List the folders of the versions that are there."""
    folders = cache.iterdir() if cache.is_dir() else ()
    return sorted(f for f in folders if re.fullmatch(r"\d+(\.\d+)+", f.name) and is_complete(f))


def archives(etc_apt: Path = Path("/etc/apt")) -> list[str]:
    """List the Debian archives that apt knows, from both forms of its source files."""
    found = []
    for file in [etc_apt / "sources.list", *sorted((etc_apt / "sources.list.d").glob("*"))]:
        try:
            text = file.read_text(errors="replace")
        except OSError:
            continue
        for line in text.splitlines():
            line = line.split("#")[0].strip()
            if file.suffix == ".sources":
                key, _, value = line.partition(":")
                uris = value.split() if key.lower() == "uris" else []
            else:
                match = re.match(r"deb\s+(\[.*?\]\s+)?(\S+)", line)
                uris = [match[2]] if match else []
            # Not the archive of security updates, which lies beside it.
            found += [uri.rstrip("/") for uri in uris if uri.rstrip("/").endswith("/debian")]
    return list(dict.fromkeys(found))


def run(words: list[str], **kwargs) -> str:
    """Run a program; its output, or why it failed."""
    try:
        done = subprocess.run(
            words,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
            **kwargs,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotError(f"{words[0]}: {error}") from error
    if done.returncode != 0:
        last = done.stdout.strip().splitlines()[-1:] or ["no message"]
        raise CannotError(f"{words[0]} ended with {done.returncode}: {last[0]}")
    return done.stdout


def private_apt(folder: Path, archive: str) -> list[str]:
    """Make options for apt that keep everything it reads and writes below the folder."""
    for name in ("lists/partial", "cache/archives/partial", "parts"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    sources = folder / "sources.list"
    lines = [f"deb [arch=amd64 signed-by={KEYRING}] {archive} {suite} non-free" for suite in SUITES]
    sources.write_text("\n".join(lines) + "\n")
    options = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": folder / "parts",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        # Only descriptions of packages: no translations, icons or contents.
        "Acquire::Languages": "none",
        "Acquire::Retries": "1",
        "Acquire::http::Timeout": str(CONNECT_LIMIT),
        "Acquire::https::Timeout": str(CONNECT_LIMIT),
        # The folder belongs to the caller, which apt's own user could not read.
        "APT::Sandbox::User": "",
        "APT::Update::Error-Mode": "any",
    }
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]


def newest_of_each_branch(madison: str) -> list[str]:
    """Choose from the lines of `apt-cache madison`, newest first: package, version, source."""
    found = {}
    for line in madison.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if len(fields) == 3 and (branch := re.match(r"(\d+)\.", fields[1])):
            found.setdefault(branch[1], fields[1])
    return list(found.values())


def unpack(deb: Path, cache: Path, temporary: Path) -> None:
    """Put the library of a package into the cache, whole or not at all."""
    tree = temporary / f"{deb.stem}.tree"
    run(["dpkg-deb", "-x", str(deb), str(tree)])
    files = [f for f in tree.rglob(f"{LIBRARY}.*") if f.is_file() and not f.is_symlink()]
    if len(files) != 1:
        raise CannotError(f"{deb.name} holds {len(files)} files named {LIBRARY}.*")
    version = files[0].name[len(f"{LIBRARY}.") :]
    ready = temporary / version
    ready.mkdir()
    shutil.copy2(files[0], ready)
    (ready / f"{LIBRARY}.1").symlink_to(files[0].name)
    cache.mkdir(parents=True, exist_ok=True)
    if is_complete(cache / version):
        return
    # Renamed when it is whole; a folder that another process put there meanwhile is as good.
    staged = Path(tempfile.mkdtemp(dir=cache, prefix=".staged-"))
    try:
        shutil.copytree(ready, staged / version, symlinks=True)
        (staged / version).rename(cache / version)
    except OSError:
        if not is_complete(cache / version):
            raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def fetch(cache: Path) -> None:
    """Fill the cache."""
    for program in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(program) is None:
            raise CannotError(f"there is no {program}")
    if not KEYRING.exists():
        raise CannotError(f"there is no {KEYRING}, to check Debian's signatures with")
    found = archives()
    if not found:
        raise CannotError("apt's sources name no Debian archive")
    with tempfile.TemporaryDirectory(prefix="nvlaunch-nvml-") as name:
        temporary = Path(name)
        options = private_apt(temporary, found[0])
        run(["apt-get", *options, "-q", "update"])
        versions = newest_of_each_branch(run(["apt-cache", *options, "madison", PACKAGE]))
        if not versions:
            raise CannotError(f"{found[0]} has no package {PACKAGE}")
        for version in versions:
            wanted = f"{PACKAGE}:amd64={version}"
            run(["apt-get", *options, "-q", "download", wanted], cwd=temporary)
        for deb in sorted(temporary.glob("*.deb")):
            unpack(deb, cache, temporary)


def main() -> int:
    """Do it; the exit code."""
    cache = cache_folder()
    try:
        if len(versions_in(cache)) < ENOUGH:
            fetch(cache)
    except (CannotError, OSError) as error:
        print(f"fetch_nvml: {error}", file=sys.stderr)
        return CANNOT
    for folder in versions_in(cache):
        print(folder.name, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
