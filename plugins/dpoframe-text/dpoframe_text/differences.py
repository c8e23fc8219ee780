"""In which tokens the two responses of a pair differ: those that stand in no longest common subsequence of the two.

The common subsequence is found by bit-parallel dynamic programming (Hyyrö 2004, "Bit-parallel LCS-length computation
revisited"): a row of the table is one integer with a bit a token, so two responses of 1,000 tokens take about as long as
tokenising them, whatever they hold; a repetition loop is no worse than prose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Marks: TypeAlias = "tuple[bool, ...]"


def differing(first: Sequence[int], second: Sequence[int]) -> tuple[Marks, Marks]:
    """For each token of both, whether it is outside what they have in common.

    Common beginnings and ends always count as common; of several longest common subsequences between these one is taken,
    the same one in whichever order the two are given.
    """
    if (len(second), *second) < (len(first), *first):
        return differing(second, first)[::-1]
    head = _alike(first, second)
    tail = _alike(first[head:][::-1], second[head:][::-1])
    one, two = first[head : len(first) - tail], second[head : len(second) - tail]
    in_one, in_two = [True] * len(one), [True] * len(two)
    for row, column in _common(one, two):
        in_one[row] = in_two[column] = False
    around = (False,) * head, (False,) * tail
    return (*around[0], *in_one, *around[1]), (*around[0], *in_two, *around[1])


def marks(responses: Sequence[Sequence[int]], partners: Sequence[int | None]) -> list[Marks]:
    """Differing tokens of each response; all of them where there is no partner to differ from.

    Args:
        responses: Token ids of N responses.
        partners: Index of the other response of each pair, or None.
    """
    found: dict[int, Marks] = {}
    for index, partner in enumerate(partners):
        if partner is None:
            found[index] = (True,) * len(responses[index])
        elif index not in found:
            found[index], found[partner] = differing(responses[index], responses[partner])
    return [found[index] for index in range(len(responses))]


def _alike(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the common beginning."""
    pairs = zip(first, second, strict=False)
    return next((place for place, (one, two) in enumerate(pairs) if one != two), min(len(first), len(second)))


def _common(first: Sequence[int], second: Sequence[int]) -> list[tuple[int, int]]:
    """Places of the tokens of a longest common subsequence, last first.

    Bit j of the row of `first[: i + 1]` is 0 where the longest common subsequence with `second[: j + 1]` is longer than that
    with `second[:j]`.
    """
    places: dict[int, int] = {}
    for column, token in enumerate(second):
        places[token] = places.get(token, 0) | 1 << column
    full = (1 << len(second)) - 1
    row, rows = full, list[int]()
    for token in first:
        met = row & places.get(token, 0)
        row = ((row + met) | (row - met)) & full
        rows.append(row)
    found, one, two = [], len(first), len(second)
    while one and two:
        if first[one - 1] == second[two - 1]:
            one, two = one - 1, two - 1
            found.append((one, two))
        elif rows[one - 1] >> (two - 1) & 1:
            two -= 1
        else:
            one -= 1
    return found
