"""The order of pairs of a set that is read window by window: as `PairStream`, with the shuffle inside a window."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from dpoframe.data.sampler import bucketed
from dpoframe.data.windows import KEPT, WindowReader
from dpoframe.rng import seed_of
from dpoframe.types import PreferencePair


@dataclass(frozen=True)
class WindowedStream:
    """The endless stream of pairs of a source whose size is not known before its end was reached.

    Position p of an epoch lies in window p // size; a window's pairs are shuffled by (seed, epoch, window), the windows come in
    the order of the source. Each rank, and each run that goes on, computes the same order.

    Attributes:
        windows: The source.
        batch_size: Pairs an optimizer step.
        seed: The run's seed.
        bucket: Whether steps hold pairs of about one length.
    """

    windows: WindowReader
    batch_size: int
    seed: int = 0
    bucket: bool = True
    shuffle: bool = True
    _orders: dict[tuple[int, int], list[int]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def memory(self) -> int:
        """How many pairs it is worth to remember something of."""
        return KEPT * self.windows.size

    def step(self, number: int) -> list[tuple[int, int]]:
        """(epoch, position in it) of each pair of a step, in order."""
        return [self._place(position) for position in range(number * self.batch_size, (number + 1) * self.batch_size)]

    def _place(self, position: int) -> tuple[int, int]:
        self.windows.reach(position + 1)
        count = self.windows.count
        return (0, position) if count is None else divmod(position, count)

    def index(self, epoch: int, position: int) -> int:
        """Number, in the order of the source, of the pair at a position of an epoch."""
        number, offset = divmod(position, self.windows.size)
        return number * self.windows.size + self._order(epoch, number)[offset]

    def pair(self, epoch: int, position: int) -> PreferencePair:
        """The pair at a position of an epoch."""
        number, offset = divmod(self.index(epoch, position), self.windows.size)
        return self.windows.window(number)[offset]

    def following(self, epoch: int, position: int) -> Iterator[PreferencePair]:
        """The other pairs of the window, in the epoch's order, from behind this one round to before it."""
        number, offset = divmod(position, self.windows.size)
        order, pairs = self._order(epoch, number), self.windows.window(number)
        return (pairs[order[(offset + ahead) % len(order)]] for ahead in range(1, len(order)))

    def done(self, epoch: int, position: int) -> float:
        """Whole epochs done: how far one has come in the first is not known, and a run that goes on must say what one did."""
        return float(epoch)

    def _order(self, epoch: int, number: int) -> list[int]:
        if (epoch, number) not in self._orders:
            while len(self._orders) >= KEPT:
                self._orders.pop(next(iter(self._orders)))
            self._orders[epoch, number] = self._draw(epoch, number)
        return self._orders[epoch, number]

    def _draw(self, epoch: int, number: int) -> list[int]:
        pairs = self.windows.window(number)
        draw = random.Random(seed_of(self.seed, "window", epoch, number))
        order = list(range(len(pairs)))
        draw.shuffle(order)
        if not self.bucket:
            return order
        before = epoch * (self.windows.count or 0) + number * self.windows.size
        return bucketed(pairs, order, self.batch_size, -before % self.batch_size, draw)
