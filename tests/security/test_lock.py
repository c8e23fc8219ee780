"""Dependencies are locked: every version that the set-up installs has digests, and the lock names nothing else."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def dev(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The checkout's own runner, as a module."""
    spec = importlib.util.spec_from_file_location("dev_of_the_checkout", ROOT / "dev.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_every_version_has_digests(dev: ModuleType) -> None:
    """The lock holds what constraints.txt pins but for torch, uv, and the embedded model, each with SHA-256 digests; no address."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line for line in lines if line and not line.startswith("#")}
    text = dev.LOCK.read_text()
    found = set(re.findall(r"^(\S+==\S+) \\$", text, re.MULTILINE))
    assert found == {one for one in pinned if not one.startswith("torch==")} | {dev.UV, dev.MODEL}
    assert any(one.startswith("torch==") for one in pinned)
    for one in sorted(found):
        entry = dev.locked(one)
        assert re.fullmatch(rf"{re.escape(one)} \\\n(    --hash=sha256:[0-9a-f]{{64}}( \\)?\n)+", entry)
    assert "://" not in text


def test_what_the_lock_lacks_is_told(dev: ModuleType) -> None:
    """Asking for a version without digests ends with what to run."""
    with pytest.raises(SystemExit, match=r"constraints\.lock lacks uv==0\.0\.0.*dev\.py lock"):
        dev.locked("uv==0.0.0")


@pytest.mark.parametrize(
    ("answer", "code", "told"),
    [
        ({"dependencies": [{"name": "a", "version": "1", "vulns": []}]}, 0, "Audited 1 of 1 packages."),
        ({"dependencies": [{"name": "a", "skip_reason": "not found"}]}, 0, "the index tells of no advisories here"),
        (
            {"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}]},
            1,
            "a 1: PYSEC-1, mended in 2",
        ),
        (None, 0, "Not audited: no network"),
    ],
)
def test_an_audit_tells_what_it_could_ask(
    answer: Any, code: int, told: str, dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Known vulnerabilities end with 1; where the network or the index gives no advisories, a word says so, and it ends with 0."""
    said = json.dumps(answer) if answer is not None else ""
    done = subprocess.CompletedProcess([], 0, said, "trying\nno network\n")
    monkeypatch.setattr(dev.subprocess, "run", lambda *words, **more: done)
    assert dev.audit() == code
    assert told in "".join(capsys.readouterr())


def test_an_audit_without_an_end_is_ended(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An index that never answers is no failure, and does not keep the checks."""
    monkeypatch.setattr(dev, "BIN", Path(sys.executable).parent)
    monkeypatch.setattr(dev, "PATIENCE", 0.05)
    assert dev.audit() == 0
    assert "Not audited: no answer in 0.05 s" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
@pytest.mark.parametrize(
    ("test", "audit", "code", "ran"),
    [(0, 0, 0, ["test", "audit"]), (0, 1, 1, ["test", "audit"]), (1, 0, 1, ["test"])],
)
def test_the_checks_end_with_the_audit(test: int, audit: int, code: int, ran: list[str], tmp_path: Path) -> None:
    """What CI runs is the README's command and the audit; either fails it."""
    stand_in = tmp_path / "python3"
    stand_in.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/ran\ncase "$2" in test) exit {test};; *) exit {audit};; esac\n')
    stand_in.chmod(0o755)
    own = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    assert subprocess.run([ROOT / ".ci" / "run"], check=False, env=own).returncode == code
    lines = (tmp_path / "ran").read_text().splitlines()
    assert lines == [f"dev.py {verb}" for verb in ran]
    assert f"python3 {lines[0]} " in (ROOT / "README.md").read_text()
