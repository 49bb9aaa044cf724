"""Make a Python environment that holds exactly what a requirements file pins.

    python3 tools/make_venv.py .venv requirements.txt --python 3.11-3.14 --size-gb 6

- An environment that is complete is left alone, without asking the network anything.
- A stamp says that it is complete, and is written last. One whose making was interrupted is removed
  and made anew. One that somebody else made is taken over if every file of every pinned package is
  there, and else left as it is, with a message.
- Nothing outside DIR is touched. pip's own configuration, index, cache and proxies apply.

Needs nothing but the standard library, and runs on any Python from 3.6 on: if it is started by one
that PyTorch has no wheels for, it looks for a newer one on PATH. Exit code 3 means that no Python
here has wheels of these packages, which `--optional` callers take for a reason to skip.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

STAMP = "nvlaunch-stamp.json"
NO_PYTHON = 3

# Run by the environment's own interpreter: the names of the pins that are not there in full. RECORD
# is the last file that pip writes for a package, and it lists all others with their sizes.
VERIFY = r"""
import importlib.metadata, os, sys
for line in open(sys.argv[1]):
    line = line.split("#")[0].split(";")[0].strip()
    if not line:
        continue
    name, version = line.split("==")
    try:
        found = importlib.metadata.distribution(name)
        whole = found.version == version and found.read_text("RECORD") is not None
        for file in (found.files or ()) if whole else ():
            if file.suffix == ".pyc":
                continue
            size = os.stat(str(found.locate_file(file))).st_size
            whole = whole and (file.size is None or file.size == size)
    except (OSError, importlib.metadata.PackageNotFoundError):
        whole = False
    if not whole:
        print(name)
"""

# Run by a candidate interpreter: its version, and what it would need to make an environment.
ASK = """
import sys
try:
    import ensurepip, venv
    usable = 1
except ImportError:
    usable = 0
print(sys.version_info[0], sys.version_info[1], usable)
"""


def say(text):
    """Print a line at once: pip's own output comes between ours."""
    print(text, flush=True)


def fail(text, code=1):
    """End with a message."""
    sys.stdout.flush()
    print("make_venv: " + text, file=sys.stderr)
    sys.exit(code)


