"""Writes small files with PyTorch, for the readers' own tests and as seeds of their fuzzer.

    .venv/bin/python tests/checkpoints/make.py

They were written with PyTorch 2.15; any version will do.
"""

import os
import pickle
import shutil
import warnings
from collections import OrderedDict
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp

HERE = Path(__file__).parent / "samples"
# The index keeps the path it was saved to: a relative one says nothing of the machine.
os.chdir(HERE)
warnings.simplefilter("ignore")

state = OrderedDict(step=7, w=torch.arange(4.0), half=torch.ones(3, dtype=torch.bfloat16))
torch.save(state, "zip.pt")
torch.save(state, "legacy.pt", _use_new_zipfile_serialization=False)
torch.save(state, "legacy_4.pt", _use_new_zipfile_serialization=False, pickle_protocol=4)

shared = [1, -2, 300, 70_000, 2**40, -(2**70), 3.5, True, None, "é\n'", b"\0\xff", (1,), ()]
value = {"shared": shared, "again": shared, "set": {1}, "bytes": bytearray(b"ab"), "c": 1j}
for protocol in range(6):
    Path(f"protocol_{protocol}.pickle").write_bytes(pickle.dumps(value, protocol))

shutil.rmtree("dcp", ignore_errors=True)
items = {
    "model": {"w": torch.arange(8.0), "b": torch.ones(2)},
    "step": 7,
    "train_state": {"step": torch.tensor(9)},
}
writer = dcp.FileSystemWriter("dcp", thread_count=2)
dcp.save(items, storage_writer=writer, no_dist=True)

tensors = b"\0" * 12
header = b'{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}'
header += b" " * (-len(header) % 8)
Path("model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + tensors)
