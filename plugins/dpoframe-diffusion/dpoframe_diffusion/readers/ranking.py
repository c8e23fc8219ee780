"""From several pictures of one caption, ranked, to pairs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from dpoframe import Media, PreferencePair, RawRow, RefusedRow
from dpoframe_diffusion.readers.pictures import Pictures
from dpoframe_diffusion.readers.rows import RowFault, pair

How: TypeAlias = Literal["all", "best-worst"]


def ranked_pairs(
    row: RawRow, prompt: str, values: Any, ranks: Any, pictures: Pictures, how: How, meta: Mapping[str, Any]
) -> Iterator[PreferencePair | RefusedRow]:
    """The pairs of a ranking. A picture that cannot be used is refused by itself; the others still make their pairs.

    Args:
        row: Where it comes from.
        prompt: The caption.
        values: k pictures, as `Pictures.media` takes them.
        ranks: k numbers, the best picture has the lowest; equal ones make no pair.
        pictures: Finds and checks them.
        how: `all` pairs of unequal rank, or `best-worst`: the best against the worst.
        meta: Goes with each pair.

    Raises:
        RowFault: there are not k numbers for k pictures (`wrong-type`), or all ranks are equal (`tie`).
    """
    numbers = _numbers(values, ranks)
    found: list[tuple[float, Media]] = []
    refused = 0
    for place, (value, rank) in enumerate(zip(values, numbers, strict=True), start=1):
        try:
            found.append((rank, pictures.media(row, value, f"picture {place} of {len(numbers)}")))
        except RowFault as fault:
            refused += 1
            yield row.refuse(fault.code, fault.reason)
    couples = _couples(found, how)
    if not couples and not refused:
        raise RowFault("tie", f"All {len(numbers)} pictures have the same rank.")
    for (better, chosen), (worse, rejected) in couples:
        try:
            yield pair(row, prompt, (chosen, rejected), {"rank_chosen": better, "rank_rejected": worse, **meta})
        except RowFault as fault:
            yield row.refuse(fault.code, fault.reason)


def _numbers(values: Any, ranks: Any) -> list[float]:
    """The ranks as numbers, one a picture."""
    if not _is_list(values) or not _is_list(ranks) or len(values) != len(ranks) or len(values) < 2:
        sizes = [len(one) if _is_list(one) else type(one).__name__ for one in (values, ranks)]
        raise RowFault("wrong-type", f"A ranking needs two pictures or more and a rank for each, found {sizes[0]} and {sizes[1]}.")
    numbers = [float(rank) if isinstance(rank, int | float) and not isinstance(rank, bool) else math.nan for rank in ranks]
    if not all(map(math.isfinite, numbers)):
        raise RowFault("wrong-type", f"Ranks must be numbers, found {str(ranks)[:80]}.")
    return numbers


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _couples(found: list[tuple[float, Media]], how: How) -> list[tuple[tuple[float, Media], tuple[float, Media]]]:
    # Python's sort keeps the order of equal ranks, so that the pairs are the same each time.
    order = sorted(found, key=lambda one: one[0])
    if how == "best-worst":
        order = order[:1] + order[-1:] if len(order) > 1 else []
    return [(better, worse) for better, worse in itertools.combinations(order, 2) if better[0] < worse[0]]
