"""How much a run has to do: its steps, its tokens, and which of its micro-batches to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dpoframe.data.batching import Entry, StepDataset, micro_batches
from dpoframe.data.sampler import share

# Pairs of the run's beginning that are measured. What comes after is taken to be like them.
MOST_PAIRS = 20_000
# Micro-batches of one step that are gone through. The others are counted by their tokens.
_MOST_PARTS = 4


def units_of(part: Sequence[Entry]) -> int:
    """Tokens of a micro-batch, each prompt counted once."""
    prompts = {entry.measures[0].prompt_digest: max(one.prompt for one in entry.measures) for entry in part}
    return sum(prompts.values()) + sum(one.response for entry in part for one in entry.measures)


@dataclass(frozen=True)
class Share:
    """One rank's share of an optimizer step: its micro-batches."""

    parts: list[list[Entry]]

    @property
    def units(self) -> int:
        """Tokens of all micro-batches."""
        return sum(map(units_of, self.parts))

    @property
    def largest(self) -> list[Entry]:
        """The micro-batch of the most tokens."""
        return max(self.parts, key=units_of)

    def some(self) -> Share:
        """A share of few micro-batches, among them the largest, which comes last: gradients of others are there by then."""
        if len(self.parts) <= _MOST_PARTS:
            return self
        rest = [part for part in self.parts if part is not self.largest]
        return Share([*rest[: _MOST_PARTS - 1], self.largest])


@dataclass(frozen=True)
class Workload:
    """What a run does.

    Attributes:
        steps: Optimizer steps.
        units: Tokens of a step over all ranks, on average.
        typical: The share whose tokens are nearest to a rank's average.
        heaviest: The share that holds the largest micro-batch.
        surveyed: Pairs that were measured for this; fewer than the run has where it is long.
        whole: Whether those were all.
    """

    steps: int
    units: float
    typical: Share
    heaviest: Share
    surveyed: int
    whole: bool


def survey(dataset: StepDataset, steps: int, pairs: int | None) -> Workload:
    """Looks at the steps of a run, in its order, until `MOST_PAIRS` pairs are measured or each pair has come.

    Args:
        dataset: What is trained on.
        steps: Optimizer steps of the run.
        pairs: How many there are; None where that is not known.
    """
    size, count = dataset.stream.batch_size, MOST_PAIRS if pairs is None else pairs
    enough = min(MOST_PAIRS, max(count, size))
    looked = min(steps, max(1, enough // size))
    shares = [_share(dataset, step) for step in range(looked)]
    mean = sum(one.units for one in shares) / looked
    typical = min(shares, key=lambda one: abs(one.units - mean))
    heaviest = max(shares, key=lambda one: units_of(one.largest))
    whole = looked == steps or (pairs is not None and enough >= pairs)
    return Workload(steps, mean * dataset.world, typical, heaviest, min(count, looked * size), whole)


def _share(dataset: StepDataset, step: int) -> Share:
    members = dataset.stream.step(step)
    mine = [dataset.entry(*place) for place in members[share(len(members), dataset.rank, dataset.world)]]
    return Share(list(micro_batches(mine, dataset.tokens_per_batch, max(1, min(dataset.accumulate, len(mine))))))
