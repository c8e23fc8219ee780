"""From pairs to the batches that a modality scores."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dpoframe.data.sampler import PairStream, prompt_key, share
from dpoframe.data.windowed_stream import WindowedStream
from dpoframe.modality import Batch, Modality
from dpoframe.rng import seed_of
from dpoframe.types import Example, Measure, PreferencePair

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class PairBatch:
    """A micro-batch of b pairs, ready to be scored.

    Attributes:
        ids: The pairs' ids.
        keys: 2b names, chosen first, each a digest of all of an example that decides its score (see `score_key`).
        weight: (b,) the pairs' weights.
        units: (b,) units of prompt, chosen and rejected together, the prompt counted once.
        lengths: (2b,) units of the responses by `Modality.measure`, chosen first.
        inputs: `collate` of the 2b examples, chosen first.
        mismatched: `collate` of b examples, each a prompt with another prompt's chosen response; None if no loss asks.
        mismatched_keys: Their b names.
    """

    ids: list[str]
    keys: list[str]
    weight: Tensor
    units: Tensor
    lengths: Tensor
    inputs: Batch
    mismatched: Batch = None
    mismatched_keys: list[str] = field(default_factory=list)


@dataclass
class StepBatch:
    """One rank's share of an optimizer step.

    Attributes:
        step: Number of the step, from 0.
        epoch: Epochs done when the step is done (a fraction).
        pairs: Pairs of the step over all ranks.
        chosen_length: Mean length of the chosen responses of the whole step by `Modality.measure`.
        micro: The share's micro-batches.
        idle: How many of them, at the end, are there for the other ranks' sake and count for nothing.
    """

    step: int
    epoch: float
    pairs: int
    chosen_length: float
    micro: list[PairBatch]
    idle: int = 0

    @property
    def own(self) -> list[PairBatch]:
        """The micro-batches that count."""
        return self.micro[: len(self.micro) - self.idle]


@dataclass(frozen=True)
class Entry:
    """One pair in one epoch: its two examples and their measures, and the mismatched example where a loss wants it."""

    pair: PreferencePair
    chosen: Example
    rejected: Example
    measures: tuple[Measure, Measure]
    mismatched: Example | None = None

    @property
    def units(self) -> int:
        """Units of prompt, chosen and rejected, the prompt counted once."""
        return max(measure.prompt for measure in self.measures) + sum(measure.response for measure in self.measures)


def score_key(*parts: str | int) -> str:
    """Name of a score: digest of the example's measure, its partner's, and its seed where the modality draws from it."""
    return hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=16).hexdigest()


def micro_batches(entries: Sequence[Entry], limit: int | None, least: int) -> Iterator[list[Entry]]:
    """Splits a rank's share: pairs of one prompt together, at least `least` parts, none over `limit` units.

    A single pair over the limit makes a micro-batch of its own.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.measures[0].prompt_digest, []).append(entry)
    ranked = [entry for group in groups.values() for entry in group]
    for part in range(least):
        yield from within_limit(ranked[share(len(ranked), part, least)], limit)


def within_limit(entries: Sequence[Entry], limit: int | None) -> Iterator[list[Entry]]:
    """Cuts `entries` whenever the next one would go over `limit` units, counting each prompt once."""
    current: list[Entry] = []
    used, prompts = 0, set[str]()
    for entry in entries:
        known = entry.measures[0].prompt_digest in prompts
        cost = sum(measure.response for measure in entry.measures) if known else entry.units
        if current and limit is not None and used + cost > limit:
            yield current
            current, used, prompts, cost = [], 0, set(), entry.units
        current.append(entry)
        used += cost
        prompts.add(entry.measures[0].prompt_digest)
    if current:
        yield current


