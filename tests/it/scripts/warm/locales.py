import codecs
import locale
import os
import sys
import time
from seen import say

say("locale", locale.getlocale())
for name in ("LC_CTYPE", "LC_NUMERIC", "LC_TIME", "LC_COLLATE", "LC_MESSAGES", "LC_MONETARY"):
    say(name, locale.setlocale(getattr(locale, name)))
say(
    "encodings",
    (
        locale.getpreferredencoding(),
        locale.getpreferredencoding(False),
        sys.getfilesystemencoding(),
    ),
)
say("utf-8", (sys.flags.utf8_mode, codecs.lookup("utf-8").name, os.fsencode("\udcff")))
say("number", locale.localeconv()["decimal_point"])
say("zone", (time.tzname, time.timezone, time.localtime(0).tm_hour))
