"""The evaluators that read answers, on answers whose verdict a reader can give."""

from __future__ import annotations

import pytest

from dpoframe import Sample
from dpoframe.builtin.contains_expected import ContainsExpected
from dpoframe.builtin.directness import Directness


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("What is the capital of France?", "Paris.", 1.0),
        ("Is the Earth round?", "It is.", 1.0),
        ("Is the Earth round?", "Yes, it is.", 1.0),
        ("How do I stop my windows from fogging up?", "Your windows fogging up.", 0.0),
        ("A car has 4 wheels. How many wheels do 3 cars have?", "A car has 4 wheels.", 0.0),
        ("Board games or a movie for an evening?", "A movie.", 1.0),
        ("Board games or a movie for an evening?", "...", 0.0),
        ("Why does it rain?", "It\u2019s important to know the air.", 0.0),
        ("Why does it rain?", " " * 5, 0.0),
        ("Why does it rain?", "drop " * 31, 0.0),
    ],
)
def test_directness(question: str, answer: str, expected: float) -> None:
    """Short, no filler in either kind of apostrophe, and more than the question's own words unless it offers a choice."""
    assert Directness().score(Sample("a", question, answer)) == {"rate": expected}


def test_a_cut_answer_is_not_direct() -> None:
    """An answer that the limit cut off is not direct, however short it is."""
    assert Directness().score(Sample("a", "Why does it rain?", "Clouds cool", finished=False)) == {"rate": 0.0}


@pytest.mark.parametrize(
    ("keyword", "answer", "expected"),
    [
        ("7", "There are 7.", 1.0),
        ("7", "17 or 70", 0.0),
        ("7", "3.7 in all", 0.0),
        ("0", "1.0", 0.0),
        ("0", "Paris, 0 degrees", 1.0),
        ("erupt", "It erupts.", 1.0),
    ],
)
def test_contains_expected(keyword: str, answer: str, expected: float) -> None:
    """A number is found as a number of its own, a word at the beginning of a word."""
    assert ContainsExpected().score(Sample("a", "?", answer, meta={"expect": [keyword]})) == {"rate": expected}
