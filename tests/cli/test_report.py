"""`dpoframe report`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dpoframe.cli import main
from dpoframe.harness import Subject, load_suite, run_suite
from dpoframe.plugins import PluginHost, using
from dpoframe.testing import toy

SUITE = """
name: small
version: 1
prompts: [say a, say b, say c]
generation: {max_new_tokens: 8}
evaluators: [finished, response_length]
"""


@pytest.fixture
def evaluated(tmp_path: Path) -> Callable[[str, int], Path]:
    """Evaluates a toy model on three prompts; returns the folder that `dpoframe report` takes."""
    file = tmp_path / "small.yaml"
    file.write_text(SUITE)
    plugins = PluginHost([])
    plugins.register(toy, "toy")

    def evaluate(name: str, seed: int) -> Path:
        modality = toy.ToyModality(init_seed=seed)
        with using(plugins):
            run_suite(Subject(name, modality, modality.build()), load_suite(file, plugins), tmp_path / name / "eval" / "small")
        return tmp_path / name

    return evaluate


def test_report_of_one_and_of_two(
    evaluated: Callable[[str, int], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run's page goes into its folder, that of two where --out says or here; --json says what was written."""
    first, second = evaluated("first", 0), evaluated("second", 1)
    assert main(["report", str(first)]) == 0
    assert str(first / "report.html") in capsys.readouterr().out
    assert main(["report", str(first), str(second), "--out", str(tmp_path / "pages" / "two.html"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    page = tmp_path / "pages" / "two.html"
    assert document == {"report": str(page), "bytes": page.stat().st_size, "runs": [str(first), str(second)], "gate": None}
    assert "second against first" in page.read_text()
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(first), str(second), str(first)]) == 0
    assert "3 models" in (tmp_path / "report.html").read_text()


def test_report_refuses(evaluated: Callable[[str, int], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without evaluations, one that is not there, a bad gate: one message, exit code 2; a page nobody can write: 3."""
    run = evaluated("run", 0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "gate.yaml").write_text("gates: []\n")
    cases = (
        (["report", str(tmp_path / "empty")], 2, "holds no evaluation"),
        (["report", str(tmp_path / "nowhere"), str(tmp_path / "empty")], 2, "There is no folder"),
        (["report", str(run), "--gate", str(tmp_path / "gate.yaml")], 2, "Did you mean 'gate'?"),
        (["report"], 2, "Missing argument"),
        (["report", str(run), "--out", str(tmp_path / "gate.yaml" / "page.html")], 3, "--out"),
    )
    for words, code, message in cases:
        assert main(words) == code
        out, err = capsys.readouterr()
        assert message in err
        assert "Traceback" not in err
        assert out == ""
