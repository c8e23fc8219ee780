"""Language models split over two ranks: the losses of whole copies, and checkpoints that any number of ranks goes on from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dpoframe_text
import pytest
import torch
from safetensors.torch import load_file

from dpoframe import MachineError, PreferencePair, hookimpl
from dpoframe.checkpoint import CheckpointFolder
from dpoframe.config import load_recipe
from dpoframe.plugins import PluginHost
from dpoframe.testing import in_ranks
from dpoframe.train.fit import fit

LORA = {"lora": {"r": 4}}
CASES: Mapping[str, tuple[dict[str, Any], str]] = {
    "full, copy": ({}, "copy"),
    "full, moving": ({}, "ema"),
    "full, cached": ({}, "cached"),
    "full, none": ({}, "none"),
    "lora, adapter off": (LORA, "adapter"),
    "lora, copy": (LORA, "copy"),
    "lora, moving": (LORA, "ema"),
    "lora, cached": (LORA, "cached"),
    "lora, none": (LORA, "none"),
}
CLOSE = 1e-8
FAST = ("full, copy", "lora, adapter off")
DROPOUT = "ignore:At the first step policy and reference should be equal:RuntimeWarning"
OTHERS = [(("fsdp", 2), ("auto", 1)), (("fsdp", 2), ("ddp", 2)), (("ddp", 2), ("fsdp", 2)), (("fsdp", 2), ("fsdp", 3))]
Train = Callable[..., Path]
slow = pytest.mark.slow


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
    """`train("name", case, strategy, ranks)` trains six steps of four pairs in float64 and gives the run's folder."""
    monkeypatch.setenv("DPOFRAME_CACHE", str(tmp_path / "cache"))
    host = PluginHost(entry_points=[])
    host.register(dpoframe_text, "text")
    host.register(Pairs(), "pairs")

    def go(name: str, case: str, strategy: str, ranks: int = 2, *, resume: bool = False, modality: Any = None, **more: Any) -> Path:
        fields, reference = CASES[case]
        trainer = {"max_steps": 6, "batch_size": 4, "lr": 0.001, "accelerator": "cpu", "devices": ranks, "strategy": strategy}
        trainer |= {"save_every": 1, "keep_checkpoints": 20, "precision": "64-true"}
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
        if ranks == 1:
            fit(loaded, folder, resume=resume, host=host)
        else:
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


