"""Files of rows, and what a data set makes of them."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from dpoframe import PreferencePair, RefusedRow

DATA = Path(__file__).parents[4].parent / "shared" / "data" / "moderation"

Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Read:
    """What a data set yielded: its pairs, and its refused rows."""

    pairs: list[PreferencePair]
    refused: list[RefusedRow]

    @property
    def codes(self) -> dict[str, int]:
        """How many rows were refused, by code."""
        return dict(Counter(row.code for row in self.refused))

    @property
    def verdicts(self) -> dict[str, bool]:
        """Whether each text is unsafe, by text."""
        return {pair.meta["text"]: pair.meta["unsafe"] for pair in self.pairs}

    @property
    def labels(self) -> list[dict[str, bool]]:
        """The known labels of each pair."""
        return [pair.meta["labels"] for pair in self.pairs]


@pytest.fixture
def read() -> Callable[..., Read]:
    """Calls a data set and reads it to its end."""

    def rows_of(dataset: Callable[..., Iterable[PreferencePair | RefusedRow]], *path: str, **options: Any) -> Read:
        given = {"path": path[0] if len(path) == 1 else list(path), **options}
        rows = list(dataset(**given))
        refused = [row for row in rows if isinstance(row, RefusedRow)]
        return Read([row for row in rows if isinstance(row, PreferencePair)], refused)

    return rows_of


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes rows into a file of JSON Lines, or of CSV where its name says so, and gives its path."""

    def rows_into(rows: Iterable[Row], name: str = "rows.jsonl") -> str:
        path, given = tmp_path / name, list(rows)
        with path.open("w", encoding="utf-8", newline="") as file:
            if name.endswith(".csv"):
                table = csv.DictWriter(file, list(given[0]))
                table.writeheader()
                table.writerows(given)
            else:
                file.writelines(json.dumps(row) + "\n" for row in given)
        return str(path)

    return rows_into


@pytest.fixture
def published() -> Callable[[str], str]:
    """The path of a published file; skips where the files are not at hand."""

    def path_of(name: str) -> str:
        if not (DATA / name).is_file():
            pytest.skip(f"{DATA / name} is not there")
        return str(DATA / name)

    return path_of
