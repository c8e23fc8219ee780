"""Length against a target: counts, range, deviation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dpoframe_summarization.evaluators.example import EXAMPLES
from dpoframe_summarization.evaluators.summary_length import SummaryLength
from pydantic import TypeAdapter, ValidationError

from dpoframe import Sample
from dpoframe.testing import EvaluatorContract


class TestContract(EvaluatorContract):
    """The contract of summary_length without a range."""

    evaluator = SummaryLength()
    samples = EXAMPLES


class TestTargetContract(EvaluatorContract):
    """The contract of summary_length with a target."""

    evaluator = SummaryLength(target=12)
    samples = EXAMPLES


def test_counts(summary: Callable[..., Sample]) -> None:
    """Words, sentences, and characters without spaces; nothing is compared where nothing was asked for."""
    assert SummaryLength().score(summary("Two words. One\u200b!")) == {"words": 3, "sentences": 2, "characters": 13}
    assert SummaryLength().score(summary("")) == {"words": 0, "sentences": 0, "characters": 0}
    assert SummaryLength().score(summary("今天下雨。明天呢"))["words"] == 7


@pytest.mark.parametrize(
    ("fields", "length", "within", "deviation"),
    [
        ({"target": 10}, 9, 1, 0),
        ({"target": 10}, 11, 1, 0),
        ({"target": 10}, 8, 0, 1),
        ({"target": 10}, 14, 0, 3),
        ({"target": 10, "tolerance": 0.0}, 11, 0, 1),
        ({"least": 5}, 3, 0, 2),
        ({"least": 5}, 500, 1, 0),
        ({"most": 5}, 0, 1, 0),
        ({"most": 5}, 7, 0, 2),
        ({"least": 2, "most": 5}, 5, 1, 0),
        ({"unit": "sentences", "most": 1}, 20, 1, 0),
        ({"unit": "characters", "most": 10}, 20, 0, 10),
    ],
)
def test_range(fields: dict[str, Any], length: int, within: float, deviation: float, summary: Callable[..., Sample]) -> None:
    """Inside the range is right, bounds included; outside, the distance to the nearer bound is told."""
    found = SummaryLength(**fields).score(summary(" ".join("w" * length)))
    assert (found["within"], found["deviation"]) == (within, pytest.approx(deviation, abs=1e-9))


def test_ids_name_the_range() -> None:
    """Shares within other ranges do not compare; without a range, plain lengths do."""
    assert SummaryLength().spec.id == "summary_length"
    assert SummaryLength(target=10).spec.id == "summary_length:words-from-9-to-11"
    assert SummaryLength(least=2).spec.id == "summary_length:words-from-2"
    assert SummaryLength(unit="sentences", most=3).spec.id == "summary_length:sentences-to-3"
    assert SummaryLength(target=10).spec.primary == "within"
    assert SummaryLength().spec.metrics["words"].better is None


@pytest.mark.parametrize(
    "fields", [{"target": 5, "most": 9}, {"least": 5, "most": 4}, {"target": 0}, {"unit": "letters"}, {"tolerance": 1.0}]
)
def test_wrong_ranges(fields: dict[str, Any]) -> None:
    """A range that is none is told when the suite is read."""
    with pytest.raises(ValidationError):
        TypeAdapter(SummaryLength).validate_python(fields)
