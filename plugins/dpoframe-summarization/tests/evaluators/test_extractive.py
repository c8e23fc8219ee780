"""Coverage, density, compression and novel n-grams: against the paper's algorithm, and numbers written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from dpoframe_summarization.evaluators.example import EXAMPLES
from dpoframe_summarization.evaluators.extractive import Extractive, fragments
from hypothesis import given
from hypothesis import strategies as st

from dpoframe import Sample, UnscoredError
from dpoframe.testing import EvaluatorContract


class TestContract(EvaluatorContract):
    """The contract of extractive."""

    evaluator = Extractive()
    samples = EXAMPLES


def as_published(source: Sequence[str], summary: Sequence[str]) -> list[int]:
    """Lengths of the fragments by the steps of the paper's figure 3, with its names of variables."""
    lengths, i = [], 0
    while i < len(summary):
        best, j = 0, 0
        while j < len(source):
            if summary[i] == source[j]:
                i_, j_ = i, j
                while i_ < len(summary) and j_ < len(source) and summary[i_] == source[j_]:
                    i_, j_ = i_ + 1, j_ + 1
                best, j = max(best, i_ - i), j_
            else:
                j += 1
        if best:
            lengths.append(best)
        i += max(best, 1)
    return lengths


@given(st.lists(st.sampled_from("abc"), max_size=40), st.lists(st.sampled_from("abcd"), max_size=15))
def test_fragments_are_the_published_ones(source: list[str], summary: list[str]) -> None:
    """The search by places finds what the search by steps finds, on words that repeat all the time."""
    found = fragments(source, summary)
    assert [length for _, length in found] == as_published(source, summary)
    for start, length in found:
        run = "".join(summary[start : start + length])
        assert run in "".join(source)


def test_real_summaries(summeval: list[dict[str, Any]]) -> None:
    """The same on real articles and summaries."""
    for row in summeval[:10]:
        source = row["source"].lower().split()
        for one in row["outputs"][:4]:
            summary = one["summary"].lower().split()
            assert [length for _, length in fragments(source, summary)] == as_published(source, summary)


def test_numbers_written_out(summary: Callable[..., Sample]) -> None:
    """Ten source words, six of summary: fragments `the cat sat` and `red mat`, the word `blue` is new."""
    source = "Today the cat sat on the big old red mat."
    found = Extractive().score(summary("The cat sat: blue red mat!", source=source))
    assert found == pytest.approx(
        {
            "coverage": 5 / 6,
            "density": (3**2 + 2**2) / 6,
            "compression": 10 / 6,
            "novel_1": 1 / 6,  # blue
            "novel_2": 2 / 5,  # sat blue, blue red
            "novel_3": 3 / 4,  # all but the cat sat
        },
        abs=1e-12,
    )


def test_a_copy_and_an_invention(summary: Callable[..., Sample]) -> None:
    """A copied source has density |S| and nothing new; other words have no coverage and everything new."""
    text = "one two three four five"
    copied = Extractive().score(summary(text, source=text))
    assert copied == {"coverage": 1, "density": 5, "compression": 1, "novel_1": 0, "novel_2": 0, "novel_3": 0}
    invented = Extractive().score(summary("six seven eight", source=text))
    assert invented == {"coverage": 0, "density": 0, "compression": 5 / 3, "novel_1": 1, "novel_2": 1, "novel_3": 1}


def test_short_summaries_have_no_trigrams(summary: Callable[..., Sample]) -> None:
    """What a summary is too short for is left out, not 0."""
    assert set(Extractive().score(summary("two words", source="two words")) or ()) == {
        "coverage", "density", "compression", "novel_1", "novel_2",
    }  # fmt: skip
    assert Extractive().score(summary("...", source="two words")) is None


@pytest.mark.parametrize("source", ["", " \n", None, [], ["  "], 7])
def test_without_a_source(source: Any, summary: Callable[..., Sample]) -> None:
    """There is nothing to compare with, and the reason says what the row needs."""
    with pytest.raises(UnscoredError, match="source"):
        Extractive().score(summary("text", source=source))


def test_scripts_without_spaces(summary: Callable[..., Sample]) -> None:
    """Characters are the words: four of the five stand in the source as one run."""
    found = Extractive().score(summary("猫在睡觉吗", source="今天猫在睡觉"))
    assert found is not None
    assert (found["coverage"], found["density"]) == (4 / 5, 16 / 5)


def test_a_long_source_is_quick(summary: Callable[..., Sample]) -> None:
    """A source of 200,000 words, and a source and a summary that are one word all over, take seconds at most."""
    long = " ".join(f"w{place % 5000}" for place in range(200_000))
    found = Extractive().score(summary(" ".join(f"w{place}" for place in range(300)), source=long))
    assert found is not None
    assert found["density"] == 300
    found = Extractive().score(summary("y " * 2000, source="y " * 100_000))
    assert found is not None
    assert found["coverage"] == 1


def test_lists_of_sentences(summary: Callable[..., Sample]) -> None:
    """A source in pieces is one source."""
    one = Extractive().score(summary("a b", source=["x a", "b y"]))
    assert one == Extractive().score(summary("a b", source="x a\nb y"))
