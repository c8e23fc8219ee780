"""Image generators under DeepSpeed on two ranks have the losses of whole copies."""

from __future__ import annotations

import json
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

pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
# DeepSpeed's own use of torch, and of what it compiles with.
OWN = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning")]
pytestmark = [pytest.mark.slow, *OWN]

CASES: dict[str, tuple[dict[str, Any], str]] = {"full, copy": ({}, "copy"), "lora, adapter off": ({"lora": {"r": 4}}, "adapter")}
Train = Callable[..., Path]


@pytest.fixture
def train(sd: Path, pairs: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """`train("name", case, strategy)` trains four steps of five of ten pairs on two ranks and gives the run's folder."""
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")

    class Shapes:
        """The pairs of these tests."""

        @hookimpl
        def dpoframe_datasets(self) -> dict[str, Any]:
            """Discs against rings."""
            return {"shapes": lambda: pairs(10, 0)}

    host = PluginHost(entry_points=[])
    host.register(dpoframe_diffusion, "diffusion")
    host.register(Shapes(), "shapes")

    def go(name: str, case: str, strategy: str) -> Path:
        fields, reference = CASES[case]
        trainer = {"max_steps": 4, "batch_size": 5, "lr": 0.001, "accelerator": "cpu", "devices": 2, "strategy": strategy}
        recipe = {
            "modality": {"name": "diffusion", "model": str(sd), "framing": {"resolution": 16}, **fields},
            "data": {"name": "shapes", "validation": 0.2},
            "loss": {"name": "sigmoid", "beta": 1},
            "reference": reference,
            "trainer": {**trainer, "accumulate_grad_batches": 2},
        }
        loaded = load_recipe(recipe, host=host)
        in_ranks(lambda: fit(loaded, tmp_path / name, host=host))
        return tmp_path / name

    return go


def rows(run: Path) -> list[dict[str, Any]]:
    """Of each step and validation."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def exported(run: Path) -> dict[str, torch.Tensor]:
    """The tensors that training changed."""
    files = [*run.glob("model/*.safetensors"), *run.glob("model/unet/*.safetensors")]
    return {name: value for file in files for name, value in load_file(str(file)).items()}


@pytest.mark.parametrize("case", CASES)
def test_as_whole_copies(case: str, train: Train) -> None:
    """Losses of each stage are those of whole copies within 1e-6, norms within 1e-5; weights but for what Adam makes of that."""
    whole = train("whole", case, "ddp")
    for stage in ("deepspeed_stage_1", "deepspeed_stage_2", "deepspeed_stage_3"):
        zero = train(stage, case, stage)
        for mine, its in zip(rows(whole), rows(zero), strict=True):
            assert its["loss"] == pytest.approx(mine["loss"], rel=1e-6)
            assert its.get("grad_norm", 0) == pytest.approx(mine.get("grad_norm", 0), rel=1e-5)
        weights = exported(zero)
        assert weights.keys() == exported(whole).keys()
        for name, value in exported(whole).items():
            torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5)
