import sys
import warnings
from seen import each, say

each("filter", enumerate(str(one) for one in warnings.filters))
say("options", sys.warnoptions)
say("once", warnings.onceregistry)
say("shows", warnings.showwarning.__name__)
warnings.warn("shown", UserWarning)
warnings.warn("shown as this is __main__", DeprecationWarning)
import seen

warnings.warn_explicit("not shown", DeprecationWarning, seen.__file__, 1, "seen")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    warnings.warn("caught")
say("caught", [str(one.message) for one in caught])
eval("1 is 1")
