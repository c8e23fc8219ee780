"""Numbers of pairs, of pairs a step and of ranks that do not go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dpoframe import ConfigError
from dpoframe.testing.toy import ToyModality

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
