"""A row as a file gives it, before anyone knows what its columns mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpoframe.types import RefusedRow


@dataclass(frozen=True)
class RawRow:
    """Columns and values of one row of `source`; `row` counts from 1 (lines for JSON Lines, records for tables)."""

    source: str
    row: int
    values: Mapping[str, Any]

    def refuse(self, code: str, reason: str) -> RefusedRow:
        """This row as a refusal: a stable code such as `empty-chosen`, and the fault in words."""
        return RefusedRow(self.source, self.row, code, reason)


class RowError(Exception):
    """One row cannot be used: a stable code (see `codes`) and the reason in words. Never leaves `dpoframe.data`."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{code}: {reason}")


def shown(value: Any, limit: int = 60) -> str:
    """A value as it appears in a reason: its type and its beginning."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= limit else text[: limit - 3] + '...'}"
