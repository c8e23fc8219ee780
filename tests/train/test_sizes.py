"""Numbers of pairs, of pairs a step and of ranks that do not go together."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from dpoframe import ConfigError
from dpoframe.testing.toy import ToyModality
from dpoframe.train.sizes import repetition

RANKS = ("trainer.devices=3", "trainer.strategy=ddp_fork")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (("data.validation=2",), r"3 ranks, .*data\.validation: gives 2 pairs\. Give 3 or more, or none"),
        (("trainer.batch_size=2",), r"3 ranks, .*trainer\.batch_size: is 2\. Give 3 or more"),
        (("data.validation=2", "trainer.batch_size=2"), r"batch_size: is 2\..*validation: gives 2 pairs\."),
    ],
)
def test_a_rank_without_a_pair_is_found_first(
    changes: tuple[str, ...], told: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too few pairs of a step or of the validation for the ranks: one message, before a model is built or a folder made."""
    monkeypatch.setattr(ToyModality, "build", lambda self: pytest.fail("a model was built"))
    with pytest.raises(ConfigError, match=f"(?s){told}"):
        run("few", *RANKS, *changes)
    assert not (tmp_path / "few").exists()


def test_a_pair_for_each_rank_is_enough(run: Any, look: Any) -> None:
    """As many validation pairs as ranks, fewer than a step holds: the ranks' validation is that of one process."""
    changes = ("data.validation=2", "trainer.devices=2", "trainer.strategy=ddp_fork")
    alone, two = run("alone", "data.validation=2"), run("two", *changes)
    assert look.rows(two, "validation")[0] == pytest.approx(look.rows(alone, "validation")[0], rel=1e-9)


def test_a_step_larger_than_the_set_is_told_once(run: Any) -> None:
    """Where a step must repeat pairs, one warning says how many there are and how often each stands in a step."""
    with pytest.warns(RuntimeWarning, match="is 8, but the training set has 3 pairs: a step holds each 2 or 3 times") as told:
        run("small", "data.count=3")
    assert len([one for one in told if "batch_size" in str(one.message)]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run("whole", "data.count=8")


@pytest.mark.parametrize(
    ("size", "pairs", "told"), [(8, 8, ""), (8, 9, ""), (8, 4, "4 pairs: a step holds each 2 times."), (9, 1, "1 pair: ")]
)
def test_how_often_a_step_repeats(size: int, pairs: int, told: str) -> None:
    """Nothing is said of a step that the set fills; else the counts are those of size positions over so many pairs."""
    assert told in repetition(size, pairs)
    assert bool(repetition(size, pairs)) == bool(told)