def ask(program):
    """Return (major, minor, usable) of an interpreter, or None where it does not run."""
    try:
        out = subprocess.run(
            [program, "-I", "-c", ASK],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=True,
        ).stdout
        major, minor, usable = map(int, out.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return major, minor, usable == 1


def choose_python(wanted, candidates):
    """Return the first of the interpreters that is within `wanted` and can make environments."""
    low, high = (tuple(map(int, bound.split("."))) for bound in wanted.split("-"))
    without_venv = None
    seen = []
    for program in candidates:
        answer = ask(program)
        if answer is None:
            continue
        version = answer[:2]
        seen.append(f"{program} is {version[0]}.{version[1]}")
        if not low <= version <= high:
            continue
        if answer[2]:
            return program, version
        without_venv = without_venv or (program, version)
    if without_venv:
        program, (major, minor) = without_venv
        fail(
            f"{program} cannot make environments: its modules venv and ensurepip are packaged apart"
            f"\nhint: on Debian and Ubuntu: apt install python{major}.{minor}-venv"
        )
    fail(
        f"these packages have wheels for Python {wanted}: found {'; '.join(seen) or 'none'}\n"
        "hint: install one of them so that `python3.N` is on PATH, or name it: "
        "make PYTHON=/path/to/python",
        NO_PYTHON,
    )
    raise AssertionError("fail() does not return")


def candidates_for(args):
    """Return the interpreters to try, in order."""
    if args.sees:
        # Compiled packages can be shared between environments of one interpreter only.
        return [str(args.sees / "bin/python")]
    names = (f"python3.{minor}" for minor in range(20, 10, -1))
    return [sys.executable] + [path for path in map(shutil.which, names) if path]


def digest_of(requirements, sees):
    """Return what the environment's content follows from."""
    text = requirements.read_bytes() + str(sees or "").encode()
    return hashlib.sha256(text).hexdigest()


def read_stamp(venv):
    """Return what the stamp says, or None where there is none."""
    try:
        return json.loads((venv / STAMP).read_text())
    except (OSError, ValueError):
        return None


def missing(venv, requirements):
    """Return the pins that the environment lacks, in whole or in part; None if it cannot tell."""
    try:
        out = subprocess.run(
            [str(venv / "bin/python"), "-I", "-c", VERIFY, str(requirements)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=300,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return out.decode().split()


def install(venv, requirements):
    """Run pip, passing on one line per package that is fetched."""
    command = [str(venv / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["--no-input", "--progress-bar", "off", "-r", str(requirements)]
    # Nobody's packages but the environment's count; a `user = true` in pip's configuration, which
    # suits a person's own installations, would make pip refuse.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment["PIP_USER"] = "0"
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment,
        universal_newlines=True,
    ) as pip:
        for line in pip.stdout:
            words = line.split()
            if words[:1] == ["Downloading"] or words[:2] == ["Using", "cached"]:
                name = next((word for word in words if "-" in word), words[-1]).rsplit("/", 1)[-1]
                size = line[line.rfind("(") :].strip() if "(" in line else ""
                # The index gives a small file next to each wheel; only the wheel is worth a line.
                if not name.endswith(".metadata"):
                    verb = "fetching " if words[0] == "Downloading" else "cached   "
                    package = "-".join(name.split("-")[:2])
                    say(f"  {verb} {package} {size}")
            elif words[:1] == ["Installing"]:
                say(f"  unpacking {len(words) - 3} packages")
    return pip.returncode


def free_gb(path):
    """Return the free disk space in GB where `path` will be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(str(path)).free / 1e9


def main():
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("venv", type=Path)
    parser.add_argument("requirements", type=Path)
    parser.add_argument("--python", required=True, metavar="LOW-HIGH", help="such as 3.11-3.14")
    parser.add_argument("--size-gb", type=float, default=1.0, help="what it takes on the disk")
    parser.add_argument("--minutes", default="a few", help="how long it takes, for the message")
    parser.add_argument("--sees", type=Path, help="environment whose packages are visible too")
    args = parser.parse_args()
    venv = args.venv.absolute()
    requirements = args.requirements.resolve()

    # A moved environment still names its old place in its scripts; a removed interpreter leaves a
    # dangling link.
    complete = {"place": str(venv), "digest": digest_of(requirements, args.sees)}
    stamp = read_stamp(venv)
    alive = (venv / "bin/python").exists()
    if alive and stamp == complete:
        return
    if alive and stamp is None:
        lacking = missing(venv, requirements)
        if lacking:
            fail(
                f"{args.venv} was not made by this program and lacks {', '.join(lacking)}\n"
                f"hint: remove it, or run {args.venv}/bin/python -m pip install "
                f"-r {args.requirements}"
            )
        if lacking is not None:
            (venv / STAMP).write_text(json.dumps(complete) + "\n")
            say(f"{args.venv} holds everything already")
            return

    update = alive and stamp is not None and stamp.get("place") == str(venv) and "digest" in stamp
    candidates = [str(venv / "bin/python")] if update else candidates_for(args)
    program, version = choose_python(args.python, candidates)
    space = free_gb(venv)
    if space < args.size_gb and not venv.exists():
        fail(f"{args.venv} needs about {args.size_gb:.0f} GB and {space:.1f} GB are free there")
    say(
        f"making {args.venv} with Python {version[0]}.{version[1]}: about {args.size_gb:.0f} GB on "
        f"the disk, {args.minutes} minutes the first time"
    )
    began = time.time()
    if venv.exists() and not update:
        say(f"  {args.venv} is incomplete, or was moved: removed")
        shutil.rmtree(str(venv))
    venv.mkdir(parents=True, exist_ok=True)
    # From here to the end it is known to be ours, and not to be complete.
    (venv / STAMP).write_text(json.dumps({"place": str(venv)}) + "\n")
    making = [program, "-I", "-m", "venv", str(venv)]
    if not update and subprocess.call(making, stdin=subprocess.DEVNULL) != 0:
        fail(f"{program} -m venv {venv} failed")
    if args.sees:
        own = f"lib/python{version[0]}.{version[1]}/site-packages"
        (venv / own / "nvlaunch-sees.pth").write_text(f"{(args.sees / own).absolute()}\n")
    if install(venv, requirements) != 0:
        fail(
            f"pip could not install what {args.requirements} lists\n"
            "hint: run `make venv` again once the network and the package index can be reached"
        )
    left = missing(venv, requirements)
    if left or left is None:
        fail(f"{args.venv} is incomplete after the installation: {left}")
    (venv / STAMP).write_text(json.dumps(complete) + "\n")
    say(f"  ready after {time.time() - began:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        fail("interrupted; what is half done will be made anew", 130)
