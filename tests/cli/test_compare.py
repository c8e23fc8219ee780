"""The verb `compare`: what it prints and writes, and the exit code that a CI job reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from dpoframe.cli import main

EvaluationWriter = Callable[..., Path]

GATES = {
    0: "gate: [{suite: chat, metric: right, margin: 0.1}, {suite: chat, metric: right, at_least: 0.4}]",
    1: "gate: [{suite: chat, metric: right, superiority: true}, {suite: chat, metric: right, at_least: 0.9}]",
    2: "gate: [{suite: chat, metric: right, margin: 0.1}, {suite: chat, metric: right, margin: 0}]",
}


@pytest.fixture
def run(evaluation: EvaluationWriter, tmp_path: Path) -> Path:
    """A run folder: base and aligned on 100 prompts; 4 gained, 2 lost."""
    before = [1.0] * 60 + [0.0] * 40
    after = [0.0] * 2 + [1.0] * 58 + [1.0] * 4 + [0.0] * 36
    for place, values in (("run/base/eval/chat", before), ("run/eval/chat", after)):
        evaluation(tmp_path / place, {"right": {f"p{n}#0": value for n, value in enumerate(values)}})
    return tmp_path / "run"


def gate(folder: Path, text: str) -> str:
    """A gate file's path."""
    (folder / "gate.yaml").write_text(text)
    return str(folder / "gate.yaml")


def documented(capsys: pytest.CaptureFixture[str]) -> Any:
    """The JSON document on stdout."""
    return json.loads(capsys.readouterr().out)


def test_table_without_a_gate(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run alone is compared with its base: the table has figures, flips and verdict, and the exit code is 0."""
    assert main(["compare", str(run)]) == 0
    out = capsys.readouterr().out
    for part in ("chat:", "right (share)", "0.60", "0.62", "+4 \u22122", "no clear difference"):
        assert part in out


def test_two_runs_and_two_evaluations(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two run folders, and two evaluations' own folders, give the same comparison."""
    documents = []
    for paths in ((run / "base", run), (run / "base/eval/chat", run / "eval/chat"), (run,)):
        assert main(["compare", *map(str, paths), "--json"]) == 0
        documents.append(documented(capsys))
    assert documents[0] == documents[1] == documents[2]
    (row,) = documents[0]["comparisons"][0]["differences"]
    assert set(row["difference"]) == {"value", "ci_low", "ci_high", "stderr", "n"}
    assert (row["gained"], row["lost"], row["lost_ids"], row["verdict"]) == (4, 2, ["p0#0", "p1#0"], "no clear difference")
    assert documents[0]["verdict"] is None


@pytest.mark.parametrize("code", GATES)
def test_exit_codes(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int) -> None:
    """0 where every row passes, 1 where any fails, 2 where the evidence does not suffice; the document has the same."""
    words = ["compare", str(run), "--gate", gate(tmp_path, GATES[code])]
    assert main([*words, "--json"]) == code
    document = documented(capsys)
    names = ("PASS", "FAIL", "INCONCLUSIVE")
    assert (document["exit_code"], document["verdict"]) == (code, names[code])
    assert len(document["gate"]["rows"]) == 2
    assert {"margin", "difference", "n", "detectable", "needed", "reason", "p_value"} <= set(document["gate"]["rows"][0])
    assert main(words) == code
    assert f"Gate: {names[code]}" in capsys.readouterr().out


def test_files_for_ci(run: Path, tmp_path: Path) -> None:
    """JUnit XML and Markdown are written whatever the verdict, into folders that are made for them."""
    junit, summary = tmp_path / "ci/gate.xml", tmp_path / "ci/summary.md"
    words = ["compare", str(run), "--gate", gate(tmp_path, GATES[1]), "--junit", str(junit), "--markdown", str(summary)]
    assert main(words) == 1
    top = ElementTree.fromstring(junit.read_bytes())
    assert (top.get("tests"), top.get("failures"), top.get("skipped")) == ("2", "1", "1")
    assert summary.read_text().startswith("## Gate: ❌ FAIL")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["RUN", "NOWHERE"], "There is no folder"),
        (["NOWHERE"], "There is no folder"),
        (["RUN", "EMPTY"], "holds no evaluation"),
        (["RUN", "--gate", "NOWHERE"], "no gate file"),
        (["RUN", "--gate", "BAD"], "Did you mean 'margin'?"),
        (["RUN", "--gate", "OTHER"], "was not compared"),
        (["RUN", "--junit", "OUT"], "Give --gate FILE"),
        (["RUN", "--gat", "GATE"], "--gate"),
        ([], "RUN_A"),
        (["RUN", "RUN", "RUN"], "argument"),
        (["RUN", "--gate", "GATE", "--junit", "EMPTY"], "not a regular file"),
    ],
)
def test_what_could_not_run_is_3(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], part: str
) -> None:
    """Every mistake of input, the command line's own too, is one message and exit code 3: 1 and 2 are verdicts here."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.yaml").write_text("gate: [{suite: chat, metric: right, marign: 1}]")
    (tmp_path / "other.yaml").write_text("gate: [{suite: code, metric: right, margin: 1}]")
    places = {"RUN": run, "NOWHERE": tmp_path / "no", "EMPTY": tmp_path / "empty", "BAD": tmp_path / "bad.yaml"}
    places |= {"OTHER": tmp_path / "other.yaml", "OUT": tmp_path / "out.xml", "GATE": Path(gate(tmp_path, GATES[0]))}
    assert main(["compare", *(str(places.get(word, word)) for word in words), "--json"]) == 3
    out, err = capsys.readouterr()
    assert part in " ".join(err.split())
    assert json.loads(out)["error"]["exit_code"] == 3
    assert "Traceback" not in err


def test_ci_files_tell_of_what_could_not_run(run: Path, tmp_path: Path) -> None:
    """Where there is no verdict the JUnit file holds an error, not a pass, and the summary says why."""
    junit, summary = tmp_path / "gate.xml", tmp_path / "summary.md"
    (run / "eval/chat/results.json").unlink()
    words = ["compare", str(run), "--gate", gate(tmp_path, GATES[0]), "--junit", str(junit), "--markdown", str(summary)]
    assert main(words) == 3
    top = ElementTree.fromstring(junit.read_bytes())
    assert (top.get("tests"), top.get("errors")) == ("1", "1")
    assert "holds no results.json" in str(next(top.iter("error")).text)
    assert "could not run" in summary.read_text()


def test_a_bug_is_no_verdict(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An error nobody foresaw ends with 3 as well: 1 would read as a model that failed."""
    from dpoframe.harness.comparison import matching

    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(matching, "compare_runs", broken)
    assert main(["compare", str(run)]) == 3
    assert "internal error: ZeroDivisionError: oh" in capsys.readouterr().err


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    """--help shows the verb and ends with 0."""
    assert main(["compare", "--help"]) == 0
    assert "--gate" in capsys.readouterr().out


def test_hostile_names_are_shown_as_text(evaluation: EvaluationWriter, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters of a model's or suite's name do not reach the terminal."""
    for side in ("a", "b"):
        evaluation(tmp_path / side, {"right": {"p0": 1.0}}, model="\x1b[2J[bold]x", suite="chat\x07")
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "[bold]x" in out
