"""Fills a score store: the scores that a run will look up and that nobody has computed yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from dpoframe.data.batching import Entry, StepDataset, move, within_limit
from dpoframe.errors import ConfigError
from dpoframe.modality import Batch, Modality
from dpoframe.train.cache import ScoreStore
from dpoframe.train.reference import evaluation_mode
from dpoframe.train.sharding.root import is_split, score
from dpoframe.types import Example, Scores

Advance = Callable[[int, int], None]
# Enough work between two parts that writing them costs nothing, little enough that an interruption loses minutes at most.
PAIRS_A_PART = 2048
MISMATCHED_AT_ONCE = 8


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


@dataclass(frozen=True)
class Portion:
    """Examples that are scored at once.

    Attributes:
        keys: Their names in the store.
        pairs: How many pairs they make; 0 for mismatched examples.
        collate: Makes their batch.
    """

    keys: Sequence[str]
    pairs: int
    collate: Callable[[], Batch]


def portions(work: Work, modality: Modality) -> list[Portion]:
    """The work in portions, which are the same however many processes share them, and so are the scores."""
    made = []
    for dataset, part in micro_parts(work.pairs):
        keys = [dataset.keys(entry) for entry in part]
        collate = partial(collated, dataset, part)
        made.append(Portion([*(key for key, _ in keys), *(key for _, key in keys)], len(part), collate))
    wrong = sorted(work.mismatched.items())
    for start in range(0, len(wrong), MISMATCHED_AT_ONCE):
        names, examples = zip(*wrong[start : start + MISMATCHED_AT_ONCE], strict=True)
        made.append(Portion(names, 0, partial(modality.collate, examples)))
    return made


def collated(dataset: StepDataset, part: Sequence[Entry]) -> Batch:
    """What the modality scores of some pairs."""
    return dataset.collate(part).inputs


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
    whole = portions(work, modality)
    mine = whole[rank::world]
    score_portions(modality, model, mine, store, precision=precision, convert=convert, advance=advance)
    if is_split(model) and len(mine) * world < len(whole):  # other ranks have one more, which this one's part is needed for
        inputs = convert(move(whole[0].collate(), next(model.parameters()).device))
        with torch.no_grad(), evaluation_mode(model), precision():
            score(modality, model, inputs)
    return len(work.pairs)


@torch.no_grad()
def score_portions(
    modality: Modality,
    model: nn.Module,
    mine: Sequence[Portion],
    store: ScoreStore,
    *,
    precision: Callable[[], AbstractContextManager[object]],
    convert: Callable[[Any], Any],
    advance: Advance = lambda done, total: None,
) -> None:
    """Scores some portions and adds them to the store on disk; the arguments are those of `precompute`."""
    device = next(model.parameters()).device
    scored: dict[str, dict[str, float]] = {}
    done, total = 0, sum(portion.pairs for portion in mine)
    with evaluation_mode(model):
        for portion in mine:
            inputs = convert(move(portion.collate(), device))  # before the precision is set, as in training
            with precision():
                scored |= columns(portion.keys, score(modality, model, inputs))
            done += portion.pairs
            advance(done, total)
            if len(scored) >= 2 * PAIRS_A_PART:
                store.append(scored)
                scored = {}
    store.append(scored)


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
