"""Fills a score store: the scores that a run will look up and that nobody has computed yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from dpoframe.data.batching import Entry, StepDataset, move, within_limit
from dpoframe.data.sampler import share
from dpoframe.errors import ConfigError
from dpoframe.modality import Modality
from dpoframe.train.cache import ScoreStore
from dpoframe.train.reference import evaluation_mode
from dpoframe.types import Example, Scores

Advance = Callable[[int, int], None]
# Enough work between two parts that writing them costs nothing, little enough that an interruption loses minutes at most.
PAIRS_A_PART = 2048


@dataclass
class Work:
    """What is missing: pairs, and mismatched examples by name."""

    pairs: list[tuple[StepDataset, Entry]] = field(default_factory=list)
    mismatched: dict[str, Example] = field(default_factory=dict)


def missing_work(datasets: Sequence[tuple[StepDataset, int]], store: ScoreStore) -> Work:
    """The pairs and mismatched examples of the run that are not in the store, each once, shortest first."""
    work, seen = Work(), set(store.rows)
    for dataset, steps in datasets:
        for entry in dataset.distinct(steps):
            keys = dataset.keys(entry)
            if not seen.issuperset(keys):
                work.pairs.append((dataset, entry))
                seen.update(keys)
            if entry.mismatched is not None and (key := dataset.mismatched_key(entry.mismatched)) not in seen:
                work.mismatched[key] = entry.mismatched
                seen.add(key)
    work.pairs.sort(key=lambda pair: pair[1].units)
    return work


@torch.no_grad()
def precompute(
    modality: Modality,
    model: nn.Module,
    datasets: Sequence[tuple[StepDataset, int]],
    store: ScoreStore,
    *,
    precision: Callable[[], AbstractContextManager[object]],
    convert: Callable[[Any], Any],
    rank: int = 0,
    world: int = 1,
    advance: Advance = lambda done, total: None,
) -> int:
    """Scores what is missing, this rank's share of it, and adds it to the store on disk.

    Args:
        modality: What scores.
        model: The reference model, on its device.
        datasets: The run's data sets with their steps.
        store: Read before; other ranks' parts are not in it until it is read again.
        precision: Makes the context of the run's precision.
        convert: Gives inputs that precision, as is done in training.
        rank: This rank.
        world: Count of ranks.
        advance: Told of pairs done and to do.

    Returns:
        Number of pairs that were missing, over all ranks.
    """
    work = missing_work(datasets, store)
    device = next(model.parameters()).device
    mine = work.pairs[rank::world]
    scored: dict[str, dict[str, float]] = {}
    with evaluation_mode(model), precision():
        done = 0
        for dataset, part in micro_parts(mine):
            batch = move(dataset.collate(part), device)
            scored |= columns(batch.keys, modality.score(model, convert(batch.inputs)))
            done += len(part)
            advance(done, len(mine))
            if len(scored) >= 2 * PAIRS_A_PART:
                store.append(scored)
                scored = {}
        wrong = sorted(work.mismatched.items())[share(len(work.mismatched), rank, world)]
        for start in range(0, len(wrong), 8):
            names, examples = zip(*wrong[start : start + 8], strict=True)
            scored |= columns(names, modality.score(model, convert(move(modality.collate(examples), device))))
    store.append(scored)
    return len(work.pairs)


def micro_parts(work: Sequence[tuple[StepDataset, Entry]]) -> Iterator[tuple[StepDataset, list[Entry]]]:
    """Groups of pairs that are scored at once: as large as a micro-batch of the run, at most a step's pairs."""
    for dataset in {id(dataset): dataset for dataset, _ in work}.values():
        own = [entry for other, entry in work if other is dataset]
        size = max(1, dataset.stream.batch_size // dataset.accumulate)
        for start in range(0, len(own), size):
            for part in within_limit(own[start : start + size], dataset.tokens_per_batch):
                yield dataset, part


def columns(keys: Sequence[str], scores: Scores) -> dict[str, dict[str, float]]:
    """Name of each example to its row; ConfigError where a detail is a vector an example."""
    if vectors := sorted(name for name, value in scores.detail.items() if value.ndim > 1):
        raise ConfigError(
            f"The loss reads {', '.join(vectors)}, a vector an example, of which nothing is kept, so that reference.kind cannot be "
            "'cached'. Take copy or adapter."
        )
    table = {"value": scores.value.double(), "length": scores.length, **scores.detail}
    lists = {name: column.cpu().tolist() for name, column in table.items()}
    return {key: {name: values[row] for name, values in lists.items()} for row, key in enumerate(keys)}
