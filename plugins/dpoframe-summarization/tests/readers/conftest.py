"""Articles made here, written into files; and the published files where they are at hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from dpoframe import PreferencePair, RefusedRow

DATA = Path(__file__).parents[4].parent / "shared" / "data" / "summarization"


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    """Writes rows into a file of JSON Lines and gives its path."""

    def write(*rows: Any, name: str = "rows.jsonl") -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


@pytest.fixture(scope="session")
def published() -> Callable[[str], str]:
    """Finds a published file; skips where it is not at hand."""

    def found(name: str) -> str:
        if not (DATA / name).is_file():
            pytest.skip(f"the published file {name} is not at hand: it would lie in {DATA}")
        return str(DATA / name)

    return found


@pytest.fixture(scope="session")
def divided() -> Callable[[Iterable[PreferencePair | RefusedRow]], tuple[list[PreferencePair], list[RefusedRow]]]:
    """Parts what a data set yields into pairs and refused rows."""

    def parts(rows: Iterable[PreferencePair | RefusedRow]) -> tuple[list[PreferencePair], list[RefusedRow]]:
        given = list(rows)
        pairs = [row for row in given if isinstance(row, PreferencePair)]
        return pairs, [row for row in given if isinstance(row, RefusedRow)]

    return parts
