"""Splitting off a validation set so that no prompt is on both sides."""

from __future__ import annotations

from collections.abc import Sequence

from dpoframe.data.prompts import prompt_digest
from dpoframe.errors import ConfigError, DataError
from dpoframe.rng import seed_of
from dpoframe.types import PreferencePair

Split = tuple[list[PreferencePair], list[PreferencePair]]


def split_by_prompt(pairs: Sequence[PreferencePair], wanted: float, seed: int) -> Split:
    """Training and validation pairs, both in the order given. All pairs of a prompt stay together.

    Prompts are drawn in the order of a digest of `(seed, prompt)`, so the split is the same on every machine and does not
    depend on the order of rows. A prompt with more pairs than are still wanted is passed over.

    Args:
        pairs: All pairs.
        wanted: A share below 1 (float), or a number of pairs (int). At least one pair is drawn unless it is 0.
        seed: The run's seed.

    Returns:
        (training, validation); validation is empty where all pairs have the same prompt.

    Raises:
        ConfigError: a share that is not from 0 to 1, or a negative number.
        DataError: at least as many pairs are wanted as there are.
    """
    count = validation_count(len(pairs), wanted)
    groups: dict[bytes, list[int]] = {}
    for index, pair in enumerate(pairs):
        groups.setdefault(prompt_digest(pair.prompt), []).append(index)
    if not count or len(groups) < 2:
        return list(pairs), []
    order = sorted(groups, key=lambda key: (seed_of(seed, "validation", key.hex()), key))
    drawn: set[int] = set()
    for key in order:
        if len(drawn) + len(groups[key]) <= count:
            drawn.update(groups[key])
    drawn = drawn or set(groups[min(order, key=lambda key: len(groups[key]))])
    training = [pair for index, pair in enumerate(pairs) if index not in drawn]
    return training, [pairs[index] for index in sorted(drawn)]


def validation_count(available: int, wanted: float) -> int:
    """How many of `available` pairs a share (float below 1) or number (int) asks for."""
    if isinstance(wanted, float) and 0 <= wanted < 1:
        return max(1, min(round(wanted * available), available - 1)) if wanted else 0
    if isinstance(wanted, bool) or wanted < 0 or wanted != int(wanted):
        raise ConfigError(f"data.validation must be a share from 0 to below 1 or a whole number of pairs, found {wanted!r}.")
    if wanted >= available:
        raise DataError(
            f"data.validation asks for {int(wanted):,} pairs, but there are only {available:,}. Ask for fewer, or for a share."
        )
    return int(wanted)
