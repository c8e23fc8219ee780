"""Has the modality do its frozen work before the policy is built, each rank its share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator

from rich.console import Console

from dpoframe.data.batching import Entry
from dpoframe.data.module import PairDataModule
from dpoframe.data.windowed_stream import WindowedStream
from dpoframe.modality import Modality
from dpoframe.rng import seed_of
from dpoframe.train.outer import outer_ranks, wait
from dpoframe.train.progress import Told, make_bar
from dpoframe.types import Example


def prepare(modality: Modality, data: PairDataModule, told: Told | None = None) -> None:
    """Calls `Modality.prepare` with this rank's share of the run's examples; returns when all ranks have done theirs.

    Ranks are there before the policy is built under torchrun and SLURM alone. Where Lightning starts them later, the first
    process has done everything before. Of a source that is read window by window nothing is prepared: `collate` does the work.

    Args:
        modality: What has frozen work, or has none.
        data: The run's data.
        told: Called as `told("prepare", done, total)` in place of the progress bar.
    """
    if type(modality).prepare is Modality.prepare or isinstance(data.train.stream, WindowedStream):
        return
    rank, world = outer_ranks()
    whole = sum(dataset.distinct_count(steps) * (3 if dataset.mismatched else 2) for dataset, steps in data.datasets())
    expected = -(-whole // world)
    console = Console(file=sys.stderr, quiet=rank > 0 or told is not None or not sys.stderr.isatty())
    with make_bar(console) as bar:
        task = bar.add_task("preparing examples", total=expected, shown="")

        def advance(done: int) -> None:
            bar.update(task, completed=done, total=max(done, expected))  # a rank's share is not known to the last pair
            if told is not None and rank == 0:
                told("prepare", done, max(done, expected))

        modality.prepare(counted(share_of(data, rank, world), advance))
    if world > 1:
        wait(rank, world)


def counted(examples: Iterable[Example], advance: Callable[[int], None]) -> Iterator[Example]:
    """The examples; `advance` is told how many are done when the next one is asked for."""
    for done, example in enumerate(examples, start=1):
        yield example
        advance(done)


def share_of(data: PairDataModule, rank: int, world: int) -> Iterator[Example]:
    """This rank's examples of a run: whole pairs, and all draws of a pair on one rank."""
    for dataset, steps in data.datasets():
        for entry in dataset.distinct(steps):
            if world == 1 or seed_of("prepare", entry.pair.id) % world == rank:
                yield from examples_of(entry)


def examples_of(entry: Entry) -> Iterator[Example]:
    """The pair's examples, one after the other, and the mismatched one where there is any."""
    yield from (entry.chosen, entry.rejected)
    if entry.mismatched is not None:
        yield entry.mismatched
