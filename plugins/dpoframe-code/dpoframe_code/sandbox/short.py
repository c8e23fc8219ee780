"""Values in a few characters."""

from __future__ import annotations

import reprlib
from typing import Any

_MOST_BITS = 256


class _Short(reprlib.Repr):
    """An integer of a program's choice may be too long to be written at all: Python refuses beyond 4,300 digits."""

    def repr_int(self, x: int, level: int) -> str:
        """Digits, or how many bits there are."""
        return repr(x) if x.bit_length() <= _MOST_BITS else f"<an integer of {x.bit_length()} bits>"


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = 80


def short(value: Any) -> str:
    """A value as people may be shown it: never long, and never a failure."""
    return _SHORT.repr(value)
