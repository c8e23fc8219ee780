"""A data set read window by window, for sets that are larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from dpoframe.data.inspection import Inspection
from dpoframe.errors import DataError
from dpoframe.types import PreferencePair, RefusedRow

Rows = Iterator[PreferencePair | RefusedRow]
KEPT = 2
"""Windows in memory: a step reaches from one into the next."""


@dataclass(frozen=True)
class Mark:
    """What is remembered of a window that was read.

    Attributes:
        first: Rows of the source before it.
        rows: Rows in it, refused ones included.
        pairs: Usable pairs in it.
        by_code: Refused rows of each code.
        digest: Of its pairs, in their order.
    """

    first: int
    rows: int
    pairs: int
    by_code: dict[str, int]
    digest: str

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass
class WindowReader:
    """Windows of `size` usable pairs, each checked by itself, in the order of the source.

    Window n holds the usable pairs [n size, (n + 1) size); the last may hold fewer. What a window holds depends on the source
    alone, so it can be dropped and read again: memory does not grow with the source, but for a mark of some 150 bytes a window.
    Duplicates are found within a window.

    Attributes:
        name: What the rows come from, for messages.
        size: Pairs a window.
        open: Opens the source behind so many of its rows.
        inspection: Makes the checks of one window.
        skip: Rows at the beginning that are not trained on.
        limit: Most pairs; None for all.
        told: Told of each window that was read for the first time.
        marks: What is known of windows, from the first.
        known: Usable pairs in them.
        ended: Whether the last mark is that of the source's end.
        first: The checks of the first window, once it was read.
    """

    name: str
    size: int
    open: Callable[[int], Rows]
    inspection: Callable[[], Inspection]
    skip: int = 0
    limit: int | None = None
    told: Callable[[int, Mark, list[RefusedRow]], None] | None = None
    marks: list[Mark] = field(default_factory=list)
    known: int = 0
    ended: bool = False
    first: Inspection | None = None
    _held: dict[int, list[PreferencePair]] = field(default_factory=dict, repr=False)
    _rows: Rows | None = field(default=None, repr=False)
    _next: int = 0

    @property
    def count(self) -> int | None:
        """Usable pairs of the source; None until its end was read."""
        return self.known if self.ended else None

    def take_on(self, marks: list[Mark]) -> None:
        """Takes over what another process knows of the source."""
        self.marks, self.known = list(marks), sum(mark.pairs for mark in marks)
        self.ended = marks[-1].pairs < self.size or self.known == self.limit

    def reach(self, pairs: int) -> None:
        """Reads on until so many usable pairs, or the source's end, are known."""
        while not self.ended and self.known < pairs:
            self.window(len(self.marks))

    def window(self, number: int) -> list[PreferencePair]:
        """The pairs of a window; empty behind the last.

        Raises:
            DataError: the source is not what it was when the window was read before.
        """
        if number not in self._held:
            if self._rows is None or number != self._next:
                self._go_to(number)
            for between in range(self._next, number + 1):
                self._hold(between)
        return self._held[number]

    def _go_to(self, number: int) -> None:
        """Opens the source anew, where the window begins, or where the last one known ends."""
        start = min(number, len(self.marks))
        before = self.marks[start - 1] if start else None
        rows = self.skip if before is None else before.first + before.rows
        self._rows, self._next = self.open(rows), start

    def _hold(self, number: int) -> None:
        assert self._rows is not None
        start = number * self.size
        wanted = self.size if self.limit is None else max(0, min(self.size, self.limit - start))
        checks, pairs, refused = self.inspection(), list[PreferencePair](), list[RefusedRow]()
        for row in checks.take(self._rows, pairs=wanted) if wanted else ():
            if isinstance(row, RefusedRow):
                refused.append(row)
            else:
                pairs.append(row)
        self.first = self.first or checks
        first = self.marks[number - 1].first + self.marks[number - 1].rows if number else self.skip
        self._note(number, Mark(first, checks.rows, len(pairs), dict(checks.by_code), checks.digest), refused)
        self._next = number + 1
        self._held[number] = pairs
        while len(self._held) > KEPT:
            self._held.pop(next(iter(self._held)))

    def _note(self, number: int, mark: Mark, refused: list[RefusedRow]) -> None:
        if number < len(self.marks):
            if self.marks[number] != mark:
                raise DataError(
                    f"{self.name} has changed since it was first read: rows {mark.first + 1:,} to {mark.first + mark.rows:,} hold "
                    f"other pairs than before. A set that is read with data.window must stay as it is while it is trained on."
                )
            return
        self.marks.append(mark)
        self.known += mark.pairs
        self.ended = mark.pairs < self.size or self.known == self.limit
        if self.told is not None:
            self.told(number, mark, refused)

    def __getstate__(self) -> dict[str, Any]:
        """Data-loading workers open the source for themselves."""
        return {**self.__dict__, "first": None, "_rows": None, "_next": 0, "_held": {}}
