"""The verb suites: what each suite asks, measures and needs, and whether it can run here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpoframe import hookimpl
from dpoframe.cli import main
from dpoframe.plugins import PluginHost, using

GOOD = """
name: good
version: 3
description: Asks twice.
prompts: [one, two]
samples: 4
evaluators: [finished, response_length]
"""
AWAY = """
name: away
version: 1
prompts: [one]
backend: {kind: endpoint, url: "http://127.0.0.1:9/v1", model: m, key_env: NO_SUCH_KEY}
evaluators: [finished]
"""


class Shelf:
    """A plugin with suites."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in {"good": GOOD, "away": AWAY, "wrong": "name: wrong\nversion: 1\nevaluatros: []\n"}.items():
            (folder / f"{name}.yaml").write_text(text)

    @hookimpl
    def dpoframe_suites(self) -> dict[str, Path]:
        """Its suites."""
        return {path.stem: path for path in self.folder.glob("*.yaml")}


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[PluginHost]:
    """A host with the core and these suites."""
    host = PluginHost(entry_points=[], disabled=[])
    host.register(Shelf(tmp_path), "shelf")
    with using(host):
        yield host


@pytest.mark.usefixtures("shelf")
def test_document(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With --json every suite is there with its counts, evaluators, needs, and why it cannot run here where it cannot."""
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    assert main(["suites", "--json"]) == 0
    rows: dict[str, Any] = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    good = rows["good"]
    assert (good["version"], good["prompts"], good["pairs"], good["samples"], good["usable"]) == ("3", 2, 0, 4, True)
    assert (good["evaluators"], good["needs"], good["refused"]) == (["finished", "response_length"], [], [])
    assert good["description"] == "Asks twice."
    away = rows["away"]
    assert away["needs"] == ["backend endpoint at http://127.0.0.1:9/v1"]
    assert not away["usable"]
    assert "NO_SUCH_KEY" in away["refused"][0]
    assert not rows["wrong"]["usable"]
    assert "Did you mean 'evaluators'?" in rows["wrong"]["refused"][0]


@pytest.mark.usefixtures("shelf")
def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    """The table says the same in words; reasons go to stderr, and say which suite they are of."""
    assert main(["suites"]) == 0
    out, err = capsys.readouterr()
    line = next(line for line in out.splitlines() if "Asks twice." in line)
    assert "2 prompts, 4 answers each" in line
    assert "finished, response_length" in line
    assert "wrong: The suite" in err
    assert "away: The backend" in err
