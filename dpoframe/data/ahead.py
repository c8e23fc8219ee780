"""Passing over the first rows of a source, of which nothing is made then."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Ahead:
    """How many rows are still to be left out. A reader takes off those that it leaves out; what it does not, others do row by row.

    Attributes:
        count: Rows.
    """

    count: int = 0

    def over(self, rows: int = 1) -> bool:
        """Whether the next `rows` rows, one at least, are all to be left out; they are taken off then."""
        if rows > self.count:
            return False
        self.count -= rows
        return True

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Context in which no row is left out."""
        count, self.count = self.count, 0
        try:
            yield
        finally:
            self.count = count
