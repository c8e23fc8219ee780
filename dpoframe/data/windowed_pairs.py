"""The pairs of a run that reads its data window by window: what `LoadedPairs` is to one that reads it whole."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dpoframe.data.codes import CODES
from dpoframe.data.files import written
from dpoframe.data.inspection import Inspection, plain
from dpoframe.data.quarantine import quarantine_line, write_quarantine
from dpoframe.data.windows import Mark, Rows, WindowReader
from dpoframe.errors import DataError
from dpoframe.types import PreferencePair, RefusedRow

WINDOWS = Path("data", "windows.jsonl")
QUARANTINE = Path("data", "quarantine.jsonl")
SUMMARY = Path("data", "summary.json")


@dataclass
class WindowedPairs:
    """Pairs that are read as they are trained on.

    Attributes:
        train: Reads the training pairs.
        validation: Validation pairs, in memory.
        held: What the pass over the validation pairs found; None without any.
        first: What the pass over the first window found: findings are told of it alone.
    """

    train: WindowReader
    validation: list[PreferencePair]
    held: Inspection | None
    first: Inspection
    refused: list[RefusedRow] = field(default_factory=list)

    @property
    def count(self) -> int | None:
        """Training pairs; None until the source's end was read."""
        return self.train.count

    @property
    def known(self) -> int:
        """Training pairs read so far."""
        return self.train.known

    @property
    def warnings(self) -> list[str]:
        """What a person should know before training."""
        told = [finding for finding in self.first.findings() if finding.kind == "finding"]
        return [f"In the first {self.first.used:,} pairs: {one.message} {CODES[one.code].fix}" for one in told]

    def require_same(self, run: Path, allowed: bool = False) -> list[str]:
        """Takes on what the run in the folder `run` knows of its windows; each is compared as it is read again.

        Raises:
            DataError: the first window holds other pairs, and that is not `allowed`. Where it is, what is known is forgotten,
                and how the source differs is returned.
        """
        known = read_marks(run / WINDOWS)
        if not known or known[0] == self.train.marks[0]:
            self.train.take_on(known or self.train.marks)
            return []
        told = f"{self.train.name}: the first {known[0].rows:,} rows hold other pairs than when the run began."
        if not allowed:
            raise DataError(
                f"The preference data is not what the run in {run} began with, so it cannot go on:\n  - {told}\n"
                "Put the data back as it was, start a new run with another --out, or go on with --allow-change data."
            )
        return [told]

    def write(self, run: Path) -> None:
        """Writes what is known of the windows into the run folder; windows that are read later are added as they are read."""
        refused = sum(sum(mark.by_code.values()) for mark in self.train.marks)
        before = _lines(run / QUARANTINE)[: refused + (self.held.refused if self.held else 0)]
        if before:
            with written(run / QUARANTINE) as file:
                file.write_text("".join(before), encoding="ascii")
        else:
            write_quarantine(self.refused, run / QUARANTINE)
        with written(run / WINDOWS) as file:
            file.write_text("".join(json.dumps(mark.plain()) + "\n" for mark in self.train.marks), encoding="ascii")
        self.train.told = WindowLog(run)
        self.conclude(run)

    def conclude(self, run: Path) -> None:
        """Writes summary.json of what is known by now, by this process or by its data-loading workers."""
        marks = max(read_marks(run / WINDOWS), self.train.marks, key=len)
        by_code = sum((Counter(mark.by_code) for mark in marks), Counter(self.held.by_code if self.held else {}))
        used = sum(mark.pairs for mark in marks)
        summary = {
            "rows": sum(mark.rows for mark in marks) + (self.held.rows if self.held else 0),
            "train": used,
            "validation": len(self.validation),
            "quarantined": by_code.total(),
            "by_code": dict(by_code.most_common()),
            "windows": {"size": self.train.size, "read": len(marks), "whole": used if self.train.ended else None},
            "findings": [plain(finding) for finding in self.first.findings()],
            "sources": [one.summary() for one in (self.first, self.held) if one is not None],
        }
        with written(run / SUMMARY) as file:
            file.write_text(json.dumps(summary, indent=2, ensure_ascii=True) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class WindowLog:
    """Adds each window that is read for the first time to the run folder, in one process of the first rank."""

    run: Path

    def __call__(self, number: int, mark: Mark, refused: list[RefusedRow]) -> None:
        """Adds the refused rows and then the mark, unless another process has."""
        if not _writes() or len(_lines(self.run / WINDOWS)) != number:
            return
        with (self.run / QUARANTINE).open("a", encoding="ascii") as file:
            file.writelines(quarantine_line(row) for row in refused)
        with (self.run / WINDOWS).open("a", encoding="ascii") as file:
            file.write(json.dumps(mark.plain()) + "\n")


def _writes() -> bool:
    """Whether this process is the first rank's own, or the first of its data-loading workers."""
    from lightning.fabric.utilities.rank_zero import rank_zero_only
    from torch.utils.data import get_worker_info

    info = get_worker_info()
    return getattr(rank_zero_only, "rank", 0) == 0 and (info is None or info.id == 0)


def read_marks(file: Path) -> list[Mark]:
    """The marks of a run folder, up to the first that is cut off."""
    marks = []
    for line in _lines(file):
        try:
            marks.append(Mark(**json.loads(line)))
        except (ValueError, TypeError):
            break
    return marks


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="ascii", errors="replace").splitlines(keepends=True) if file.is_file() else []


def read_windowed(
    name: str,
    size: int,
    limit: int | None,
    open_rows: Callable[[int], Rows],
    checks: Callable[[Collection[bytes]], Inspection],
    held: tuple[Inspection, list[PreferencePair], list[RefusedRow]] | int,
) -> WindowedPairs:
    """Opens a source for training window by window, and reads the first window.

    Args:
        name: What messages call it.
        size: Pairs a window.
        limit: Most training pairs.
        open_rows: Opens the source behind so many of its rows.
        checks: `checks(held_out)` makes the checks of one window; prompts of `held_out` are refused.
        held: A pass over a validation set of its own, or how many pairs at the beginning are held out for validation.

    Raises:
        DataError: nothing in the first window can be used.
    """
    aside, skip = (_head(open_rows(0), checks(()), held), True) if isinstance(held, int) else (held, False)
    found, validation, refused = aside
    reader = WindowReader(name, size, open_rows, partial(checks, found.prompts), found.rows if skip else 0, limit)
    reader.told = lambda number, mark, rows: refused.extend(rows)
    reader.window(0)
    reader.told = None
    assert reader.first is not None
    reader.first.require_some()
    return WindowedPairs(reader, validation, found if found.rows else None, reader.first, refused)


def _head(rows: Rows, checks: Inspection, wanted: int) -> tuple[Inspection, list[PreferencePair], list[RefusedRow]]:
    """The first `wanted` usable pairs."""
    pairs, refused = list[PreferencePair](), list[RefusedRow]()
    for row in checks.take(rows, pairs=wanted) if wanted else ():
        if isinstance(row, RefusedRow):
            refused.append(row)
        else:
            pairs.append(row)
    return checks, pairs, refused
