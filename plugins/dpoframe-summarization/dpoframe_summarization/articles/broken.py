"""What makes a row, or one summary of it, unusable."""

from __future__ import annotations


class BrokenError(Exception):
    """One row or summary cannot be used: a stable code and the reason in words."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        super().__init__(reason)