def require_equal(one: Path, other: Path, tolerance: float) -> None:
    """Losses and norms of every step and the exported tensors agree, relative to their size."""
    for mine, its in zip(rows(one), rows(other), strict=True):
        assert its["loss"] == pytest.approx(mine["loss"], rel=tolerance)
        assert its.get("grad_norm", 0) == pytest.approx(mine.get("grad_norm", 0), rel=tolerance)
    first, second = exported(one), exported(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("case", [case if case in FAST else pytest.param(case, marks=slow) for case in CASES])
def test_split_as_whole(case: str, train: Train) -> None:
    """Losses, norms and weights of two whole copies, a split model and, within rounding, one process are the same, in float64."""
    whole = train("whole", case, "ddp")
    require_equal(whole, train("split", case, "fsdp"), CLOSE)
    require_equal(whole, train("alone", case, "auto", 1), 1e-6)  # other shapes round otherwise, and Adam makes much of it


@slow
def test_in_float32(train: Train) -> None:
    """The first steps' losses agree within 1e-6, relative."""
    single = {"trainer": {"precision": "32-true", "max_steps": 3}}
    whole, split = (rows(train(strategy, "full, copy", strategy, **single)) for strategy in ("ddp", "fsdp"))
    for mine, its in zip(whole, split, strict=True):
        assert its["loss"] == pytest.approx(mine["loss"], rel=1e-6)


@slow
@pytest.mark.parametrize("case", FAST)
def test_ranks_with_unequal_work(case: str, train: Train) -> None:
    """A loss that couples pairs and reads mismatched ones, and micro-batches of which one rank has more than the other."""
    more = {"loss": "kto", "trainer": {"tokens_per_batch": 40, "batch_size": 5}}
    require_equal(train("whole", case, "ddp", **more), train("split", case, "fsdp", **more), CLOSE)


@slow
def test_a_head_that_shares_its_weights_with_the_embedding(train: Train, tiny: Path, tmp_path: Path) -> None:
    """They are trained, and written, as one."""
    config = json.loads((tiny / "config.json").read_text())
    tied = tmp_path / "tied"
    shutil.copytree(tiny, tied)
    (tied / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    modality = {"model": str(tied)}
    require_equal(
        train("whole", "full, copy", "ddp", modality=modality), train("split", "full, copy", "fsdp", modality=modality), CLOSE
    )


@slow
@pytest.mark.filterwarnings(DROPOUT)
@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("case", ["full, moving", "lora, adapter off"])
def test_it_goes_on_to_the_same_bits(case: str, background: bool, train: Train) -> None:
    """With dropout, accumulation and validation: rows and weights of a run that was broken off are those of one that was not."""
    modality = {"lora": {"r": 4, "dropout": 0.1}} if "lora" in case else {}
    more = {"modality": modality, "trainer": {"accumulate_grad_batches": 2, "save_in_background": background}}
    run = train("run", case, "fsdp", **more)
    told, weights = rows(run), exported(run)
    cut(run, 3)
    train("run", case, "fsdp", resume=True, **more)
    assert rows(run) == told
    assert all(torch.equal(value, weights[name]) for name, value in exported(run).items())


@slow
@pytest.mark.parametrize("case", FAST)
@pytest.mark.parametrize(("before", "after"), OTHERS)
def test_another_number_of_ranks_goes_on(before: tuple[str, int], after: tuple[str, int], case: str, train: Train) -> None:
    """A split model's checkpoint serves one rank, whole copies and three ranks; that of whole copies serves a split model."""
    unbroken = train("unbroken", case, *before)
    broken = cut(Path(shutil.copytree(unbroken, unbroken.with_name("broken"))), 3)
    train("broken", case, *after, resume=True)
    require_equal(unbroken, broken, 1e-6)


@slow
@pytest.mark.parametrize("harm", ["gone", "manifest", "flipped"])
def test_a_part_that_is_broken(harm: str, train: Train) -> None:
    """The checkpoint before is the newest that counts; one that lacks a manifest is swept with all its files."""
    run = cut(train("run", "full, copy", "fsdp"), 4)
    part = run / "checkpoints" / "step-00000004.part-00001-of-00002.ckpt"
    if harm == "flipped":
        data = bytearray(part.read_bytes())
        data[len(data) // 2] ^= 1
        part.write_bytes(data)
    else:
        (part if harm == "gone" else part.with_suffix(".json")).unlink()
    found = CheckpointFolder(run / "checkpoints")
    if harm == "manifest":
        assert found.latest() == found.at(3)
    else:
        with pytest.warns(RuntimeWarning, match="of its part step-00000004.part-00001"):
            assert found.latest() == found.at(3)
    found.sweep()
    left = {file.name.split(".")[0] for file in found.path.iterdir()}
    assert ("step-00000004" in left) == (harm != "manifest")
    found.prune(1)
    assert {file.name.split(".")[0] for file in found.path.iterdir()} == {max(left)}


@slow
def test_a_rank_that_cannot_write(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """All ranks end with its message; none waits for it."""
    import os

    from dpoframe.checkpoint import DurableCheckpointIO

    whole = DurableCheckpointIO.save_checkpoint

    def fails(self: Any, checkpoint: Any, path: Path, storage_options: Any = None) -> None:
        if os.environ["RANK"] == "1" and "step-00000003" in str(path):
            raise MachineError("no room on rank 1")
        whole(self, checkpoint, path, storage_options)

    monkeypatch.setattr(DurableCheckpointIO, "save_checkpoint", fails)
    with pytest.raises(AssertionError) as caught:
        train("run", "full, copy", "fsdp")
    assert str(caught.value).count("MachineError: no room on rank 1") == 2
