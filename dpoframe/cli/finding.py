"""What `dpoframe doctor` says of one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        what: The thing.
        status: `ok`; `note` (something optional is not there); `warning`; `broken` (dpoframe cannot be used).
        found: What was found.
        fix: The next step; empty where none is needed.
    """

    what: str
    status: Literal["ok", "note", "warning", "broken"]
    found: str
    fix: str = ""
