"""`dpoframe data build`: what is kept of an evaluator's verdicts, how noise and empty answers are held off, other columns."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dpoframe.cli import main
from dpoframe.plugins import PluginHost, using

EVALUATORS = '''
from dataclasses import dataclass
from dpoframe import Evaluator, EvaluatorSpec, Scale


@dataclass(frozen=True)
class Timed(Evaluator):
    """A measurement "value~error" in the answer, of which less is better; without an error where none is given."""

    spec = EvaluatorSpec("timed/1", "1", "response", {"time": Scale(better="lower")}, "time", carried=("time_error", "id"))

    def score(self, sample):
        value, _, error = sample.response.partition("~")
        return {"time": float(value), "id": 7.0, **({"time_error": float(error)} if error else {})}


@dataclass(frozen=True)
class Vector(Evaluator):
    """A length, and a vector that no row should hold."""

    names = tuple(f"v{n}" for n in range(64))
    spec = EvaluatorSpec("vector/1", "1", "response", {"size": Scale(0, None)}, "size", carried=names)

    def score(self, sample):
        return {"size": float(len(sample.response)), **dict.fromkeys(self.names, 1.0)}


@dataclass(frozen=True)
class Known(Evaluator):
    """What the row's column `level` says, times how long the answer is."""

    spec = EvaluatorSpec("known/1", "1", "response", {"level": Scale(0, None)}, "level")

    def score(self, sample):
        assert "code" not in sample.meta
        return {"level": sample.meta["level"] * len(sample.response)}
'''


@pytest.fixture
def build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Any]]:
    """`build(rows, evaluator, *words)`: exit code, pairs, the --json document, what stderr said."""
    (tmp_path / "mine.py").write_text(EVALUATORS)

    def call(rows: list[dict[str, Any]], evaluator: str, *words: str) -> tuple[int, list[Any], dict[str, Any], str]:
        source, out = tmp_path / "rows.jsonl", tmp_path / "pairs.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        out.unlink(missing_ok=True)
        part = f"{tmp_path / 'mine.py'}:{evaluator}"
        capsys.readouterr()
        code = main(["data", "build", str(source), "--out", str(out), "--evaluator", part, "--json", *words])
        said = capsys.readouterr()
        made = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
        return code, made, json.loads(said.out) if said.out.strip() else {}, said.err

    with using(PluginHost([], [])):
        yield call


def test_noise_makes_no_pair(build: Any) -> None:
    """Measurements must differ by two standard errors of their difference, sqrt(3^2 + 4^2) = 5 here, beside the margin."""
    rows = [
        {"prompt": "within", "responses": ["0~3", "10~4"]},
        {"prompt": "beyond", "responses": ["10.1~4", "0~3"]},
        {"prompt": "sure", "responses": ["1", "1.1"]},
    ]
    code, made, told, _ = build(rows, "Timed")
    assert (code, [row["prompt"] for row in made], told["tied"]) == (0, ["beyond", "sure"], 1)
    assert (made[0]["chosen"], made[0]["rejected"]) == ("0~3", "10.1~4")
    code, made, _, said = build(rows, "Timed", "--margin", "0.2")
    assert (code, made, "3 pairs did not differ by more than the margin" in said) == (2, [], True)


def test_noise_of_real_repeats(build: Any) -> None:
    """Of two answers with the same true time, measured with their own errors, about one pair in twenty comes out by chance."""
    import random

    draw = random.Random(0)

    def measured() -> str:
        times = [draw.gauss(1, 0.1) for _ in range(20)]
        return f"{statistics.fmean(times)}~{statistics.stdev(times) / 20**0.5}"

    count = 400
    _, made, _, _ = build([{"prompt": f"p{n}", "responses": [measured(), measured()]} for n in range(count)], "Timed")
    assert 0.02 * count < len(made) < 0.09 * count


def test_all_that_was_said_is_evidence(build: Any) -> None:
    """Every number that the evaluator gave stands in the row, by side; the row's own columns are never overwritten."""
    _, made, _, _ = build([{"prompt": "one", "id": "x", "responses": ["3~0.5", "1"]}], "Timed")
    assert {name: made[0][name] for name in ("chosen_time", "rejected_time", "rejected_time_error")} == {
        "chosen_time": 1.0, "rejected_time": 3.0, "rejected_time_error": 0.5,
    }  # fmt: skip
    assert (made[0]["chosen_id"], made[0]["rejected_id"]) == ("x#1", "x#0")
    assert "chosen_time_error" not in made[0]


def test_a_vector_is_no_evidence(build: Any) -> None:
    """What an evaluator carries is left out where it is long, its metrics stay."""
    _, made, _, _ = build([{"prompt": "one", "responses": ["aa", "b"]}], "Vector")
    assert (made[0]["chosen_size"], "chosen_v0" in made[0]) == (2.0, False)


def test_an_empty_answer_is_left_out(build: Any) -> None:
    """No training can use an empty answer, so it makes no pair, however bad it is; it is counted, with its name."""
    rows = [{"prompt": "one", "id": "a", "responses": ["xyz", "  \n", "x"]}, {"prompt": "two", "responses": ["", "y"]}]
    code, made, told, _ = build(rows, "Vector")
    assert (code, [(row["chosen"], row["rejected"]) for row in made]) == (0, [("xyz", "x")])
    assert (told["refused"], told["answers"]) == ({"empty-response": 2}, 5)
    assert "the answer a#1 is empty" in told["first_refused"]


def test_answers_in_another_column(build: Any) -> None:
    """--response names the column that holds the answer, which is then no part of what the evaluator knows besides."""
    rows = [{"prompt": "one", "code": "a", "level": 3}, {"prompt": "one", "code": "bb", "level": 2}]
    code, made, _, _ = build(rows, "Known", "--response", "code")
    assert (code, made[0]["chosen"], made[0]["rejected"]) == (0, "bb", "a")
    code, _, _, said = build(rows, "Known")
    assert (code, "There is no 'response'" in said) == (2, True)


def test_answers_under_one_name_are_told_apart(build: Any) -> None:
    """Rows that share a name, as a benchmark's problem has one, number their answers on; a row that says its number keeps it."""
    rows = [{"prompt": "one", "task_id": "t", "response": text} for text in ("xyz", "x")]
    _, made, _, _ = build([*rows, {"prompt": "two", "task_id": "t", "responses": ["ab", "a"]}], "Vector")
    assert [(row["chosen_id"], row["rejected_id"]) for row in made] == [("t#0", "t#1"), ("t#2", "t#3")]
    _, made, _, _ = build([{**row, "sample": 7 - number} for number, row in enumerate(rows)], "Vector")
    assert (made[0]["chosen_id"], made[0]["rejected_id"]) == ("t#7", "t#6")
