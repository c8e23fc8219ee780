"""What a run writes, says and refuses."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import MixedPrecision

from dpoframe import ConfigError, MachineError, PairScores, Scores, TrainingError, hookimpl
from dpoframe.checkpoint import open_model
from dpoframe.config import load_recipe
from dpoframe.plugins import using
from dpoframe.testing import toy
from dpoframe.train import fit as fitting

KEYS = {
    "step", "epoch", "loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen",
    "logps/rejected", "lr", "grad_norm", "tokens",
}  # fmt: skip


def test_the_run_folder_is_the_one_of_the_contract(run: Any, look: Any, host: Any) -> None:
    """Files, keys of each row, a recipe that gives the same recipe, an environment, a model that opens."""
    result = run("run", "data.validation=0.25", "trainer.validate_every=2", "trainer.max_steps=4")
    folder = result.folder
    wanted = ["checkpoints", "data", "environment.json", "metrics.jsonl", "model", "recipe.yaml"]
    assert sorted(item.name for item in folder.iterdir()) == wanted
    assert sorted(item.name for item in (folder / "data").iterdir()) == ["quarantine.jsonl", "summary.json"]
    raw = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(set(row) == KEYS | {"tokens_per_second"} for row in raw if "stage" not in row)
    assert [row["step"] for row in look.rows(result)] == [0, 1, 2, 3]
    assert [row["step"] for row in look.rows(result, "validation")] == [2, 4]
    assert all(set(row) == (KEYS - {"lr", "grad_norm"}) | {"stage"} for row in raw if "stage" in row)
    assert load_recipe(folder / "recipe.yaml", host=host).to_dict() == yaml.safe_load((folder / "recipe.yaml").read_text())
    environment = json.loads((folder / "environment.json").read_text())
    assert {"versions", "plugins", "git", "seed", "hardware"} <= set(environment)
    assert result.final["validation/loss"] == look.rows(result, "validation")[-1]["loss"]
    with using(host):
        modality, model = open_model(folder)
    assert modality.width == 8
    assert all(torch.equal(value, look.weights(result)[name].float()) for name, value in model.state_dict().items())


def test_the_first_step_has_no_margin_and_loss_ln_2(run: Any, look: Any) -> None:
    """With unit weights the loss at step 0 is ln 2 and every reward 0."""
    row = look.rows(run("run", data={"name": "toy", "count": 16}))[0]
    assert row["loss"] == pytest.approx(math.log(2), abs=1e-12)
    assert row["rewards/margins"] == row["rewards/chosen"] == 0
    assert row["rewards/accuracies"] == 0.5


def test_dropout_is_named_as_the_cause_of_a_margin(run: Any) -> None:
    """A policy with dropout is not its reference: the warning says which module."""
    with pytest.warns(RuntimeWarning, match=r"dropout is active in the policy \(dropout, p = 0.5\)"):
        run("run", "modality.dropout=0.5")


def test_a_fall_of_the_chosen_log_probabilities_is_told_once(run: Any) -> None:
    """Training hard on reversed pairs makes both responses less likely: one warning."""
    changes = ("trainer.max_steps=45", "trainer.lr=0.05", "trainer.schedule=constant", "loss.beta=0.02", "data.count=64")
    with pytest.warns(RuntimeWarning, match="keep getting less likely") as caught:
        run("run", *changes, loss={"name": "apo_down"})
    assert len([one for one in caught if "keep getting less likely" in str(one.message)]) == 1


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_pair(run: Any, tmp_path: Path) -> None:
    """The error names the flawed pair alone; no model is written and the weights of the checkpoint are finite."""
    with pytest.raises(TrainingError, match=r"Pairs: toy-7\. The weights were not updated"):
        run("run", "data.broken=7", "trainer.save_every=1", "trainer.max_steps=4")
    assert not (tmp_path / "run" / "model").exists()
    for file in (tmp_path / "run" / "checkpoints").glob("*.ckpt"):
        saved = torch.load(file, weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for value in saved.values())


def test_such_a_step_can_be_skipped(run: Any, look: Any) -> None:
    """The step counts but changes nothing; its row has null for the loss; the model stays finite."""
    with pytest.warns(RuntimeWarning, match="toy-7.*skipped"):
        result = run("run", "data.broken=7", "trainer.on_nonfinite=skip", "data.count=8", "trainer.max_steps=2")
    assert [row["loss"] for row in look.rows(result)] == [None, None]
    assert all(row["skipped"] for row in look.rows(result))
    assert all(value.isfinite().all() for value in look.weights(result).values())


@dataclass(frozen=True)
class Overflowing(toy.ToyModality):
    """Scores are finite; the gradient of a response with a `q` is not."""

    def score(self, model: torch.nn.Module, batch: Any) -> Scores:
        """As the toy's, plus the root of 0 where there is a `q`."""
        found = super().score(model, batch)
        flawed = (batch["target"] == toy.ALPHABET.index("q")).any(1)
        return replace(found, value=found.value.index_add(0, flawed.nonzero()[:, 0], (found.value[flawed] * 0).sqrt()))


