"""The order in which pairs are trained on: a function of (seed, epoch, position), with no state to lose."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field

from dpoframe.rng import seed_of
from dpoframe.types import Content, Media, PreferencePair, as_text, content_digest

# Pairs are sorted by length within this many steps at a time: long enough to even out a step, short enough to stay shuffled.
STEPS_SORTED_TOGETHER = 32


def rough_size(pair: PreferencePair) -> int:
    """Characters of prompt and responses: what lengths are bucketed by, since counting tokens of a whole set takes minutes."""
    parts = (pair.prompt, pair.chosen, pair.rejected)
    return sum(len(as_text(part)) for part in parts if not isinstance(part, Media))


def prompt_key(prompt: Content) -> Hashable:
    """Equal for equal prompts; a media file is known by its path, so that nothing is opened."""
    if isinstance(prompt, str):
        return prompt
    return str(prompt.path) if isinstance(prompt, Media) and prompt.path else content_digest(prompt)


def sort_by_length(pairs: Sequence[PreferencePair], order: Iterable[int]) -> list[int]:
    """The indices `order` by length, pairs of one prompt together."""
    groups: dict[Hashable, list[int]] = {}
    for index in order:
        groups.setdefault(prompt_key(pairs[index].prompt), []).append(index)
    ranked = sorted(groups.values(), key=lambda group: max(rough_size(pairs[index]) for index in group))
    return [index for group in ranked for index in group]


def bucketed(pairs: Sequence[PreferencePair], order: list[int], size: int, first: int, draw: random.Random) -> list[int]:
    """`order` rearranged so that the pairs of a step are of about one length; steps come in random order.

    Args:
        pairs: All pairs.
        order: The epoch's random order.
        size: Pairs a step.
        first: Position of the first whole step in `order`; the epoch before owns the step that ends there.
        draw: Source of the order of steps.
    """
    head, rest = order[:first], order[first:]
    span = size * STEPS_SORTED_TOGETHER
    ranked = [index for start in range(0, len(rest), span) for index in sort_by_length(pairs, rest[start : start + span])]
    steps = [ranked[start : start + size] for start in range(0, len(ranked), size)]
    tail = [steps.pop()] if steps and len(steps[-1]) < size else []
    draw.shuffle(steps)
    return [*head, *(index for step in [*steps, *tail] for index in step)]


@dataclass(frozen=True)
class PairStream:
    """The endless stream of pairs: position p belongs to epoch p // N, which is shuffled by (seed, epoch).

    Step t takes the positions [t B, (t + 1) B), across epoch borders where need be. Each rank computes the same order.

    Attributes:
        pairs: The N pairs.
        batch_size: B, pairs an optimizer step.
        seed: The run's seed.
        bucket: Whether steps hold pairs of about one length.
        shuffle: False gives the order of the file, one epoch of it (validation); the last step may be smaller.
    """

    pairs: Sequence[PreferencePair]
    batch_size: int
    seed: int = 0
    bucket: bool = True
    shuffle: bool = True
    _orders: dict[int, list[int]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def memory(self) -> int:
        """How many pairs it is worth to remember something of: all."""
        return len(self.pairs)

    def index(self, epoch: int, position: int) -> int:
        """Number, in the order of the source, of the pair at a position of an epoch."""
        return self.order(epoch)[position]

    def pair(self, epoch: int, position: int) -> PreferencePair:
        """The pair at a position of an epoch."""
        return self.pairs[self.index(epoch, position)]

    def following(self, epoch: int, position: int) -> Iterator[PreferencePair]:
        """The other pairs in the epoch's order, from behind a position round to before it."""
        order = self.order(epoch)
        return (self.pairs[order[(position + ahead) % len(order)]] for ahead in range(1, len(order)))

    def done(self, epoch: int, position: int) -> float:
        """Epochs done behind a position."""
        return epoch + (position + 1) / len(self.pairs)

    def order(self, epoch: int) -> list[int]:
        """Indices of all pairs in the order of one epoch."""
        if epoch not in self._orders:
            while len(self._orders) > 1:  # a step touches two epochs at most, unless the set is smaller than a step
                self._orders.pop(next(iter(self._orders)))
            self._orders[epoch] = self._draw(epoch)
        return self._orders[epoch]

    def _draw(self, epoch: int) -> list[int]:
        order = list(range(len(self.pairs)))
        if not self.shuffle:
            return order
        draw = random.Random(seed_of(self.seed, "order", epoch))
        draw.shuffle(order)
        if not self.bucket:
            return order
        return bucketed(self.pairs, order, self.batch_size, -epoch * len(order) % self.batch_size, draw)

    def step(self, number: int) -> list[tuple[int, int]]:
        """(epoch, position in it) of each pair of a step, in order."""
        count = len(self.pairs)
        start, stop = number * self.batch_size, (number + 1) * self.batch_size
        return [divmod(position, count) for position in range(start, stop if self.shuffle else min(stop, count))]


def share(count: int, rank: int, world: int) -> slice:
    """The slice of `count` things that falls to `rank` of `world`: contiguous, equal but for one."""
    return slice(rank * count // world, (rank + 1) * count // world)


@dataclass(frozen=True)
class StepSampler(Sized):
    """Numbers of the steps still to do. Its length is that of the whole run: what is done counts as fetched."""

    start: int
    stop: int

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.stop))

    def __len__(self) -> int:
        return self.stop
