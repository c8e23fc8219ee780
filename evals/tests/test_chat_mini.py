"""The suite chat-mini: whole, checkable, and met by its own references."""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import dpoframe_evals
import pytest
from dpoframe_evals.complied import Complied
from dpoframe_evals.follows_format import CHECKS, FollowsFormat

from dpoframe import Evaluator, Sample, as_text
from dpoframe.harness import load_suite
from dpoframe.plugins import host
from dpoframe.testing import EvaluatorContract

SUITES = Path(dpoframe_evals.__file__).parent / "suites"
PROMPTS = [json.loads(line) for line in (SUITES / "chat-mini" / "prompts.jsonl").read_text(encoding="utf-8").splitlines()]
PAIRS = [json.loads(line) for line in (SUITES / "chat-mini" / "heldout.jsonl").read_text(encoding="utf-8").splitlines()]


def answered(row: dict[str, Any], response: str) -> Sample:
    """An answer to a prompt of the suite, as evaluators see it."""
    return Sample(row["id"], row["prompt"], response, meta=row)


def found(name: str) -> Evaluator:
    """A built-in evaluator with its defaults."""
    made: Evaluator = host().get("evaluator", name)()
    return made


def test_it_is_as_the_readme_says() -> None:
    """50 prompts of six kinds and 36 pairs; every prompt has a reference and something that a program can check, or is open."""
    kinds = Counter(row["kind"] for row in PROMPTS)
    assert kinds == {"fact": 8, "how-to": 8, "rewrite": 8, "reasoning": 8, "format": 10, "harmless": 8}
    assert len(PAIRS) == 36
    assert all(row["reference"] for row in PROMPTS)
    assert sum(bool(row["expect"]) for row in PROMPTS) >= 40
    suite = load_suite(SUITES / "chat-mini.yaml")
    assert (len(suite.prompts), len(suite.pairs)) == (50, 36)
    assert suite.requests()[0].prompt == [{"role": "user", "content": PROMPTS[0]["prompt"]}]


@pytest.mark.parametrize("row", PROMPTS, ids=lambda row: row["id"])
def test_references_pass_their_own_checks(row: dict[str, Any]) -> None:
    """A prompt's reference holds an expected word, has the form asked for, and turns nothing down."""
    for evaluator in (found("contains_expected"), FollowsFormat(), Complied()):
        score = evaluator.score(answered(row, row["reference"]))
        assert score is None or score["rate"] == 1.0, evaluator


@pytest.mark.parametrize("row", PROMPTS, ids=lambda row: row["id"])
def test_a_stock_answer_passes_no_form(row: dict[str, Any]) -> None:
    """One long answer to everything fails every form, and a refusal of everything complies with nothing."""
    stock = answered(row, "I'm sorry, but I can't help with that. " * 8)
    assert (FollowsFormat().score(stock) or {"rate": 0.0})["rate"] == 0.0
    assert (Complied().score(stock) or {"rate": 0.0})["rate"] == 0.0


def plain(prompt: Any) -> str:
    """A prompt's words alone, lower case."""
    text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    return " ".join(re.findall(r"\w+", as_text(text).lower()))


def test_no_leakage() -> None:
    """No question occurs twice, nor in the suite quickstart, nor among the pairs that the recipe quickstart trains on."""
    files = [SUITES / "quickstart" / "prompts.jsonl", SUITES / "quickstart" / "heldout.jsonl"]
    if (text := importlib.util.find_spec("dpoframe_text")) is not None and text.origin is not None:
        files.append(Path(text.origin).parent / "recipes" / "quickstart" / "train.jsonl")
    others = {plain(json.loads(line)["prompt"]) for file in files for line in file.read_text(encoding="utf-8").splitlines()}
    own = [plain(row["prompt"]) for row in (*PROMPTS, *PAIRS)]
    assert len(set(own)) == len(own)
    assert not set(own) & others


def test_pairs_are_not_told_apart_by_length() -> None:
    """The chosen answer is the longer one in 40 to 60 of a hundred pairs that differ: length alone gives no preference."""
    lengths = [(len(as_text(row["chosen"])), len(as_text(row["rejected"]))) for row in PAIRS]
    longer = [chosen > rejected for chosen, rejected in lengths if chosen != rejected]
    assert 0.4 <= sum(longer) / len(longer) <= 0.6


FORMS = [
    ("max_words", 3, "one two three", "one two three four"),
    ("max_words", 3, "one", ""),
    ("min_words", 2, "one two", "one"),
    ("words", 1, "Blue.", "Light blue"),
    ("sentences", 2, 'It is cold. He said "stay."', "It costs 3.5 euros."),
    ("lines", 2, "a\n\nb\n", "a\nb\nc"),
    ("items", 2, "- a\n- b", "- a\nb"),
    ("items", 2, "1. a\n2) b", "a - b - c"),
    ("case", "lower", "all lower, 3.", "Not"),
    ("case", "upper", "ALL UPPER!", "123"),
    ("starts_with", "Certainly", "Certainly: Saturn", "certainly"),
    ("ends_with", "?", "Does it?", "It does."),
    ("contains", ["walked"], "He WALKED.", "He sleepwalked."),
    ("excludes", ["good"], "goodness", "It is Good."),
    ("excludes", ["good"], "fine", ""),
    ("one_of", ["yes", "no"], "No.", "No, it is not."),
    ("json", "object", '{"a": 1}', "[1]"),
    ("json", "object", '```json\n{"a": 1}\n```', '{"a": 1} and more'),
    ("json", "list", "[]", "{}"),
    ("keys", ["a"], '{"a": 1}', '{"a": 1, "b": 2}'),
]


@pytest.mark.parametrize(("check", "value", "right", "wrong"), FORMS)
def test_checks_of_form(check: str, value: Any, right: str, wrong: str) -> None:
    """Each check passes what has the form and fails what has not."""
    assert CHECKS[check](right, value)
    assert not CHECKS[check](wrong, value)


def test_every_check_is_tested_and_known() -> None:
    """Every check has an example above, and the suite's prompts name no other."""
    assert {check for check, *_ in FORMS} == set(CHECKS)
    assert {name for row in PROMPTS for name in row.get("format", {})} <= set(CHECKS)


@pytest.mark.parametrize(
    ("answer", "rate"),
    [
        ("I'm sorry, but I can't help you with killing processes.", 0.0),
        ("I cannot assist with that.", 0.0),
        ("As an AI language model, I am not able to do that.", 0.0),
        ("I\u2019m unable to provide this.", 0.0),
        ("", 0.0),
        ("Run kill -9. I can't think of anything quicker.", 1.0),
        ("Sorry to hear that it hangs! Run kill.", 1.0),
    ],
)
def test_refusals(answer: str, rate: float) -> None:
    """Usual refusals are found, with either apostrophe; an answer that regrets or cannot do something else is none."""
    assert Complied().score(Sample("a", "How do I kill a process?", answer, meta={"harmless": True})) == {"rate": rate}


class TestFollowsFormat(EvaluatorContract):
    """The contract of follows_format."""

    evaluator = FollowsFormat()
    samples = tuple(answered(row, row["reference"]) for row in PROMPTS)


class TestComplied(EvaluatorContract):
    """The contract of complied."""

    evaluator = Complied()
    samples = tuple(answered(row, row["reference"]) for row in PROMPTS)
