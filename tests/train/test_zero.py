"""Runs under DeepSpeed: what it would do otherwise is refused, and faults end and resume as under every other strategy."""

from __future__ import annotations

import math
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dpoframe import ConfigError, Example, hookimpl
from dpoframe.checkpoint import CheckpointFolder, DurableCheckpointIO
from dpoframe.config import EvaluateSection, KeepBest, Recipe
from dpoframe.errors import MachineError, MissingExtraError
from dpoframe.plugins import PluginHost
from dpoframe.testing import in_ranks, toy
from dpoframe.train import lightning_trainer
from dpoframe.train.evaluating import Evaluating
from dpoframe.train.fit import fit
from dpoframe.train.sharding.root import score

STAGES = ("deepspeed_stage_1", "deepspeed_stage_2", "deepspeed_stage_3")
TWO = ("trainer.devices=2", "trainer.precision=32-true", "trainer.save_every=1", "trainer.keep_checkpoints=20")
REFUSED = {
    "trainer.strategy=deepspeed_stage_3_offload": r"'deepspeed_stage_3_offload'; of DeepSpeed's there are .* Offloading is not",
    "trainer.precision=64-true": r"'64-true'; with trainer.strategy deepspeed it is 32-true or bf16-mixed\. Take",
    "trainer.precision=16": "'16-mixed'; with trainer.strategy deepspeed it is 32-true or bf16-mixed",
    "trainer.precision=bf16-true": "'bf16-true'; with trainer.strategy deepspeed it is 32-true or bf16-mixed",
    "trainer.optimizer=adafactor": "'adafactor'; DeepSpeed flattens parameters, so that it takes adamw, adam, sgd",
}
Make = Callable[..., Recipe]
Train = Callable[..., Path]
slow = pytest.mark.slow
# DeepSpeed's own use of torch, and of what it compiles with.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning")]


