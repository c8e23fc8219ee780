"""docs/evaluation.md on suites says what is so: every example is read as it stands there."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dpoframe.config import load_recipe
from dpoframe.harness.lm_eval.keys import LmEvalKeys
from dpoframe.harness.suites.suite_file import SuiteKeys, read_suite
from dpoframe.plugins import PluginHost
from dpoframe.testing import toy

PAGE = (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("\n## Suites\n")[2].partition("\n## ")[0]
BLOCKS = dict(re.findall(r"```yaml part=([\w-]+)\n(.*?)```", SECTION, re.DOTALL))
INLINE = re.findall(r"`(prompts: .*?)`(?:, or `(\{.*?\})`)?", SECTION)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The files that the examples name."""
    row = {"prompt": "p", "chosen": "c", "rejected": "r"}
    for name in ("prompts.jsonl", "heldout.jsonl", "pairs.jsonl"):
        (tmp_path / name).write_text(json.dumps(row) + "\n")
    (tmp_path / "questions.csv").write_text("number,question,answer\n1,q,a\n")
    return tmp_path


@pytest.mark.parametrize("name", sorted(name for name in BLOCKS if name.startswith("suite-")))
def test_suites_are_read(name: str, files: Path) -> None:
    """Each whole suite of the page is read without a fault."""
    (files / "mine.yaml").write_text(BLOCKS[name])
    assert read_suite(files / "mine.yaml").name


def test_examples_of_prompts_are_read(files: Path) -> None:
    """Each way to give prompts is read; the one that needs the hub is left out."""
    host = PluginHost()
    host.register(toy, "toy")
    given = [text for pair in INLINE for text in (pair[0], pair[1] and f"prompts: {pair[1]}") if text and "huggingface" not in text]
    assert len(given) == 5
    for text in given:
        line = text.replace("my_pairs", "toy")
        (files / "mine.yaml").write_text(f"name: x\nversion: 1\nevaluators: [response_length]\n{line}\n")
        assert read_suite(files / "mine.yaml", host).prompts, line


def test_worked_examples_are_drawn(files: Path) -> None:
    """The page's few-shot suite asks in a chat of system prompt, two examples and the question."""
    (files / "mine.yaml").write_text(BLOCKS["suite-shots"])
    asked: Any = read_suite(files / "mine.yaml").requests()[0].prompt
    assert [turn["role"] for turn in asked] == ["system", "user", "assistant", "user", "assistant", "user"]


def test_every_key_is_told() -> None:
    """The section names every key of a suite and of its part for lm-evaluation-harness."""
    keys = [one.name for kind in (SuiteKeys, LmEvalKeys) for one in dataclasses.fields(kind)]
    assert [key for key in keys if key not in SECTION] == []


def test_evaluations_on_the_way_are_read() -> None:
    """The recipe's section stands as it is in a recipe."""
    host = PluginHost()
    host.register(toy, "toy")
    section = yaml.safe_load(BLOCKS["evaluate"])
    made = load_recipe({"modality": "toy", "data": "toy", **section}, host=host)
    assert made.during is not None
    assert made.during.keep_best is not None
    assert (made.during.every, made.during.limit, made.during.patience) == (100, 20, 3)
    line = re.search(r"`(evaluate: \{suites.*?\})`", (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text())
    assert line is not None
    assert load_recipe({"modality": "toy", "data": "toy", **yaml.safe_load(line[1])}, host=host).during is not None
