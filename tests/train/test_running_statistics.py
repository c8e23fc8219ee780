"""Models that keep running statistics (batch norm), on several ranks: a run that was broken off ends as one that was not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dpoframe import hookimpl
from dpoframe.config import Recipe
from dpoframe.plugins import PluginHost
from dpoframe.testing import in_ranks, toy
from dpoframe.train.fit import fit


class Normed(toy.ToyNetwork):
    """The toy's network with a batch norm over characters in front of its head."""

    def __init__(self) -> None:
        super().__init__(8, 0.0, False)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, before: Tensor, prompt: Tensor) -> Tensor:
        """Logits."""
        hidden = torch.tanh(self.embedding(before) + (prompt @ self.embedding.weight)[:, None])
        logits: Tensor = self.head(self.norm(hidden.flatten(0, 1)).view_as(hidden))
        return logits


@dataclass(frozen=True)
class NormedModality(toy.ToyModality):
    """The toy modality with that network."""

    def build(self) -> nn.Module:
        """A fresh one."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.init_seed)
            return Normed()


class Parts:
    """Supplies it."""

    @hookimpl
    def dpoframe_modalities(self) -> Mapping[str, Any]:
        """By the name `normed`."""
        return {"normed": NormedModality}


@pytest.mark.filterwarnings("ignore:At the first step policy and reference should be equal:RuntimeWarning")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_broken_run_ends_as_an_unbroken_one(
    strategy: str, make_recipe: Callable[..., Recipe], host: PluginHost, tmp_path: Path, look: Any
) -> None:
    """Each rank sees other pairs, and a checkpoint holds the statistics of the first: validations go by these alone."""
    host.register(Parts(), "normed")
    settings = (f"trainer.strategy={strategy}", "trainer.devices=2", "trainer.batch_size=4", "data.validation=4")
    saving = ("trainer.save_every=1", "trainer.keep_checkpoints=9", "trainer.max_steps=4", "trainer.validate_every=1")
    recipe = make_recipe(*settings, *saving, modality={"name": "normed"}, plugins=["toy", "parts", "normed"])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    in_ranks(lambda: fit(recipe, whole, host=host))
    shutil.copytree(whole, broken)
    shutil.rmtree(broken / "model")
    for file in (broken / "checkpoints").glob("step-0000000[34]*"):
        file.unlink()
    in_ranks(lambda: fit(recipe, broken, resume=True, host=host))
    assert look.rows(broken, "validation") == look.rows(whole, "validation")
    assert look.rows(broken) == look.rows(whole)
