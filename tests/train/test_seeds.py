"""A bank of seeds: with a stochastic modality a pair sees a few draws in turn, so that cached scores are used again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq
import pytest
import torch

from dpoframe import Example, generator, hookimpl
from dpoframe.data.batching import StepDataset
from dpoframe.data.sampler import PairStream
from dpoframe.testing import ToyModality, toy_pairs
from dpoframe.train.precomputing import precompute_reference


@dataclass(frozen=True)
class NoisyToy(ToyModality):
    """The toy whose prompts are blurred by noise from each example's seed."""

    stochastic: ClassVar[bool] = True

    def collate(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """As the toy's, with noise."""
        batch = super().collate(examples)
        # The type is named: in double precision torch's default type is another inside a step than outside.
        width, kind = batch["prompt"].shape[1], torch.float32
        noise = [torch.rand(width, generator=generator(example.seed), dtype=kind) for example in examples]
        return batch | {"prompt": batch["prompt"] + torch.stack(noise)}


class Noisy:
    """A plugin with it."""

    @hookimpl
    def dpoframe_modalities(self) -> Mapping[str, Any]:
        """The noisy toy."""
        return {"noisy": NoisyToy}


@pytest.fixture(autouse=True)
def noisy(host: Any) -> None:
    """The plugin, installed."""
    host.register(Noisy(), "noisy")


PARTS = {"modality": {"name": "noisy"}, "plugins": ["toy", "parts", "noisy"]}
EPOCHS = ("data.count=12", "trainer.batch_size=4", "trainer.max_steps=12")  # four epochs


def stored(folder: Path) -> int:
    """Scores under a cache folder."""
    return sum(pq.read_metadata(file).num_rows for file in folder.rglob("*.parquet"))


def seeds(bank: int | None, epochs: int) -> list[Counter[int]]:
    """How often each pair sees each seed."""
    pairs = toy_pairs(6)
    data = StepDataset(PairStream(pairs, 3, seed=5), NoisyToy(), bank=bank)
    entries = list(data.entries(range(2 * epochs)))
    assert all(entry.chosen.seed == entry.rejected.seed for entry in entries)
    return [Counter(entry.chosen.seed for entry in entries if entry.pair.id == pair.id) for pair in pairs]


def test_draws_come_in_turn() -> None:
    """Over 6 epochs a pair sees each of 3 seeds twice; without a bank 6 seeds; pairs share none."""
    banked, fresh = seeds(3, 6), seeds(None, 6)
    assert [sorted(found.values()) for found in banked] == [[2, 2, 2]] * 6
    assert [sorted(found.values()) for found in fresh] == [[1] * 6] * 6
    assert len({seed for found in banked for seed in found}) == 18


def test_a_bank_as_large_as_the_run_changes_nothing(run: Any, look: Any) -> None:
    """The first draws of a bank are those without one."""
    free = run("free", *EPOCHS, **PARTS)
    banked = run("banked", *EPOCHS, "trainer.seeds_per_pair=4", **PARTS)
    assert look.rows(free) == look.rows(banked)


@pytest.mark.parametrize("loss", ["sigmoid", "kto"])
def test_cached_draws_train_as_live_ones(loss: str, run: Any, look: Any) -> None:
    """With a bank, stored reference scores give the trajectory of a live reference, validation included."""
    given = (*EPOCHS, "trainer.seeds_per_pair=2", "data.validation=4")
    live = run("live", *given, loss={"name": loss}, reference={"kind": "copy"}, **PARTS)
    cached = run("cached", *given, loss={"name": loss}, reference={"kind": "cached"}, **PARTS)
    for stage in (None, "validation"):
        for one, two in zip(look.rows(live, stage), look.rows(cached, stage), strict=True):
            assert one == pytest.approx(two, rel=1e-9, abs=1e-11)


def test_the_reference_is_asked_once_a_draw(run: Any, own_cache: Path) -> None:
    """2 draws of 12 pairs are 48 scores, after four epochs as after eight: epochs beyond the bank cost no evaluation."""
    run("four", *EPOCHS, "trainer.seeds_per_pair=2", reference={"kind": "cached"}, **PARTS)
    assert stored(own_cache) == 2 * 2 * 12
    parts = len(list(own_cache.rglob("*.parquet")))
    run("eight", *EPOCHS, "trainer.max_steps=24", "trainer.seeds_per_pair=2", reference={"kind": "cached"}, **PARTS)
    assert stored(own_cache) == 2 * 2 * 12
    assert len(list(own_cache.rglob("*.parquet"))) == parts


def test_precomputing_counts_the_draws(make_recipe: Any, host: Any) -> None:
    """`data reference` scores each draw of a pair that the run will see, and none twice."""
    recipe = make_recipe(*EPOCHS, "trainer.seeds_per_pair=3", **PARTS)
    assert precompute_reference(recipe, host).computed == 3 * 12
    longer = make_recipe(*EPOCHS, "trainer.max_steps=30", "trainer.seeds_per_pair=3", **PARTS)
    assert precompute_reference(longer, host).computed == 0


@pytest.mark.parametrize("bank", ["null", "4"])
def test_a_cache_that_saves_nothing_is_told(bank: str, run: Any) -> None:
    """Without a bank, or with one as large as the run, each cached score is used once; a warning says so."""
    with pytest.warns(RuntimeWarning, match="moved, not saved.*seeds_per_pair"):
        run("run", *EPOCHS, f"trainer.seeds_per_pair={bank}", reference={"kind": "cached"}, **PARTS)
