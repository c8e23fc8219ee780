"""Image generators split over two ranks have the losses of whole ones, and their checkpoints serve another number of ranks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dpoframe_diffusion
import pytest
import torch
from safetensors.torch import load_file

from dpoframe import hookimpl
from dpoframe.config import load_recipe
from dpoframe.plugins import PluginHost
from dpoframe.testing import in_ranks
from dpoframe.train.fit import fit

LORA = {"lora": {"r": 4}}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "full, copy": ({}, "copy"),
    "full, moving": ({}, "ema"),
    "full, cached": ({}, "cached"),
    "full, none": ({}, "none"),
    "lora, adapter off": (LORA, "adapter"),
    "lora, copy": (LORA, "copy"),
    "lora, cached": (LORA, "cached"),
    "lora, none": (LORA, "none"),
    "lora, pictures of unequal sides": ({**LORA, "framing": {"resolution": 16, "buckets": True, "multiple": 8}}, "adapter"),
}
FAST = ("lora, adapter off",)
slow = pytest.mark.slow
Train = Callable[..., Path]


@pytest.fixture
def train(sd: Path, pairs: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """`train("name", case, strategy, ranks)` trains five steps of four of ten pairs and gives the run's folder."""
    monkeypatch.setenv("DPOFRAME_CACHE", str(tmp_path / "cache"))

    class Shapes:
        """The pairs of these tests."""

        @hookimpl
        def dpoframe_datasets(self) -> dict[str, Any]:
            """Discs against rings."""
            return {"shapes": lambda: pairs(10, 0)}

    host = PluginHost(entry_points=[])
    host.register(dpoframe_diffusion, "diffusion")
    host.register(Shapes(), "shapes")

    def go(name: str, case: str, strategy: str, ranks: int = 2, resume: bool = False) -> Path:
        fields, reference = CASES[case]
        trainer = {"max_steps": 5, "batch_size": 4, "lr": 0.001, "accelerator": "cpu", "devices": ranks, "strategy": strategy}
        trainer |= {"save_every": 1, "keep_checkpoints": 20, "accumulate_grad_batches": 2, "precision": "64-true"}
        recipe = {
            "modality": {"name": "diffusion", "model": str(sd), "framing": {"resolution": 16}, **fields},
            "data": {"name": "shapes", "validation": 0.2},
            "loss": {"name": "simpo", "beta": 100} if reference == "none" else {"name": "sigmoid", "beta": 100},
            "reference": reference,
            "trainer": trainer,
        }
        loaded = load_recipe(recipe, host=host)
        if ranks == 1:
            fit(loaded, tmp_path / name, resume=resume, host=host)
        else:
            in_ranks(lambda: fit(loaded, tmp_path / name, resume=resume, host=host), ranks)
        return tmp_path / name

    return go


def losses(run: Path) -> list[float]:
    """Of each step and validation."""
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def exported(run: Path) -> dict[str, torch.Tensor]:
    """The tensors that training changed."""
    files = [*run.glob("model/*.safetensors"), *run.glob("model/unet/*.safetensors")]
    return {name: value for file in files for name, value in load_file(str(file)).items()}


@pytest.mark.filterwarnings("ignore:reference.kind is 'cached'")
@pytest.mark.parametrize("case", [case if case in FAST else pytest.param(case, marks=slow) for case in CASES])
def test_split_as_whole(case: str, train: Train) -> None:
    """In float64 the loss of each step is the same, that of one process too, and what is written, in float32, as well."""
    whole, split = train("whole", case, "ddp"), train("split", case, "fsdp")
    assert losses(split) == pytest.approx(losses(whole), rel=1e-9)
    assert losses(train("alone", case, "auto", 1)) == pytest.approx(losses(whole), rel=1e-8)
    one, other = exported(whole), exported(split)
    assert one.keys() == other.keys()
    assert one
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5)


@slow
@pytest.mark.parametrize("ranks", [2, 1])
@pytest.mark.parametrize("case", ["full, moving", "lora, adapter off"])
def test_it_goes_on(case: str, ranks: int, train: Train) -> None:
    """On as many ranks to the same bits, on one rank within rounding."""
    run = train("run", case, "fsdp")
    told, weights = losses(run), exported(run)
    shutil.rmtree(run / "model")
    for file in (run / "checkpoints").glob("step-*"):
        if int(file.name.removeprefix("step-").split(".")[0]) > 2:
            file.unlink()
    train("run", case, "fsdp" if ranks > 1 else "auto", ranks, resume=True)
    if ranks == 1:
        assert losses(run) == pytest.approx(told, rel=1e-5)
    else:
        assert losses(run) == told
        assert all(torch.equal(value, weights[name]) for name, value in exported(run).items())
