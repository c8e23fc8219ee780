"""The claim on an evaluation's folder: who holds it, and what is told where nobody can."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from dpoframe.errors import ConfigError, MachineError
from dpoframe.harness.storage.store import claimed


@pytest.mark.parametrize("size", [1, 40, 5000])
def test_a_broken_claim_is_made_anew(size: int, tmp_path: Path) -> None:
    """A claim's file of anything else keeps nobody out, and the new one keeps others out."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / ".claim").write_bytes(b"x" * size)
    with claimed(tmp_path), pytest.raises(ConfigError, match="Another process is evaluating into"), claimed(tmp_path):
        pytest.fail("it was claimed twice")


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ("database or disk is full", MachineError, r"cannot be written \(database or disk is full\)\. Make room"),
        ("disk I/O error", MachineError, "Make room"),
        ("attempt to write a readonly database", MachineError, "cannot be written"),
        ("database is locked", ConfigError, "Another process is evaluating into"),
    ],
)
def test_what_keeps_a_claim_from_being_made(
    said: str, kind: type[Exception], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a lock is told as another process; a full or read-only disk as what it is."""

    class Refusing(sqlite3.Connection):
        def execute(self, *words: Any) -> Any:
            raise sqlite3.OperationalError(said)

    plain = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **settings: plain(*given, factory=Refusing, **settings))
    with pytest.raises(kind, match=told), claimed(tmp_path):
        pytest.fail("it was claimed")


def test_a_folder_in_the_place_of_a_claim(tmp_path: Path) -> None:
    """What cannot be opened is one clear error."""
    (tmp_path / "store" / ".claim").mkdir(parents=True)
    with pytest.raises(MachineError, match="unable to open"), claimed(tmp_path):
        pytest.fail("it was claimed")
