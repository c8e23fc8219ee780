"""Language models under DeepSpeed on two ranks: the losses of whole copies, and checkpoints that any strategy goes on from."""

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
from dpoframe.testing import in_ranks
from dpoframe.train.fit import fit

pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
# DeepSpeed's own use of torch, and of what it compiles with.
OWN = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning")]
pytestmark = [pytest.mark.slow, *OWN]

LORA = {"lora": {"r": 4}}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "full, copy": ({}, "copy"),
    "full, moving": ({}, "ema"),
    "full, cached": ({}, "cached"),
    "full, none": ({}, "none"),
    "lora, adapter off": (LORA, "adapter"),
    "lora, copy": (LORA, "copy"),
    "lora, moving": (LORA, "ema"),
    "lora, cached": (LORA, "cached"),
}
STAGES = ("deepspeed_stage_1", "deepspeed_stage_2", "deepspeed_stage_3")
Train = Callable[..., Path]


class Pairs:
    """The pairs of these tests."""

    @hookimpl
    def dpoframe_datasets(self) -> dict[str, Any]:
        """22 pairs of 11 prompts, of unequal length."""
        return {"few": lambda: [pair(number) for number in range(22)]}


def pair(number: int) -> PreferencePair:
    """Every prompt occurs twice."""
    return PreferencePair(f"the cat {number // 2}", "sat on " * (number % 4 + 1), "a dog " * (number % 3 + 1))


