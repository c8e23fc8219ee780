"""What the report calls runs, models, metrics and what came out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dpoframe.harness.comparison.compare import Difference
from dpoframe.harness.page import words
from dpoframe.harness.page.reading import called, labelled
from dpoframe.harness.stats import Interval


def test_labels_tell_runs_apart(tmp_path: Path) -> None:
    """Labels are the last parts of the paths, as many as needed; the same folder twice is numbered."""
    assert labelled([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    assert labelled([tmp_path / "x" / "run", tmp_path / "y" / "run"]) == ["x/run", "y/run"]
    assert len(set(labelled([tmp_path, tmp_path]))) == 2


def test_a_model_is_called_by_the_end_of_its_path() -> None:
    """Of a folder the last part, of a name on the hub all of it."""
    assert called("/home/me/models/chat") == "chat"
    assert called("./chat/") == "chat"
    assert called("HuggingFaceTB/SmolLM2-135M-Instruct") == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_names_are_spoken() -> None:
    """Ids in words, lists as sentences have them, counts with the right number."""
    assert words.spoken("response_length/units") == "response length (units)"
    assert [words.listed(["a_b"]), words.listed(["a", "b", "c"])] == ["a b", "a, b and c"]
    assert [words.count(1, "prompt"), words.count(1200, "prompt")] == ["1 prompt", "1,200 prompts"]


def one(metric: str, low: float, high: float, better: str | None = "higher", **more: Any) -> Difference:
    """A difference with this interval."""
    both, change = Interval(0.5, 0.4, 0.6, 0.1, 9), Interval((low + high) / 2, low, high, 0.1, 9)
    return Difference(metric, "share", better, both, both, change, None, None, None, 0.1, 0, **more)


def told(*differences: Difference) -> str:
    """The sentence on a comparison of these differences."""
    found: Any = SimpleNamespace(differences=differences)
    return words.lead_sentence(found)


def test_the_sentence_follows_the_intervals() -> None:
    """Better, worse and unclear come from the intervals; damage counts for any metric, gain only for those it is sought in."""
    gained, unclear, harmed = one("a", 0.1, 0.2), one("b", -0.1, 0.1), one("c", 0.1, 0.2, "lower")
    assert told(gained, unclear) == "The aligned model is better on a. No figure is clearly worse. No clear difference on b."
    assert told(harmed) == "It is worse on c."
    assert told(unclear, harmed) == "No figure is clearly better than the base's. It is worse on c. No clear difference on b."


def test_the_sentence_says_what_holm_takes_back() -> None:
    """A verdict that does not outlast the correction for several metrics is named as no longer clear."""
    sure, luck = one("a", 0.1, 0.2, p_holm=0.01), one("b", 0.01, 0.2, p_holm=0.08)
    assert told(sure, luck).endswith("Counting all 2 metrics together (Holm), the evidence on b is no longer clear.")
    assert "Holm" not in told(sure)


def test_a_win_rate_is_even_at_one_half() -> None:
    """Its verdict is that of its interval against 0.5."""
    assert words.even(Interval(0.7, 0.6, 0.8, 0.05, 9)).low == 0.6 - 0.5
    verdicts = [words.even_verdict(Interval(value, value - 0.1, value + 0.1, 0.05, 9)) for value in (0.7, 0.55, 0.3)]
    assert verdicts == ["better", "no clear difference", "worse"]
