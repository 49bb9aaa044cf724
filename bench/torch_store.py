"""Serves PyTorch's own TCPStore until its standard input ends; says its port."""

import datetime
import sys

from torch.distributed import TCPStore

libuv = sys.argv[1] == "libuv"
store = TCPStore("127.0.0.1", 0, None, True, datetime.timedelta(seconds=60), use_libuv=libuv)
print(store.port, flush=True)
sys.stdin.read()
