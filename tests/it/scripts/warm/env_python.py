import os
from seen import each, say

each("environ", sorted((name, repr(value)) for name, value in os.environ.items()))
say("order", list(os.environ))
say("bytes", os.environb == {os.fsencode(k): os.fsencode(v) for k, v in os.environ.items()})
say("expanded", os.path.expandvars("$RANK $LOCAL_RANK ${WORLD_SIZE} $NOBODY"))
