"""What the verb says: progress, and the table of figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dpoframe import say

EVERY = 10.0
"""Seconds between two lines of progress."""


def pacing() -> Callable[[str, int, int], None]:
    """A progress that says now and then how far a stage is."""
    last = [time.monotonic()]

    def progress(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - last[0] >= EVERY:
            last[0] = now
            say(f"  {stage}: step {done} of {total}")

    return progress


def table(differences: Sequence[Mapping[str, Any]]) -> str:
    """Base against aligned, every figure with its 95 % interval, in columns of plain text."""
    rows = [("metric", "base", "aligned", "difference [95 %]", "verdict")]
    rows += [
        (
            f"{one['metric']} ({one['unit']})" if one["unit"] else str(one["metric"]),
            cell(one["before"], "{:.3f}"),
            cell(one["after"], "{:.3f}"),
            cell(one["difference"], "{:+.3f}"),
            str(one["verdict"]),
        )
        for one in differences
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def cell(figures: Mapping[str, float | None], form: str) -> str:
    """`0.310 [0.290, 0.330]`; a bound that is not known is a dash."""
    value, low, high = ("-" if figures[key] is None else form.format(figures[key]) for key in ("value", "ci_low", "ci_high"))
    return f"{value} [{low}, {high}]"