@pytest.fixture
def train(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """`train("name", case, strategy, ranks)` trains six steps of five pairs in float32 and gives the run's folder."""
    monkeypatch.setenv("DPOFRAME_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    host = PluginHost(entry_points=[])
    host.register(dpoframe_text, "text")
    host.register(Pairs(), "pairs")

    def go(name: str, case: str, strategy: str, ranks: int = 2, *, resume: bool = False, modality: Any = None, **more: Any) -> Path:
        fields, reference = CASES[case]
        trainer = {"max_steps": 6, "batch_size": 5, "lr": 0.001, "accelerator": "cpu", "devices": ranks, "strategy": strategy}
        trainer |= {"save_every": 1, "keep_checkpoints": 20, "weight_decay": 0.1, "tokens_per_batch": 40}
        recipe: dict[str, Any] = {
            "modality": {"name": "text", "model": str(tiny), "chat": "never", "max_length": 64, **fields, **(modality or {})},
            "data": {"name": "few", "validation": 0.2},
            "reference": reference,
            "loss": "simpo" if reference == "none" else "sigmoid",
            "trainer": trainer,
        }
        for key, value in more.items():
            recipe[key] = {**recipe[key], **value} if key == "trainer" else value
        loaded = load_recipe(recipe, host=host)
        folder = tmp_path / name
        in_ranks(lambda: fit(loaded, folder, resume=resume, host=host), ranks)
        return folder

    return go


def rows(run: Path) -> list[dict[str, Any]]:
    """What was logged, without the clock's figures."""
    return [{**json.loads(line), "tokens_per_second": 0} for line in (run / "metrics.jsonl").read_text().splitlines()]


def exported(run: Path) -> dict[str, torch.Tensor]:
    """The tensors of the aligned model."""
    return {name: value for file in sorted((run / "model").glob("*.safetensors")) for name, value in load_file(str(file)).items()}


def cut(run: Path, step: int) -> Path:
    """The run as it was after a step."""
    shutil.rmtree(run / "model")
    for file in (run / "checkpoints").glob("step-*"):
        if int(file.name.removeprefix("step-").split(".")[0]) > step:
            file.unlink()
    return run


def require_close(one: Path, other: Path) -> None:
    """Losses within 1e-6, relative, norms within 1e-5, and the exported tensors within what a step of Adam makes of that."""
    first, second = rows(one), rows(other)
    for mine, its in zip(first, second, strict=True):
        assert its["loss"] == pytest.approx(mine["loss"], rel=1e-6)
        assert its.get("grad_norm", 0) == pytest.approx(mine.get("grad_norm", 0), rel=1e-5)
    weights = exported(other)
    for name, value in exported(one).items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("case", CASES)
def test_as_whole_copies(case: str, stage: str, train: Train) -> None:
    """Losses, norms and weights are those of two whole copies, with micro-batches of which one rank has more than the other."""
    require_close(train("whole", case, "ddp"), train("zero", case, stage))


@pytest.mark.parametrize("stage", STAGES)
def test_parameters_larger_than_an_exchange(stage: str, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exchange holds a few small parameters, and most parameters alone are more than it."""
    from dpoframe.train.sharding import zero

    monkeypatch.setattr(zero, "BUCKET", 200)
    require_close(train("whole", "full, copy", "ddp"), train("zero", "full, copy", stage))


@pytest.mark.parametrize("stage", STAGES[:2])
def test_in_bf16_mixed(stage: str, train: Train) -> None:
    """Weights stay in float32: the losses are those of whole copies in the same precision."""
    bf16 = {"trainer": {"precision": "bf16-mixed"}}
    require_close(train("whole", "full, copy", "ddp", **bf16), train("zero", "full, copy", stage, **bf16))


def test_split_parameters_in_bf16_mixed(train: Train) -> None:
    """Its head is scored by another path, which rounds otherwise: bfloat16's own error, 2**-9, is not exceeded by much."""
    bf16 = {"trainer": {"precision": "bf16-mixed", "max_steps": 3}}
    whole, zero = rows(train("whole", "full, copy", "ddp", **bf16)), rows(train("zero", "full, copy", STAGES[2], **bf16))
    for mine, its in zip(whole, zero, strict=True):
        assert its["loss"] == pytest.approx(mine["loss"], rel=0.01)
        assert its.get("grad_norm", 0) == pytest.approx(mine.get("grad_norm", 0), rel=0.01)


@pytest.mark.parametrize("stage", STAGES)
def test_a_loss_that_couples_pairs(stage: str, train: Train) -> None:
    """It has a first pass without gradients, and reads mismatched pairs."""
    case = "lora, adapter off"
    require_close(train("whole", case, "ddp", loss="kto"), train("zero", case, stage, loss="kto"))


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("case", ["full, moving", "lora, adapter off"])
def test_it_goes_on_to_the_same_bits(case: str, stage: str, background: bool, train: Train) -> None:
    """With dropout and validation: rows and weights of a run that was broken off are those of one that was not."""
    modality = {"lora": {"r": 4, "dropout": 0.1}} if "lora" in case else {}
    more = {"modality": modality, "trainer": {"save_in_background": background}}
    run = train("run", case, stage, **more)
    told, weights = rows(run), exported(run)
    cut(run, 3)
    train("run", case, stage, resume=True, **more)
    assert rows(run) == told
    assert all(torch.equal(value, weights[name]) for name, value in exported(run).items())


OTHERS = {
    "one rank": (("deepspeed_stage_2", 2), ("auto", 1)),
    "whole copies": (("deepspeed_stage_3", 2), ("ddp", 2)),
    "from whole copies": (("ddp", 2), ("deepspeed_stage_3", 2)),
    "fsdp": (("deepspeed_stage_3", 2), ("fsdp", 2)),
    "from fsdp": (("fsdp", 2), ("deepspeed_stage_1", 2)),
    "another stage, three ranks": (("deepspeed_stage_1", 2), ("deepspeed_stage_3", 3)),
}


@pytest.mark.parametrize("case", ["full, moving", "lora, adapter off"])
@pytest.mark.parametrize("other", OTHERS)
def test_another_strategy_or_number_of_ranks_goes_on(other: str, case: str, train: Train) -> None:
    """A checkpoint is that of whole copies, whoever wrote it."""
    before, after = OTHERS[other]
    unbroken = train("unbroken", case, *before)
    broken = cut(Path(shutil.copytree(unbroken, unbroken.with_name("broken"))), 3)
    train("broken", case, *after, resume=True)
    require_close(unbroken, broken)


def test_a_head_that_shares_its_weights_with_the_embedding(train: Train, tiny: Path, tmp_path: Path) -> None:
    """They are trained, and written, as one."""
    config = json.loads((tiny / "config.json").read_text())
    tied = tmp_path / "tied"
    shutil.copytree(tiny, tied)
    (tied / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    modality = {"model": str(tied)}
    whole = train("whole", "full, copy", "ddp", modality=modality)
    for stage in STAGES:
        require_close(whole, train(stage, "full, copy", stage, modality=modality))


@pytest.mark.parametrize("stage", STAGES)
def test_weights_that_are_not_in_float32(stage: str, train: Train) -> None:
    """Both ranks refuse them with a word on what to take: DeepSpeed would keep float32 copies that no checkpoint holds."""
    with pytest.raises(AssertionError) as caught:
        train("run", "lora, adapter off", stage, modality={"dtype": "bfloat16"})
    assert str(caught.value).count("ConfigError: trainer.strategy deepspeed takes weights in float32, and ") == 2