class Overflows:
    """A plugin with the modality above."""

    @hookimpl
    def dpoframe_modalities(self) -> Any:
        """The modality above."""
        return {"overflowing": Overflowing}


class Flaws:
    """A plugin with a loss term that is no number in the second step."""

    @hookimpl
    def dpoframe_loss_terms(self, scores: PairScores, stage: str, step: int) -> Any:
        """A number, or none."""
        return {"own": scores.policy_chosen.sum() * (math.nan if step == 1 else 0.0)}


def test_faults_are_named_by_their_rows(host: Any, run: Any, tmp_path: Path) -> None:
    """The rows of a file are named: that of a flawed score alone; of a gradient or a plugin's term, those of the step."""
    rows = [{"prompt": f"say {letter}", "chosen": f"{letter} aei", "rejected": f"{letter} xyz"} for letter in "abcqdefg"]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data, size = {"name": "jsonl", "path": str(file)}, ("trainer.batch_size=4", "trainer.max_steps=2")
    host.register(Overflows(), "overflows")
    host.register(Flaws(), "flaws")
    with pytest.raises(TrainingError, match=r"gradient is not \(.*\)\. One of: .*rows\.jsonl, row 4\)"):
        run("gradient", *size, data=data, modality={"name": "overflowing"})
    with pytest.raises(TrainingError, match=r"Step 1: the loss term flaws\.own is not finite\. Pairs of the step: \w+ \(.*row \d"):
        run("term", *size, data=data, plugins=["toy", "parts", "flaws"])
    file.write_text(file.read_text().replace("say c", "say c broken"))
    with pytest.raises(TrainingError, match=r"loss is not finite\. Pairs: \w+ \([^,]*rows\.jsonl, row 3\)\. The weights"):
        run("score", *size, data=data)


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs train in float16 with a loss scaler, which Lightning offers on a GPU alone."""
    real = fitting.make_trainer

    def make(*arguments: Any) -> Any:
        trainer = real(*arguments)
        trainer.strategy._precision_plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**12))
        return trainer

    monkeypatch.setattr(fitting, "make_trainer", make)


@pytest.mark.parametrize("limit", ["0.01", "null"])
def test_a_loss_scaler_changes_neither_norm_nor_clipping(limit: str, run: Any, look: Any, request: Any) -> None:
    """float16 with a scaler takes the steps of float32 up to rounding: the scale is in no norm and clips nothing twice."""
    changes = ("trainer.precision=32-true", "trainer.optimizer=sgd", "trainer.lr=5", f"trainer.gradient_clip_val={limit}")
    exact = run("exact", *changes)
    request.getfixturevalue("half")
    scaled = run("scaled", *changes)
    for one, other in zip(look.rows(exact), look.rows(scaled), strict=True):
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=0.02)
        assert one["loss"] == pytest.approx(other["loss"], rel=0.02)
    for name, value in look.weights(exact).items():
        torch.testing.assert_close(value, look.weights(scaled)[name], rtol=0.02, atol=2e-3)


@pytest.mark.usefixtures("half")
def test_a_step_can_be_skipped_under_a_loss_scaler(run: Any, look: Any) -> None:
    """Such a step changes nothing there either."""
    changes = ("trainer.precision=32-true", "trainer.on_nonfinite=skip", "data.count=8", "trainer.max_steps=2")
    with pytest.warns(RuntimeWarning, match="toy-7.*skipped"):
        result = run("run", "data.broken=7", *changes)
    assert [row["loss"] for row in look.rows(result)] == [None, None]
    assert all(value.isfinite().all() for value in look.weights(result).values())


def test_lengths_that_disagree_are_told(run: Any) -> None:
    """A loss that divides by lengths, and a modality whose measure() counts otherwise than score(): one warning with both."""
    with pytest.warns(RuntimeWarning, match=r"disagree on the length of responses \(1 against \d"):
        run("run", modality={"name": "toy"}, loss={"name": "sft"}, reference={"kind": "none"})


class Everything(Callback):
    """A plugin with every hook of a run, and the callback it adds."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_end(self, *args: Any) -> None:
        """Counts steps."""
        self.seen.append("step")

    @hookimpl
    def dpoframe_configure(self, config: Any) -> None:
        """Refuses a learning rate of 7."""
        if config.trainer.lr == 7:
            raise ConfigError("seven is not allowed")

    @hookimpl
    def dpoframe_callbacks(self, config: Any) -> list[Callback]:
        """Itself."""
        return [self]

    @hookimpl
    def dpoframe_loss_terms(self, scores: PairScores, stage: str, step: int) -> dict[str, torch.Tensor]:
        """The mean chosen score, a hundredth of it."""
        return {"likelihood": -0.01 * scores.policy_chosen.mean()}

    @hookimpl
    def dpoframe_pair_metrics(self, scores: PairScores, losses: torch.Tensor, stage: str, step: int) -> dict[str, torch.Tensor]:
        """The number of pairs it is shown, and the step."""
        assert not scores.policy_chosen.requires_grad
        return {"pairs": torch.tensor(float(len(losses))), f"{stage}_step": torch.tensor(float(step))}