class Ending:
    """Sends SIGTERM to the second rank, in its third step."""

    @hookimpl
    def dpoframe_pair_metrics(self, stage: str, step: int) -> None:
        """Sends it."""
        if stage == "train" and step == 2 and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def train(make_recipe: Make, host: PluginHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """`train("name", strategy, *changes)` trains on two ranks in float32 and gives the run's folder."""
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")

    def go(name: str, strategy: str, *changes: str, plugin: Any = None, resume: bool = False, **keys: Any) -> Path:
        if plugin is not None:
            host.register(plugin, "ending")
        more = {} if plugin is None else {"plugins": ["toy", "parts", "ending"]}
        recipe = make_recipe(*TWO, f"trainer.strategy={strategy}", *changes, **more)
        folder = tmp_path / name
        if "evaluating" in keys:
            keys["evaluating"].folder = CheckpointFolder(folder / "checkpoints" / "best")
        in_ranks(lambda: fit(recipe, folder, resume=resume, host=host, **keys))
        return folder

    return go


@pytest.mark.parametrize("change", REFUSED)
def test_what_is_refused(change: str, make_recipe: Make, host: PluginHost, tmp_path: Path) -> None:
    """Whatever DeepSpeed would do otherwise than the other strategies, before a model is built."""
    recipe = make_recipe("trainer.strategy=deepspeed", "trainer.precision=32-true", change)

    def build() -> Any:
        raise AssertionError("nothing is built")

    with pytest.raises(ConfigError, match=REFUSED[change]):
        fit(recipe, tmp_path / "run", host=host, build=build)
    assert not (tmp_path / "run").exists()


def test_without_deepspeed(make_recipe: Make, host: PluginHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the command that installs it."""
    monkeypatch.setattr(lightning_trainer, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"deepspeed_stage_2 needs .* pip install 'dpoframe\[deepspeed\]'"):
        fit(make_recipe("trainer.strategy=deepspeed_stage_2", "trainer.precision=32-true"), tmp_path / "run", host=host)


@slow
@pytest.mark.filterwarnings("ignore:Step.*is skipped:RuntimeWarning")
@pytest.mark.parametrize("stage", STAGES)
def test_a_step_that_is_not_finite_is_skipped(stage: str, train: Train, look: Any) -> None:
    """It changes no weight, and the steps after it are those of whole copies; the moving reference follows in the same way."""
    changes = (
        "data.broken=7",
        "trainer.on_nonfinite=skip",
        "trainer.max_steps=6",
        "reference.kind=ema",
        "trainer.weight_decay=0.1",
    )
    whole, zero = train("whole", "ddp", *changes), train("zero", stage, *changes)
    told = look.rows(whole)
    assert 0 < sum(bool(row.get("skipped")) for row in told) < 6
    for mine, its in zip(told, look.rows(zero), strict=True):
        assert mine.get("skipped") == its.get("skipped")
        if not mine.get("skipped"):
            assert its["loss"] == pytest.approx(mine["loss"], rel=1e-6)
            assert its["grad_norm"] == pytest.approx(mine["grad_norm"], rel=1e-5)
    for name, value in look.weights(whole).items():
        torch.testing.assert_close(look.weights(zero)[name], value, rtol=1e-5, atol=1e-6)


@slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_step_that_is_not_finite_ends_the_run(stage: str, train: Train, tmp_path: Path) -> None:
    """On all ranks, before the update, naming the pair; no checkpoint has a weight that is no number."""
    with pytest.raises(AssertionError) as caught:
        train("run", stage, "data.broken=7", "trainer.max_steps=6")
    assert str(caught.value).count("The weights were not updated") == 2
    for file in (tmp_path / "run" / "checkpoints").glob("*.ckpt"):
        state = torch.load(file, weights_only=True)["state_dict"]
        assert all(math.isfinite(value.abs().sum()) for value in state.values())


@slow
@pytest.mark.parametrize("stage", STAGES)
def test_other_settings_on_resuming(stage: str, train: Train, look: Any) -> None:
    """A rate and a weight decay that were allowed to change hold from there on, and vectors are spared as before."""
    found = {}
    for name, strategy in (("whole", "ddp"), ("zero", stage)):
        run = train(name, strategy, "trainer.weight_decay=0.1", "trainer.max_steps=6")
        shutil.rmtree(run / "model")
        for file in (run / "checkpoints").glob("step-0000000[456].*"):
            file.unlink()
        train(
            name,
            strategy,
            "trainer.lr=0.05",
            "trainer.weight_decay=0.9",
            "trainer.max_steps=6",
            resume=True,
            allow_changes=("trainer",),
        )
        found[name] = look.weights(run)
        assert "trainer.weight_decay" in (run / "changes.jsonl").read_text()
    for parameter, value in found["whole"].items():
        torch.testing.assert_close(found["zero"][parameter], value, rtol=1e-5, atol=1e-6)


@slow
def test_sigterm_to_one_rank(train: Train, look: Any) -> None:
    """Both ranks save the same step and end, and the run goes on to the end of one that was not stopped."""
    stage = "deepspeed_stage_3"
    whole = train("whole", stage, "trainer.max_steps=6")
    run = train("run", stage, "trainer.max_steps=6", plugin=Ending())
    assert len(look.rows(run)) == 3
    (run / "recipe.yaml").write_text((whole / "recipe.yaml").read_text())
    train("run", stage, "trainer.max_steps=6", resume=True)
    assert look.rows(run) == look.rows(whole)
    assert all(torch.equal(value, look.weights(whole)[name]) for name, value in look.weights(run).items())


@slow
def test_a_first_rank_that_cannot_write(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ranks end with its message; the second does not wait for it."""
    whole = DurableCheckpointIO.save_checkpoint

    def fails(self: Any, checkpoint: Any, path: Path, storage_options: Any = None) -> None:
        if "step-00000002" in str(path):
            raise MachineError("no room on the disk")
        whole(self, checkpoint, path, storage_options)

    monkeypatch.setattr(DurableCheckpointIO, "save_checkpoint", fails)
    with pytest.raises(AssertionError) as caught:
        train("run", "deepspeed_stage_2")
    assert str(caught.value).count("MachineError: no room on the disk") == 2


def evaluations() -> Evaluating:
    """Every two steps the policy answers a prompt and scores it, on the first rank; the fourth step is the best."""

    def measure(policy: Any, step: int) -> dict[str, float]:
        modality = toy.ToyModality()
        with torch.no_grad():
            found = score(modality, policy, modality.collate([Example("a b", "c", 0, "one")]))
        return {"small/good": {2: 0.1, 4: 0.9, 6: 0.2}[step], "small/score": float(found.value)}

    section = EvaluateSection((), every=2, keep_best=KeepBest("small/good"))
    return Evaluating(section, measure, True, CheckpointFolder(Path()))


@slow
@pytest.mark.parametrize("stage", STAGES[:2])
def test_evaluations_on_the_way(stage: str, train: Train, look: Any) -> None:
    """The first rank scores alone between two steps; nothing else changes, and the run ends with the best weights."""
    six = "trainer.max_steps=6"
    whole, zero = (train(name, name, six, evaluating=evaluations()) for name in ("ddp", stage))
    for mine, its in zip(look.rows(whole, "evaluation"), look.rows(zero, "evaluation"), strict=True):
        assert its["small/score"] == pytest.approx(mine["small/score"], rel=1e-5)
    assert [row["loss"] for row in look.rows(zero)] == pytest.approx([row["loss"] for row in look.rows(whole)], rel=1e-6)
    for name, value in look.weights(whole).items():
        torch.testing.assert_close(look.weights(zero)[name], value, rtol=1e-5, atol=1e-6)


@slow
def test_evaluations_of_split_parameters(train: Train) -> None:
    """They are refused on both ranks, with a word on what to take."""
    with pytest.raises(AssertionError) as caught:
        train("run", "deepspeed_stage_3", evaluating=evaluations())
    assert str(caught.value).count("TrainingError: evaluate.every needs the whole model on the first rank") == 2
