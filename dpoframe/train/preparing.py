"""Has the modality do its frozen work before the policy is built, each rank its share."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from rich.console import Console
from torch.distributed.rendezvous import rendezvous

from dpoframe.data.batching import Entry
from dpoframe.data.module import PairDataModule
from dpoframe.data.windowed_stream import WindowedStream
from dpoframe.errors import MachineError
from dpoframe.modality import Modality
from dpoframe.rng import seed_of
from dpoframe.train.progress import Told, make_bar
from dpoframe.types import Example

_LONGEST_WAIT = timedelta(days=7)
_POLL = 0.1

# The first rank's holds the server that the others ask; Lightning's process group uses the same one later.
_store: list[Any] = []
_calls = itertools.count()


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


def outer_ranks() -> tuple[int, int]:
    """This process's number among those that torchrun or SLURM started, and their count; 0 and 1 where none did."""
    for kind in (TorchElasticEnvironment, SLURMEnvironment):
        if kind.detect():
            found = kind()
            os.environ.setdefault("MASTER_ADDR", found.main_address)
            os.environ.setdefault("MASTER_PORT", str(found.main_port))
            return found.global_rank(), found.world_size()
    return 0, 1


def wait(rank: int, world: int) -> None:
    """Returns when all ranks are here. No process group: Lightning makes its own later, with the backend of the device.

    It asks again and again, because a call that blocks would not let Ctrl-C through.

    Raises:
        MachineError: the first rank has ended, and so never comes here.
    """
    if not _store:
        _store.append(next(iter(rendezvous("env://", rank, world, timeout=_LONGEST_WAIT)))[0])
    store, name = _store[0], f"dpoframe/prepared/{next(_calls)}"
    try:
        if store.add(f"{name}/count", 1) == world:
            store.set(f"{name}/all", "1")
        while not store.check([f"{name}/all"]):
            time.sleep(_POLL)
    except RuntimeError as error:  # a closed connection
        raise MachineError(
            "Another rank has ended while examples were prepared, and this one ends with it. It said why."
        ) from error
