"""What is scored at once in an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from dpoframe import Example, Measure, content_digest
from dpoframe.harness.subject import SEEDED_A_BATCH, UNITS_A_BATCH, Subject
from dpoframe.testing import ToyModality


@dataclass(frozen=True)
class Pictures(ToyModality):
    """Scores hang on seeds, and an example counts one unit."""

    stochastic: ClassVar[bool] = True


@dataclass(frozen=True)
class Few(Pictures):
    """Says how many examples it takes."""

    scoring_batch: int = 5


@dataclass(frozen=True)
class Texts(ToyModality):
    """Counts characters."""

    def measure(self, example: Example) -> Measure:
        """Their number."""
        sizes = len(str(example.prompt)), len(str(example.response))
        return Measure(*sizes, content_digest(example.prompt), content_digest(example.response))


def batches(modality: Any, examples: list[Example]) -> list[list[Example]]:
    """Batches of examples under keys whose order mixes the pairs."""
    keys = {content_digest(example.prompt, example.response): example for example in examples}
    sizes = {key: modality.measure(example) for key, example in keys.items()}
    made = Subject("toy", modality, modality.build()).batches(keys, sizes)
    assert sorted(key for batch in made for key in batch) == sorted(keys)
    return [list(batch.values()) for batch in made]


def pairs(count: int, prompts: int = 1) -> list[Example]:
    """Pairs, several of a prompt."""
    return [
        Example(f"p{number % prompts}", f"{side} {number}", number, f"pair-{number}")
        for number in range(count)
        for side in ("good", "bad")
    ]


@pytest.mark.parametrize(("modality", "most"), [(Pictures(), SEEDED_A_BATCH), (Few(), 4)], ids=["unsaid", "said"])
@pytest.mark.parametrize("prompts", [1, 7])
def test_pairs_of_pictures_stay_together(modality: Any, most: int, prompts: int) -> None:
    """No pair is taken apart, and no batch is larger than the modality, or the default, says; it is filled up to that."""
    made = batches(modality, pairs(50, prompts))
    assert {len(batch) for batch in made[:-1]} == {most}
    for batch in made:
        assert all(sum(other.pair_id == one.pair_id for other in batch) == 2 for one in batch)


def test_texts_go_by_their_length() -> None:
    """Scores that hang on no seed are batched by units alone, in the order of prompts and keys."""
    examples = [Example("x" * 10, "y" * (90 + number % 3) + str(number), 0, f"pair-{number // 2}") for number in range(60)]
    made = batches(Texts(), examples)
    sizes = [sum(len(str(one.prompt)) + len(str(one.response)) for one in batch) for batch in made]
    assert max(sizes) <= UNITS_A_BATCH
    assert min(sizes[:-1]) > UNITS_A_BATCH - 110
