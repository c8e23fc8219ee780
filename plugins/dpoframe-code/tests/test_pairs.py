"""Pairs of programs that were run: built by the command, read by the recipe."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from dpoframe_code.evaluators.code_quality import ruff
from dpoframe_code.problems.built import code_pairs
from dpoframe_code.sandbox import Sandbox

from dpoframe import DataError, PreferencePair, RefusedRow
from dpoframe.cli import main
from dpoframe.testing import DatasetContract

EXAMPLE: str = code_pairs.example_options["path"]  # type: ignore[attr-defined]
FAST = "def squares(n):\n    return (n - 1) * n * (2 * n - 1) // 6\n"
SLOW = "def squares(n):\n    return sum(i * i for i in range(n))\n"
SLOWER = "def squares(n):\n    for _ in range(3): sum(i * i for i in range(n))\n    return sum(i * i for i in range(n))\n"
WRONG = "def squares(n):\n    return n\n"
UNTIDY = "import os\ndef squares(n):\n    l = range(n)\n    return sum(i * i for i in l)\n"
PROBLEM: dict[str, Any] = {
    "prompt": 'def squares(n):\n    """The sum of squares below n."""\n',
    "entry_point": "squares",
    "canonical_solution": SLOW,
    "test": "def check(candidate):\n    assert candidate(3000) == 8995500500\n",
}


class TestContract(DatasetContract):
    """The data set keeps the contract."""

    dataset = staticmethod(code_pairs)
    options: ClassVar[dict[str, Any]] = {"path": EXAMPLE, "per_problem": 2}


@pytest.fixture
def build(tmp_path: Path, sandbox: Sandbox) -> Callable[..., list[dict[str, Any]]]:
    """`build(programs, *words)`: the pairs that `dpoframe data build` makes of stored programs in a column of their own."""

    def call(programs: list[str], *words: str) -> list[dict[str, Any]]:
        source, out = tmp_path / "stored.jsonl", tmp_path / "pairs.jsonl"
        rows = [{**PROBLEM, "task_id": "made/1", "solution": one} for one in programs]
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        command = ["data", "build", str(source), "--response", "solution", "--out", str(out), "--force", *words]
        assert main(command) == 0
        return [json.loads(line) for line in out.read_text().splitlines()]

    return call


def test_pass_over_fail(build: Any) -> None:
    """Of stored programs in the benchmark's own columns, the one that passes is chosen, with both statuses as evidence."""
    (pair,) = build([WRONG, "", SLOW], "--evaluator", "pass_at_k")
    assert (pair["chosen"], pair["rejected"]) == (SLOW, WRONG)
    assert (pair["chosen_passed"], pair["rejected_passed"], pair["rejected_wrong"]) == (1, 0, 1)
    assert (pair["rejected_id"], pair["chosen_id"]) == ("made/1#0", "made/1#2")
    assert pair["chosen_tier"] == pair["rejected_tier"] in (1, 2)


def test_faster_over_slower(build: Any) -> None:
    """Of programs that pass, the faster one is chosen; a wrong one is never chosen, and differences within the noise are none."""
    words = ("--evaluator", "runtime_ratio", "--set", "repeats=5", "--margin", "0.5")
    (pair,) = build([SLOWER, WRONG, SLOW], *words)
    assert (pair["chosen"], pair["rejected"]) == (SLOW, SLOWER)
    times = pair["rejected_seconds"] / pair["chosen_seconds"]
    assert 2.5 < times < 6
    apart = pair["score_chosen"] - pair["score_rejected"]
    assert apart > 0.5 + 2 * (pair["chosen_log2_ratio_error"] ** 2 + pair["rejected_log2_ratio_error"] ** 2) ** 0.5
    assert pair["chosen_repeats"] == 5


@pytest.mark.skipif(ruff() is None or importlib.util.find_spec("radon") is None, reason="ruff or radon is not installed")
def test_fewer_findings_over_more(build: Any) -> None:
    """Of programs that pass, the one with fewer findings is chosen; with no such condition a neat and wrong one may be."""
    words = ("--evaluator", "code_quality", "--metric", "findings")
    (pair,) = build([UNTIDY, WRONG, FAST], *words, "--set", "passing=true")
    assert (pair["chosen"], pair["rejected"]) == (FAST, UNTIDY)
    assert pair["chosen_findings"] < pair["rejected_findings"]
    assert pair["chosen_tier"] in (1, 2)
    (pair,) = build([UNTIDY, WRONG], *words)
    assert pair["chosen"] == WRONG


def test_a_problem_gives_a_few(tmp_path: Path) -> None:
    """Over all files a problem gives at most `per_problem` pairs, whatever prompt it was asked by; the others are refused."""
    rows = [json.loads(line) for line in Path(EXAMPLE).read_text().splitlines()]
    other = {**rows[1], "prompt": "largest, please", "chosen_id": "example/0#7"}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:1]))
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [other, *rows[2:], {"prompt": "x"}]))
    found = list(code_pairs(str(tmp_path), per_problem=2))
    pairs = [one for one in found if isinstance(one, PreferencePair)]
    assert Counter(str(pair.meta["chosen_id"]).partition("#")[0] for pair in pairs) == {"example/0": 2, "example/1": 1}
    assert [one.code for one in found if isinstance(one, RefusedRow)] == ["balanced", "no-pair"]
    assert (pairs[0].meta["rejected_passed"], pairs[0].meta["metric"]) == (0.0, "passed")
    assert len(list(code_pairs([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]))) == 5


@pytest.mark.parametrize("path", ["", "code-pairs", []])
def test_without_pairs_it_says_how_they_are_built(path: Any) -> None:
    """Where the files are not there, the message has the command that makes them."""
    with pytest.raises(DataError, match=r"(?s)(is not there|No file of pairs).*dpoframe data build --model.*--set data.path="):
        code_pairs(path)
