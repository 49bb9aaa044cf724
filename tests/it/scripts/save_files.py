"""Writes files and folders with PyTorch's own functions, for the readers: save_files.py FOLDER."""

import os
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.serialization import skip_data

warnings.filterwarnings("ignore")
top = Path(sys.argv[1])
model = torch.nn.Linear(64, 64)
optimizer = torch.optim.AdamW(model.parameters())
model(torch.ones(1, 64)).sum().backward()
optimizer.step()
state = {
    "step": 7,
    "model": model.state_dict(),
    "optimizer": optimizer.state_dict(),
    "rng": torch.get_rng_state(),
    "types": [torch.ones(3, dtype=d) for d in (torch.bfloat16, torch.bool, torch.complex64)],
    "view": torch.arange(10.0)[2:5],
    "parameter": torch.nn.Parameter(torch.ones(2)),
}

for protocol in range(6):
    for name, is_zip in (("zip", True), ("legacy", False)):
        torch.save(
            state,
            top / f"{name}-{protocol}.pt",
            pickle_protocol=protocol,
            _use_new_zipfile_serialization=is_zip,
        )
# Many entries: only some of them are looked at.
torch.save({f"w{i}": torch.ones(2) for i in range(500)}, top / "many.pt")
# Larger than 32 bits hold: a hole in the file, with torch's own records around it.
with skip_data():
    torch.save({"step": 7, "w": torch.empty(5 << 30, dtype=torch.uint8)}, top / "large.pt")


def folder(name, **options):
    """Items in several shards."""
    writer = dcp.FileSystemWriter(top / name, **options)
    items = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 7}
    dcp.save(items, storage_writer=writer, no_dist=True)


folder("one")
folder("threads", thread_count=4)
folder("each", single_file_per_rank=False)
folder("unsynced", sync_files=False)
folder("twice", thread_count=2)
folder("twice", thread_count=2)
folder("over", thread_count=2)


def let_time_pass():
    """Two saves within 2 ms cannot be told apart, and the clock of a busy machine takes steps."""
    index, probe = top / "over" / ".metadata", top / "probe"
    passed = 0
    while passed < 50_000_000:
        probe.write_text("now")
        passed = probe.stat().st_mtime_ns - index.stat().st_mtime_ns


class Killed(dcp.FileSystemWriter):
    """Ends where a save is killed: its shards are written, its index is not."""

    def finish(self, metadata, results):  # noqa: ARG002
        os._exit(0)


let_time_pass()
items = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 8}
dcp.save(items, storage_writer=Killed(top / "over", thread_count=2), no_dist=True)
