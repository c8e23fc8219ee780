"""Ranks that a test starts: what each has to say reaches it, however long."""

from __future__ import annotations

import os

import pytest

from dpoframe.testing import in_ranks


def test_a_long_message_of_each_rank() -> None:
    """Its end is told; nobody waits for room in a pipe."""

    def fails() -> None:
        raise ValueError("x" * 300_000 + f" from rank {os.environ['RANK']}")

    with pytest.raises(AssertionError) as caught:
        in_ranks(fails, 3, longest=120)
    assert all(f"x from rank {number}" in str(caught.value) for number in range(3))
    assert "ended with [1, 1, 1]" in str(caught.value)
