"""Verdicts on their way to the store, written some at a time, and after a second at the latest."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dpoframe.harness.storage.folder import Score
from dpoframe.harness.storage.store import Store

_SECONDS = 1.0
"""Of work that a kill may cost."""


@dataclass
class Keeping:
    """Writes an evaluator's verdicts to the store.

    Attributes:
        store: Where they go.
        evaluator: Key of the evaluator.
        each: Whether each is written at once, as for an evaluator that is paid or waited for.
    """

    store: Store
    evaluator: str
    each: bool = False
    _waiting: dict[str, dict[str, Any]] = field(default_factory=dict)
    _written: float = field(default_factory=time.monotonic)

    def put(self, seen: str, score: Score) -> None:
        """Takes in what the evaluator says of what it saw."""
        self._waiting[seen] = {"values": score.values, "reason": score.reason}
        if self.each or time.monotonic() - self._written >= _SECONDS:
            self._write()

    @contextlib.contextmanager
    def until_the_end(self) -> Iterator[None]:
        """Context at whose end, an interrupted one as well, everything is written."""
        try:
            yield
        finally:
            self._write()

    def _write(self) -> None:
        self.store.judge(self.evaluator, self._waiting)
        self._waiting, self._written = {}, time.monotonic()
