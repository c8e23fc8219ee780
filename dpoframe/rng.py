"""Randomness that depends on what is drawn, never on when: seeds are digests, generators are made from seeds."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed that is a digest of `parts`, such as `(run seed, epoch, pair id)`; equal on every machine."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, device: str = "cpu") -> torch.Generator:
    """A torch generator of its own, seeded with `seed`; torch's global state is neither read nor changed."""
    import torch

    made = torch.Generator(device=device)
    made.manual_seed(seed)
    return made
