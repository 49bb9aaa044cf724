"""The words on stderr, byte for byte."""

import warnings


def inner(number):
    if number == 0:
        raise ValueError("deep")
    inner(number - 1)


def outer():
    try:
        inner(2)
    except ValueError as error:
        raise RuntimeError("on top") from error


warnings.warn("said once")
warnings.warn("old", DeprecationWarning)
[outer() for _ in range(1)]
