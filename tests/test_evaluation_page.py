"""docs/evaluation.md on comparing and gating says what is so."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest
import yaml

from dpoframe.harness.gates import GateRow, load_gate
from dpoframe.harness.gates.judging import EXIT_CODES
from dpoframe.harness.stats import mcnemar, units_needed

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/evaluation.md").read_text(encoding="utf-8")
SECTION = PAGE.split("\n## Compare and gate\n")[1].split("\n## ")[0]
FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def block(info: str) -> str:
    """The code of the section's first block with this information string."""
    return next(match["code"] for match in FENCE.finditer(SECTION) if match["info"] == info)


def commands() -> list[list[str]]:
    """Every `dpoframe compare` of the section's shell blocks and of the CI job."""
    shell = [line for match in FENCE.finditer(SECTION) if match["info"] == "bash" for line in match["code"].splitlines()]
    steps = [
        step["run"] for job in yaml.safe_load(block("yaml part=ci"))["jobs"].values() for step in job["steps"] if "run" in step
    ]
    lines = [line.split("||")[0] for line in (*shell, *steps) if line.startswith("dpoframe compare")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_parses(words: list[str]) -> None:
    """Verb, options and number of arguments of each command exist."""
    from dpoframe.cli import command

    group = command(words)
    name, verb, rest = group.resolve_command(group.make_context("dpoframe", [], resilient_parsing=True), words)
    verb.make_context(name, rest)


def test_the_gate_is_read(tmp_path: Path) -> None:
    """The page's gate file loads, and its four rows ask for what the comments beside them say."""
    (tmp_path / "gate.yaml").write_text(block("yaml part=gate"))
    better, same, lower, bound = load_gate(tmp_path / "gate.yaml").rows
    assert (better.superiority, better.threshold) == (True, 0.0)
    assert (same.margin, same.threshold) == (0.05, -0.05)
    assert (lower.direction, lower.max_unscored) == (None, 0)
    assert (bound.at_most, bound.compares) == (60, False)


def test_the_gate_fits_a_shipped_suite(tmp_path: Path) -> None:
    """Suite and metrics of the page's gate are those of a suite that dpoframe-evals ships."""
    (tmp_path / "gate.yaml").write_text(block("yaml part=gate"))
    for row in load_gate(tmp_path / "gate.yaml").rows:
        suite = yaml.safe_load((ROOT / f"evals/dpoframe_evals/suites/{row.suite}.yaml").read_text(encoding="utf-8"))
        assert row.metric in [one["name"] if isinstance(one, dict) else one for one in suite["evaluators"]]


def test_every_key_is_described() -> None:
    """The table of keys has each key of a row, and no other."""
    table = SECTION.split("| key | what it asks |")[1].split("\n\n")[0]
    named = {key for line in table.splitlines() for key in re.findall(r"`(\w+)`", line.split("|")[1] if "|" in line else "")}
    assert named == {field.name for field in dataclasses.fields(GateRow)}


def test_exit_codes_are_those() -> None:
    """The table of exit codes is the code's, with 3 for what could not run."""
    rows = re.findall(r"^\| (\d) \| ([A-Z]+|could not run) \|", SECTION, re.MULTILINE)
    assert {name: int(code) for code, name in rows} == {**EXIT_CODES, "could not run": 3}


def test_the_numbers_are_so() -> None:
    """The prompts that a margin takes, with a tenth flipping either way, and the flips that the exact test needs."""
    assert units_needed(0.2, 0.05) == pytest.approx(630, abs=5)
    assert units_needed(0.2, 0.02) == pytest.approx(3900, abs=50)
    assert mcnemar(5, 0) > 0.05 > mcnemar(6, 0)
    assert "about 630 prompts, one of 2 points about 3,900" in SECTION
