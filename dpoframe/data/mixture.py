"""The data set that mixes others by weight."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Literal

from dpoframe.data.opening import open_dataset
from dpoframe.errors import ConfigError, Fault
from dpoframe.plugins import host
from dpoframe.types import PreferencePair, RefusedRow

Rows = Iterator[PreferencePair | RefusedRow]


def mixture(sources: Sequence[Mapping[str, Any]], stop: Literal["first", "all"] = "first") -> Rows:
    """Mixes data sets by weight, in a fixed order without chance.

    After any n pairs, each source has given its share of them to within less than one pair. Refused rows pass through
    and count for no share. Nothing is read twice.

    Args:
        sources: One mapping a source: `name`, the data set's own keys, and `weight` (a positive number, 1 unless given).
        stop: `first`: the mixture ends when it is the turn of a source that has no more, so the shares hold to the end.
            `all`: a source that ends drops out, the others go on in proportion, and every row is used.

    Raises:
        ConfigError: a source lacks its name or has a wrong weight; all faults at once.
    """
    _check(sources)
    given = [{key: value for key, value in source.items() if key not in ("name", "weight")} for source in sources]
    streams = [
        open_dataset(source["name"], options, host(), f"data.sources.{index}")
        for index, (source, options) in enumerate(zip(sources, given, strict=True))
    ]
    return interleave(streams, [float(source.get("weight", 1)) for source in sources], stop)


def _check(sources: Sequence[Mapping[str, Any]]) -> None:
    faults = [] if sources else [Fault("data.sources", "a mixture needs at least one source.")]
    for index, source in enumerate(sources):
        where = f"data.sources.{index}"
        if not isinstance(source.get("name"), str):
            faults.append(Fault(f"{where}.name", "a source needs the name of its data set.", "Such as `name: jsonl`."))
        weight = source.get("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight) or weight <= 0:
            faults.append(Fault(f"{where}.weight", f"a weight must be a positive number, found {weight!r}."))
    if faults:
        raise ConfigError("The mixture is wrong:", faults)


def interleave(streams: Sequence[Rows], weights: Sequence[float], stop: str) -> Rows:
    """Pairs of all streams, each source's share kept to within less than one pair at every point (see `mixture`)."""
    live = list(range(len(streams)))
    taken = [0] * len(streams)
    while live:
        shares = [weights[index] / sum(weights[other] for other in live) for index in live]
        turn = live[whose_turn(shares, [taken[index] for index in live])]
        found = yield from _until_pair(streams[turn])
        if found:
            taken[turn] += 1
        elif stop == "first":
            return
        else:
            live.remove(turn)
            # The others' shares are new ones: by the old counts some would first have to catch up.
            taken = [0] * len(streams)


def whose_turn(shares: Sequence[float], taken: Sequence[int]) -> int:
    """Which source gives the next pair: the one due first, of those that have not had too much.

    Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980): every count then stays within
    1 - 1/(2k - 2) of its share, for k sources.
    """
    if len(shares) == 1:
        return 0
    least = 1 / (2 * len(shares) - 2)
    behind = [share * (sum(taken) + 1) - count for share, count in zip(shares, taken, strict=True)]
    # Shares are rounded: a source that is exactly on the bound must stay allowed, and one must always be.
    allowed = [index for index, gap in enumerate(behind) if gap >= least - 1e-9] or [behind.index(max(behind))]
    return min(allowed, key=lambda index: (1 - least - behind[index]) / shares[index])


def _until_pair(stream: Rows) -> Generator[PreferencePair | RefusedRow, None, bool]:
    """Gives the rows of a stream up to its next pair; returns whether there was one."""
    for row in stream:
        yield row
        if isinstance(row, PreferencePair):
            return True
    return False
