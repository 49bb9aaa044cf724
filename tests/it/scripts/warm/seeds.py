"""What must be another value in each process, and what must be the same."""

import multiprocessing
import os
import random
import secrets
import tempfile
import uuid
from seen import own, say

own("random", random.random())
own("another Random", random.Random().random())
own("random state", hash(random.getstate()[1][:9]))
own("secrets", secrets.token_hex())
own("uuid4", uuid.uuid4())
own("uuid1", uuid.uuid1())
own("temporary name", tempfile.mktemp())
own("authkey", bytes(multiprocessing.current_process().authkey))
own("hash of a text", hash("text"))
random.seed(1)
say("seeded", random.random())
say("hash of numbers", (hash(1.5), hash((1, 2))))
