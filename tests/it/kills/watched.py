"""Runs a training script after writing down this rank's process id and what it resumes from.

watched.py SCRIPT ARGUMENT…, with WATCHED naming a folder.
"""

import os
import runpy
import sys
from pathlib import Path

folder = Path(os.environ["WATCHED"])
rank, attempt = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
partial = folder / f".{attempt}.{rank}"
partial.write_text(f"{os.getpid()} {os.environ.get('NVLAUNCH_RESUME_FROM', '')}")
partial.rename(folder / f"{attempt}.{rank}")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
sys.stdout.flush()
os._exit(0)  # PyTorch may abort while the interpreter ends
