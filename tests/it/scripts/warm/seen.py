"""How the scripts of the table say what they see: `NAME: VALUE`, one line for each.

`say` is for what must be the same however the process came to be. `own` is for what each process
has for itself: the test compares it between the ranks of one launch, not between launches.
"""

import os


def say(name, value):
    # One write: lines of several threads and processes stay whole.
    os.write(1, ("%s: %s\n" % (name, value)).encode("utf-8", "backslashreplace"))


def own(name, value):
    say("~" + name, value)


def each(name, values):
    """One line for each entry, so that a difference names it."""
    for key, value in values:
        say("%s %s" % (name, key), value)
