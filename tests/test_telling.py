"""What reporters are told of evaluations."""

from __future__ import annotations

from typing import Any

from dpoframe.harness import Comparison, SideBySide
from dpoframe.harness.comparison.compare import Difference
from dpoframe.harness.stats import Interval
from dpoframe.harness.storage.folder import Row
from dpoframe.telling import ROWS, summary, tables

METRICS = {"hits": {"name": "rate", "low": 0.0, "high": 1.0, "unit": "share", "better": "higher"}}


def comparison(count: int, better: str = "higher") -> Comparison:
    """`count` prompts: every tenth was gained, every seventh of the others lost, the rest stays at 1."""
    answers = []
    for number in range(count):
        before, after = (0.0, 1.0) if number % 10 == 0 else (1.0, 0.0) if number % 7 == 0 else (1.0, 1.0)
        row = Row("k", f"p{number}", f"prompt {number}", f"answer {number}")
        answers.append(SideBySide(row.id, row.prompt, row, row, {"other": (None, None), "hits": (before, after)}))
    about: dict[str, Any] = {
        "order": ["other", "hits"],
        "evaluators": {"hits": {"primary": "hits", "metrics": {"hits": METRICS["hits"] | {"better": better}}}},
    }
    before, after, change = (Interval(value, value - 0.1, value + 0.1, 0.05, count) for value in (0.4, 0.6, 0.2))
    one = Difference("hits", "share", "higher", before, after, change, None, None, None, 0.1, 0)
    return Comparison("small", about, about, (one,), tuple(answers))


def test_few_answers_are_told_of_whole() -> None:
    """Up to 500 answers stand in one table, in the order of the suite, each with both texts and all scores."""
    ((columns, rows),) = tables(comparison(ROWS)).values()
    assert columns == ["prompt", "base", "aligned", "hits base", "hits aligned", "other base", "other aligned", "id"]
    assert [row[-1] for row in rows] == [f"p{number}" for number in range(ROWS)]
    assert rows[0] == ["prompt 0", "answer 0", "answer 0", 0.0, 1.0, None, None, "p0"]


def test_many_answers_make_three_tables() -> None:
    """Of more, 500 are drawn at random and always the same, the worst come first, and all that flipped are told of."""
    made = tables(comparison(2000))
    assert list(made) == ["/random", "/worst", "/flipped"]
    assert all(len(rows) <= ROWS for _, rows in made.values())
    assert made == tables(comparison(2000))
    drawn = [int(row[-1][1:]) for row in made["/random"][1]]
    assert drawn == sorted(set(drawn))
    assert 800 < sum(drawn) / ROWS < 1200  # over the whole suite, not its first 500
    lost = [number for number in range(2000) if number % 10 and number % 7 == 0]
    assert [row[-1] for row in made["/worst"][1][: len(lost)]] == [f"p{number}" for number in lost]
    assert {row[-1] for row in made["/flipped"][1]} == {
        f"p{number}" for number in range(2000) if number % 10 == 0 or number % 7 == 0
    }


def test_the_worst_of_a_metric_that_should_be_low() -> None:
    """Where less is better the highest scores are the worst."""
    rows = tables(comparison(2000, "lower"))["/worst"][1]
    assert {row[4] for row in rows} == {1.0}


def test_summary_has_value_interval_and_n() -> None:
    """Base, aligned and difference of each metric, each with its interval and the number of prompts."""
    assert dict(summary(comparison(40))) == {
        "base/small/hits": {"value": 0.4, "ci_low": 0.4 - 0.1, "ci_high": 0.4 + 0.1, "n": 40},
        "eval/small/hits": {"value": 0.6, "ci_low": 0.6 - 0.1, "ci_high": 0.6 + 0.1, "n": 40},
        "difference/small/hits": {"value": 0.2, "ci_low": 0.2 - 0.1, "ci_high": 0.2 + 0.1, "n": 40},
    }
