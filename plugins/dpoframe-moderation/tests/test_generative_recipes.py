"""The recipes for chat models: their data sets take the keys, and the losses need what the recipe gives."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import dpoframe_moderation
import pytest
import torch
import yaml
from torch.nn import functional

from dpoframe import PairScores, losses
from dpoframe.testing.files import RecipeContract


class TestModerateGenerative(RecipeContract):
    """A chat model that moderates."""

    path = dpoframe_moderation.dpoframe_recipes()["moderate-generative"]


class TestHarmless(RecipeContract):
    """A chat model that refuses what does harm, and nothing else."""

    path = dpoframe_moderation.dpoframe_recipes()["harmless"]


HERE = Path(dpoframe_moderation.__file__).parent / "recipes"


def recipe(name: str) -> Any:
    """A recipe as it stands in its file."""
    return yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["moderate-generative", "harmless"])
def test_data(name: str) -> None:
    """The data set is one of this package's, trains on its own part, and takes every key with a value of the right kind."""
    data = dict(recipe(name)["data"])
    module, _, function = dpoframe_moderation.dpoframe_datasets()[data.pop("name")].partition(":")
    dataset = getattr(importlib.import_module(module), function)
    inspect.signature(dataset).bind(**data)
    assert data["part"] == "train"


def test_answers_fit_their_length() -> None:
    """A text at the recipe's bound and the question leave room for the verdict: 3 characters a token at the least."""
    found = recipe("moderate-generative")
    question = len("Is this text safe or unsafe? It is unsafe if it contains . Answer with one word, safe or unsafe.") + 110
    assert found["modality"]["max_prompt_length"] * 3 > found["data"]["max_chars"] + question
    assert found["modality"]["max_length"] - found["modality"]["max_prompt_length"] >= 4


@pytest.mark.parametrize("lengths", [(1, 1), (2, 3), (4, 2)])
def test_threshold(lengths: tuple[int, int]) -> None:
    """Of texts that tell nothing, half of them safe, both verdicts end up equally likely, however many tokens each has."""
    log_odds = torch.zeros((), dtype=torch.float64, requires_grad=True)
    unsafe, safe = functional.logsigmoid(log_odds), functional.logsigmoid(-log_odds)
    chosen, rejected, nothing = torch.stack((unsafe, safe)), torch.stack((safe, unsafe)), torch.zeros(2, dtype=torch.float64)
    long = torch.tensor(lengths, dtype=torch.float64)
    loss = losses.create(**recipe("moderate-generative")["loss"])(
        PairScores(chosen, rejected, nothing, nothing, long, long.flip(0))
    )
    (slope,) = torch.autograd.grad(loss.mean(), log_odds)
    assert slope.item() == pytest.approx(0.0, abs=1e-12)
