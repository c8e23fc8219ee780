"""A modality that costs next to nothing, so that a run measures how its data is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from dpoframe import Example, as_text
from dpoframe.testing.toy import ToyModality

LETTERS = 8
"""Of a prompt and of a response that the model sees."""


@dataclass(frozen=True)
class Beginnings(ToyModality):
    """The toy model of characters, shown the first few of each text."""

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """As the toy's."""
        cut = [
            replace(example, prompt=as_text(example.prompt)[:LETTERS], response=as_text(example.response)[:LETTERS])
            for example in examples
        ]
        return super().collate(cut)
