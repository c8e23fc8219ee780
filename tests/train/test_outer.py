"""Ranks that were started from outside agree before there is a process group."""

from __future__ import annotations

import os
import time

import pytest

from dpoframe.testing import in_ranks
from dpoframe.train.outer import first_says


def test_one_process_looks_for_itself() -> None:
    """There is nobody to ask."""
    assert first_says(lambda: "here") == "here"


@pytest.mark.parametrize("said", ["step-00000004.ckpt", ""])
def test_the_first_rank_decides(said: str) -> None:
    """The others wait for it, and do not look themselves; twice gives two answers."""

    def look() -> str:
        assert os.environ["RANK"] == "0"
        time.sleep(0.3)
        return said

    def rank() -> None:
        assert first_says(look) == said
        assert first_says(lambda: "more" if os.environ["RANK"] == "0" else "wrong") == "more"
        time.sleep(0.5 if os.environ["RANK"] == "0" else 0)  # its store is asked until then

    in_ranks(rank)


def test_a_first_rank_that_ends_without_saying() -> None:
    """The others end with a word."""

    def fails() -> str:
        raise OSError("no such disk")

    with pytest.raises(AssertionError) as caught:
        in_ranks(lambda: first_says(fails))
    assert "OSError: no such disk" in str(caught.value)
    assert "MachineError: Another rank has ended while it looked for a checkpoint" in str(caught.value)
