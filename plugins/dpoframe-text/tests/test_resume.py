"""Runs of language models that are broken off go on to the same bits, and two ranks have the losses of one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dpoframe_text
import pytest
import torch
from safetensors.torch import load_file

from dpoframe import PreferencePair, hookimpl
from dpoframe.config import load_recipe
from dpoframe.plugins import PluginHost
from dpoframe.train.fit import FitResult, fit

DROPOUT = "ignore:At the first step policy and reference should be equal:RuntimeWarning"
CASES = {
    "lora, adapter off": ({"lora": {"r": 4, "dropout": 0.1}}, "adapter"),
    "lora, cached": ({"lora": {"r": 4, "dropout": 0.1}}, "cached"),
    "full, copy": ({}, "copy"),
    "full, moving": ({}, "ema"),
}


class Pairs:
    """The pairs of these tests."""

    @hookimpl
    def dpoframe_datasets(self) -> dict[str, Any]:
        """22 pairs of 11 prompts, of unequal length: an epoch ends inside a step."""
        return {"few": lambda: [pair(number) for number in range(22)]}


def pair(number: int) -> PreferencePair:
    """Every prompt occurs twice."""
    return PreferencePair(f"the cat {number // 2}", "sat on " * (number % 4 + 1), "a dog " * (number % 3 + 1))


@pytest.fixture
def train(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FitResult]:
    """`train("name", case, ranks)` trains nine steps of four pairs; again under the same name with `resume=True`."""
    monkeypatch.setenv("DPOFRAME_CACHE", str(tmp_path / "cache"))
    host = PluginHost(entry_points=[])
    host.register(dpoframe_text, "text")
    host.register(Pairs(), "pairs")

    def go(name: str, case: str, ranks: int, resume: bool = False) -> FitResult:
        modality, reference = CASES[case]
        trainer = {"max_steps": 9, "batch_size": 4, "lr": 0.001, "accelerator": "cpu", "devices": ranks, "save_every": 1}
        trainer |= {"keep_checkpoints": 20, "accumulate_grad_batches": 2, "strategy": "ddp_fork" if ranks > 1 else "auto"}
        recipe = {
            "modality": {"name": "text", "model": str(tiny), "chat": "never", "max_length": 64, **modality},
            "data": {"name": "few", "validation": 0.1},
            "reference": reference,
            "trainer": trainer,
        }
        return fit(load_recipe(recipe, host=host), tmp_path / name, resume=resume, host=host)

    return go


def end(run: FitResult) -> dict[str, Any]:
    """Rows without the clock's figures, exported tensors, and the optimizer's."""
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    weights = {name: value for file in sorted(run.model.glob("*.safetensors")) for name, value in load_file(str(file)).items()}
    state = torch.load(run.folder / "checkpoints" / "step-00000009.ckpt", weights_only=True)["optimizer_states"][0]["state"]
    optimizer = {f"{number}.{name}": value for number, one in state.items() for name, value in one.items()}
    return {"rows": [{**row, "tokens_per_second": 0} for row in rows], "tensors": weights | optimizer}


@pytest.mark.filterwarnings(DROPOUT)
@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", CASES)
def test_it_goes_on_to_the_same_bits(case: str, ranks: int, train: Callable[..., FitResult]) -> None:
    """From the middle of an epoch, with dropout, accumulation and validation: rows, weights and optimizer are equal."""
    run = train("run", case, ranks)
    whole = end(run)
    shutil.rmtree(run.model)
    for file in (run.folder / "checkpoints").glob("step-*"):
        if int(file.stem.removeprefix("step-")) > 4:
            file.unlink()
    again = end(train("run", case, ranks, resume=True))
    assert again["rows"] == whole["rows"]
    assert again["tensors"].keys() == whole["tensors"].keys()
    assert all(torch.equal(value, whole["tensors"][name]) for name, value in again["tensors"].items())


@pytest.mark.parametrize("case", ["full, copy", "full, moving"])
def test_two_ranks_have_the_losses_of_one(case: str, train: Callable[..., FitResult]) -> None:
    """The loss and the gradient's norm of each step agree within rounding, reference and validation included."""
    alone, both = end(train("alone", case, 1))["rows"], end(train("both", case, 2))["rows"]
    for one, other in zip(alone, both, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-6)
        assert other.get("grad_norm", 0) == pytest.approx(one.get("grad_norm", 0), rel=1e-5)
