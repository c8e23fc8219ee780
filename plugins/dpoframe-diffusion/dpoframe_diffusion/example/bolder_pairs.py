"""The data set `digits-bold`: of two real digits of one kind the bolder one is preferred."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from dpoframe import PreferencePair, seed_of
from dpoframe_diffusion.example.digits import WORDS, Digit, digits

MARGIN = 0.05
"""By how much more ink, of 1, the chosen digit holds; the spread of ink among digits of one kind is about as large."""


def bolder_pairs(
    split: Literal["train", "heldout"] = "train", pairs: int = 600, margin: float = MARGIN, seed: int = 0
) -> Iterator[PreferencePair]:
    """Pairs of real digits, as many of each kind.

    In `train` a digit may stand in several pairs. In `heldout` it stands in one, so that the pairs are independent; none of
    its digits is in `train`. The label follows from the mean ink alone: whatever goes with it (a wide zero has more ink
    than a narrow one) is preferred with it.

    Args:
        split: Which share of the digits to take.
        pairs: Pairs at most; there may be fewer in `heldout`.
        margin: By how much the mean inks, each in [0, 1], must differ.
        seed: Which pairs are drawn in `train`.
    """
    for label in range(len(WORDS)):
        kind = sorted((one for one in digits(split) if one.label == label), key=lambda one: (one.ink, one.number))
        found = _drawn(kind, margin, seed) if split == "train" else _matched(kind, margin)
        for thin, bold in found[: -(-pairs // len(WORDS))]:
            yield _pair(bold, thin)


def _drawn(kind: Sequence[Digit], margin: float, seed: int) -> list[tuple[Digit, Digit]]:
    """Every (thinner, bolder) far enough apart, shuffled."""
    found = [(thin, bold) for thin in kind for bold in kind if bold.ink - thin.ink >= margin]
    order = np.random.default_rng(seed_of(seed, kind[0].label)).permutation(len(found))
    return [found[place] for place in order]


def _matched(kind: Sequence[Digit], margin: float) -> list[tuple[Digit, Digit]]:
    """Each of the thinner half with one of the bolder half, rank by rank."""
    half = len(kind) // 2
    return [(thin, bold) for thin, bold in zip(kind[:half], kind[-half:], strict=True) if bold.ink - thin.ink >= margin]


def _pair(bold: Digit, thin: Digit) -> PreferencePair:
    return PreferencePair(
        prompt=bold.caption,
        chosen=bold.media,
        rejected=thin.media,
        id=f"digit-{bold.number}-over-{thin.number}",
        meta={"digit": bold.label, "ink_chosen": bold.ink, "ink_rejected": thin.ink},
    )
