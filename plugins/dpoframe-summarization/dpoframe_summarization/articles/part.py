"""Dividing articles into those for training and those that are held out."""

from __future__ import annotations

import hashlib
import re
from typing import Literal, TypeAlias

Part: TypeAlias = Literal["all", "train", "test"]

_LOOKED_AT = 300


def part_of(source: str, held_out: float) -> Literal["train", "test"]:
    """On which side an article falls: `test` for a share of `held_out` of all articles.

    The side follows from a digest of the article's first 300 letters and digits, without case. So it is the same on every
    machine, and the same article is on one side in every data set that has it, however that one is tokenised.
    """
    letters = "".join(re.findall(r"[^\W_]", source.casefold()))[:_LOOKED_AT]
    digest = hashlib.blake2b(letters.encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "big") < held_out * 2**64 else "train"