@pytest.mark.parametrize("loss", ["sigmoid", "aot"])
def test_the_hooks_of_a_run_are_called(loss: str, host: Any, run: Any, look: Any) -> None:
    """Terms are added and logged, whatever the split; metrics see whole steps; callbacks run; unnamed plugins do not."""
    plugin = Everything()
    host.register(plugin, "everything")
    plain = run("plain", loss={"name": loss})
    assert plugin.seen == []
    named = "plugins=[toy, parts, everything]"
    first, split = (
        run("one", named, loss={"name": loss}),
        run("split", named, "trainer.accumulate_grad_batches=4", loss={"name": loss}),
    )
    one, other, bare = look.rows(first)[0], look.rows(split)[0], look.rows(plain)[0]
    assert one["everything/pairs"] == other["everything/pairs"] == 8
    assert one["loss/everything.likelihood"] == pytest.approx(-0.01 * bare["logps/chosen"], rel=1e-9)
    assert one["loss"] == pytest.approx(bare["loss"] + one["loss/everything.likelihood"], rel=1e-9)
    assert look.rows(first)[2]["loss"] == pytest.approx(look.rows(split)[2]["loss"], rel=1e-9)
    assert look.rows(first)[2]["loss"] != pytest.approx(look.rows(plain)[2]["loss"], rel=1e-3)
    assert plugin.seen == ["step"] * 6
    with pytest.raises(ConfigError, match="seven"):
        run("seven", named, "trainer.lr=7")


def test_trainer_arguments_pass_through_and_the_runs_own_are_refused(run: Any, tmp_path: Path) -> None:
    """`trainer.lightning` reaches lightning.Trainer; what dpoframe decides is an error that names each key."""
    assert run("deterministic", "trainer.lightning={deterministic: true}").status == "finished"
    torch.use_deterministic_algorithms(False)
    with pytest.raises(ConfigError, match=r"use_distributed_sampler.*is set by dpoframe"):
        run("own", "trainer.lightning={use_distributed_sampler: true}")
    with pytest.raises(ConfigError, match=r"wings.*no argument of lightning.Trainer"):
        run("unknown", "trainer.lightning={wings: 2}")


def test_a_folder_that_cannot_be_made_is_one_message(make_recipe: Any, host: Any, tmp_path: Path) -> None:
    """A run folder whose name is too long for the system: MachineError that names it."""
    from dpoframe.train.fit import fit

    with pytest.raises(MachineError, match="cannot be made"):
        fit(make_recipe(), tmp_path / ("x" * 300), host=host)


def test_epochs_and_rare_rows(run: Any, look: Any) -> None:
    """One and a half passes over 20 pairs by 8 are 4 steps; log_every thins the rows but keeps the last."""
    changes = ("trainer.max_epochs=1.5", "trainer.log_every=2")
    trainer = {"lr": 0.02, "precision": "64-true", "accelerator": "cpu", "devices": 1}
    result = run("run", *changes, trainer=trainer)
    assert result.steps == 4
    assert [row["step"] for row in look.rows(result)] == [0, 2, 3]
    assert look.rows(result)[-1]["epoch"] == pytest.approx(1.6)