@dataclass
class StepDataset:
    """A map from the number of a step to this rank's share of it; what the data loader draws from, also in workers.

    Attributes:
        stream: The order of pairs.
        modality: What collates.
        tokens_per_batch: Cap of `measure` units a micro-batch.
        accumulate: Least number of micro-batches of a share.
        mismatched: Whether a loss wants mismatched examples.
        bank: How many seeds a pair has, which come round epoch by epoch; None for a new one each epoch.
        rank: Number of this rank.
        world: Count of ranks.
    """

    stream: PairStream | WindowedStream
    modality: Modality
    tokens_per_batch: int | None = None
    accumulate: int = 1
    mismatched: bool = False
    bank: int | None = None
    rank: int = 0
    world: int = 1
    _measures: dict[int, tuple[Measure, Measure]] = field(default_factory=dict, repr=False)

    def __getitem__(self, step: int) -> StepBatch:
        """This rank's share of a step."""
        members = self.stream.step(step)
        lengths = [self.measures(epoch, position)[0].response for epoch, position in members]
        mine = [self.entry(epoch, position) for epoch, position in members[share(len(members), self.rank, self.world)]]
        parts = micro_batches(mine, self.tokens_per_batch, max(1, min(self.accumulate, len(mine))))
        return StepBatch(
            step, self.stream.done(*members[-1]), len(members), sum(lengths) / len(lengths), [self.collate(part) for part in parts]
        )

    def measures(self, epoch: int, position: int) -> tuple[Measure, Measure]:
        """Measures of chosen and rejected of a pair; kept, since each epoch asks again."""
        index = self.stream.index(epoch, position)
        if index not in self._measures:
            if len(self._measures) >= self.stream.memory:
                self._measures.clear()
            pair = self.stream.pair(epoch, position)
            examples = (Example(pair.prompt, response, 0, pair.id) for response in (pair.chosen, pair.rejected))
            first, second = (self.modality.measure(example) for example in examples)
            self._measures[index] = (first, second)
        return self._measures[index]

    def entry(self, epoch: int, position: int) -> Entry:
        """The pair at a position of an epoch, with the seeds of that epoch."""
        pair = self.stream.pair(epoch, position)
        seed = seed_of(self.stream.seed, epoch if self.bank is None else epoch % self.bank, pair.id)
        chosen, rejected = (Example(pair.prompt, response, seed, pair.id) for response in (pair.chosen, pair.rejected))
        other = self.other_response(epoch, position) if self.mismatched else None
        # A name of its own: it has no partner, not even where a step holds the pair twice.
        wrong = Example(pair.prompt, other.chosen, seed, f"{pair.id} in epoch {epoch}") if other else None
        return Entry(pair, chosen, rejected, self.measures(epoch, position), wrong)

    def other_response(self, epoch: int, position: int) -> PreferencePair:
        """The next pair of the epoch's order that has another prompt (the pair itself where there is none).

        It depends on the epoch's order alone, so the split of a step in ranks and micro-batches changes nothing.
        """
        pair = self.stream.pair(epoch, position)
        own = prompt_key(pair.prompt)
        return next((other for other in self.stream.following(epoch, position) if prompt_key(other.prompt) != own), pair)

    def keys(self, entry: Entry) -> tuple[str, str]:
        """Names of the two scores of a pair."""
        seed = (entry.chosen.seed,) if self.modality.stochastic else ()
        chosen, rejected = (measure.digest for measure in entry.measures)
        return score_key(chosen, rejected, *seed), score_key(rejected, chosen, *seed)

    def mismatched_key(self, example: Example) -> str:
        """Name of the score of a mismatched example, which has no partner."""
        seed = (example.seed,) if self.modality.stochastic else ()
        return score_key(self.modality.measure(example).digest, *seed)

    def collate(self, entries: Sequence[Entry]) -> PairBatch:
        """One micro-batch."""
        import torch

        keys = [self.keys(entry) for entry in entries]
        wrong = [entry.mismatched for entry in entries if entry.mismatched is not None]
        return PairBatch(
            ids=[entry.pair.id for entry in entries],
            keys=[*(key for key, _ in keys), *(key for _, key in keys)],
            weight=torch.tensor([entry.pair.weight for entry in entries]),
            units=torch.tensor([entry.units for entry in entries]),
            lengths=torch.tensor([entry.measures[side].response for side in (0, 1) for entry in entries]),
            inputs=self.modality.collate([*(entry.chosen for entry in entries), *(entry.rejected for entry in entries)]),
            mismatched=self.modality.collate(wrong) if wrong else None,
            mismatched_keys=[self.mismatched_key(example) for example in wrong],
        )

    def entries(self, steps: Iterable[int]) -> Iterator[Entry]:
        """The pairs of some steps of all ranks, one by one."""
        for step in steps:
            for epoch, position in self.stream.step(step):
                yield self.entry(epoch, position)

    def distinct(self, steps: int) -> Iterator[Entry]:
        """The entries of the first `steps` steps, without epochs that bring nothing new: no seed and no mismatched example."""
        yield from itertools.islice(self.entries(range(steps)), self.distinct_count(steps))

    def distinct_count(self, steps: int) -> int:
        """How many entries `distinct` gives."""
        size, stream = self.stream.batch_size, self.stream
        assert isinstance(stream, PairStream), "a source that is read window by window is never gone through beforehand"
        count = len(stream.pairs)
        whole = steps * size if self.stream.shuffle else min(steps * size, count)
        if self.mismatched:  # which response stands beside a prompt depends on the epoch's order
            return whole
        draws = self.bank if self.modality.stochastic else 1
        return whole if draws is None else min(whole, draws * count)


def steps_of_one_pass(stream: PairStream | WindowedStream) -> int:
    """Steps that cover every pair once."""
    assert isinstance(stream, PairStream), "of a source that is read window by window the number of pairs is not known"
    return -(-len(stream.pairs) // stream.batch_size)


def move(batch: Any, device: Any) -> Any:
    """Moves a batch's tensors to a device, through the containers that Lightning knows."""
    from lightning.fabric.utilities import move_data_to_device

    return move_data_to_device(batch, device)
