"""Runs of image generators that are broken off go on to the same bits, and two ranks have the losses of one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dpoframe_diffusion
import pytest
import torch

from dpoframe import hookimpl
from dpoframe.config import load_recipe
from dpoframe.plugins import PluginHost
from dpoframe.train.fit import FitResult, fit

CASES = {"lora, adapter off": ({"lora": {"r": 4}}, "adapter"), "full, copy": ({}, "copy"), "full, moving": ({}, "ema")}


@pytest.fixture
def train(sd: Path, pairs: Callable[..., Any], tmp_path: Path) -> Callable[..., FitResult]:
    """`train("name", case, ranks)` trains seven steps of four of ten pairs; again under the same name with `resume=True`."""

    class Shapes:
        """The pairs of these tests."""

        @hookimpl
        def dpoframe_datasets(self) -> dict[str, Any]:
            """Discs against rings."""
            return {"shapes": lambda: pairs(10, 0)}

    host = PluginHost(entry_points=[])
    host.register(dpoframe_diffusion, "diffusion")
    host.register(Shapes(), "shapes")

    def go(name: str, case: str, ranks: int, resume: bool = False) -> FitResult:
        modality, reference = CASES[case]
        trainer = {"max_steps": 7, "batch_size": 4, "lr": 0.001, "accelerator": "cpu", "devices": ranks, "save_every": 1}
        trainer |= {"keep_checkpoints": 20, "accumulate_grad_batches": 2, "strategy": "ddp_fork" if ranks > 1 else "auto"}
        recipe = {
            "modality": {"name": "diffusion", "model": str(sd), "framing": {"resolution": 16}, **modality},
            "data": {"name": "shapes"},
            "loss": {"name": "sigmoid", "beta": 100},
            "reference": reference,
            "trainer": trainer,
        }
        return fit(load_recipe(recipe, host=host), tmp_path / name, resume=resume, host=host)

    return go


def end(run: FitResult) -> dict[str, Any]:
    """Rows without the clock's figures, and all tensors of the last checkpoint: weights, moving reference, optimizer."""
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    last = torch.load(run.folder / "checkpoints" / "step-00000007.ckpt", weights_only=True)
    state = last["optimizer_states"][0]["state"]
    optimizer = {f"{number}.{name}": value for number, one in state.items() for name, value in one.items()}
    return {"rows": [{**row, "tokens_per_second": 0} for row in rows], "tensors": last["state_dict"] | optimizer}


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", CASES)
def test_it_goes_on_to_the_same_bits(case: str, ranks: int, train: Callable[..., FitResult]) -> None:
    """From the middle of an epoch: the same noise and timesteps are drawn, so rows, weights and optimizer are equal."""
    run = train("run", case, ranks)
    whole = end(run)
    shutil.rmtree(run.model)
    for file in (run.folder / "checkpoints").glob("step-*"):
        if int(file.stem.removeprefix("step-")) > 3:
            file.unlink()
    again = end(train("run", case, ranks, resume=True))
    assert again["rows"] == whole["rows"]
    assert again["tensors"].keys() == whole["tensors"].keys()
    assert all(torch.equal(value, whole["tensors"][name]) for name, value in again["tensors"].items())


def test_two_ranks_have_the_losses_of_one(train: Callable[..., FitResult]) -> None:
    """Noise belongs to the pair, not to the rank: the loss of each step agrees within rounding."""
    alone, both = end(train("alone", "full, copy", 1))["rows"], end(train("both", "full, copy", 2))["rows"]
    for one, other in zip(alone, both, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
