"""Which tokens differ: against the table of all common subsequences, in either order, and fast whatever the texts hold."""

from __future__ import annotations

import time

import pytest
from dpoframe_text.differences import differing, marks
from hypothesis import given, settings
from hypothesis import strategies as st

TOKENS = st.lists(st.integers(0, 4), max_size=14).map(tuple)


def longest(first, second) -> int:
    """Length of a longest common subsequence, by the whole table."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for row, one in enumerate(first):
        for column, two in enumerate(second):
            best = max(table[row][column + 1], table[row + 1][column])
            table[row + 1][column + 1] = table[row][column] + 1 if one == two else best
    return table[-1][-1]


@settings(max_examples=400, deadline=None)
@given(TOKENS, TOKENS)
def test_what_does_not_differ_is_a_longest_common_subsequence(first, second) -> None:
    """Unmarked tokens are the same in both, in order, and no longer common subsequence exists; the order given is no matter."""
    one, two = differing(first, second)
    assert (len(one), len(two)) == (len(first), len(second))
    common = [token for token, mark in zip(first, one, strict=True) if not mark]
    assert common == [token for token, mark in zip(second, two, strict=True) if not mark]
    assert len(common) == longest(first, second)
    assert differing(second, first) == (two, one)


@pytest.mark.parametrize(
    ("first", "second", "one", "two"),
    [
        ("abcdef", "abxdef", "001000", "001000"),
        ("abc", "abcde", "000", "00011"),
        ("abc", "xyz", "111", "111"),
        ("aab", "ab", "010", "00"),
        ("same", "same", "0000", "0000"),
        ("", "ab", "", "11"),
    ],
)
def test_by_hand(first, second, one, two) -> None:
    """Replaced, added and removed tokens are marked; common beginnings and ends never are."""
    found = differing([ord(letter) for letter in first], [ord(letter) for letter in second])
    assert tuple("".join(str(int(mark)) for mark in side) for side in found) == (one, two)


def test_responses_without_a_partner_differ_as_a_whole() -> None:
    """All tokens of a response that stands alone are marked, pairs are compared with each other alone."""
    found = marks([(1, 2, 3), (7, 8), (1, 2, 4)], [2, None, 0])
    assert found == [(False, False, True), (True, True), (False, False, True)]


def test_loops_are_no_worse_than_prose() -> None:
    """Two repetition loops of 3,000 tokens, over which a search for matching blocks takes minutes, are compared in seconds."""
    start = time.perf_counter()
    one, two = differing((1, 2, 3) * 1000, (1, 2, 4) * 1000)
    assert time.perf_counter() - start < 5
    assert sum(one) == sum(two) == 1000
