"""Training through the core: a pipeline learns what it is shown, and the result does not hang on how a step is done."""

from __future__ import annotations

import json
import shutil
from typing import Any

import dpoframe_diffusion
import pytest
import torch
from dpoframe_diffusion.framing import FramingSection
from dpoframe_diffusion.modality import DiffusionModality

from dpoframe import ConfigError, Example, PairScores, hookimpl
from dpoframe.config import load_recipe
from dpoframe.plugins import PluginHost
from dpoframe.train.fit import fit

SMALL = FramingSection(resolution=16)


@pytest.fixture
def host(pairs):
    """A host with this plugin, and the discs against the rings as the data sets `shapes`."""

    class Shapes:
        """The data set of these tests."""

        @hookimpl
        def dpoframe_datasets(self) -> dict[str, Any]:
            """Pairs from number `first`."""
            return {"shapes": lambda count=24, first=0: pairs(count, first)}

    made = PluginHost(entry_points=[])
    made.register(dpoframe_diffusion, "diffusion")
    made.register(Shapes(), "shapes")
    return made


def _accuracy(modality: DiffusionModality, policy: Any, reference: Any, given: list[Example]) -> float:
    """Share of pairs whose margin is above 0; ties count half."""
    with torch.no_grad():
        batch = modality.collate(given)
        scores = PairScores.from_scores(modality.score(policy, batch), modality.score(reference, batch))
    margin = scores.chosen_logratio - scores.rejected_logratio
    return ((margin > 0).double() + (margin == 0).double() / 2).mean().item()


def _recipe(folder: Any, trainer: dict[str, Any], **modality: Any) -> dict[str, Any]:
    """Diffusion-DPO on the shapes, 8 pairs a step; beta is small, as the errors of random weights are large."""
    common = {"batch_size": 8, "warmup": 0, "precision": "32-true", "accelerator": "cpu", "devices": 1}
    return {
        "modality": {"name": "diffusion", "model": str(folder), "framing": {"resolution": 16}, **modality},
        "data": {"name": "shapes", "count": 48},
        "loss": {"name": "sigmoid", "beta": 100},
        "reference": {"kind": "adapter" if modality.get("lora") else "copy"},
        "trainer": common | trainer,
        "plugins": ["shapes"],
    }


def test_a_wrong_pipeline_stops_a_run_before_its_data(sd, tmp_path, host):
    """A run with a pipeline that cannot be aligned ends before a single pair is read, and leaves no run folder."""

    class Unread:
        """A data set that must not be read."""

        @hookimpl
        def dpoframe_datasets(self) -> dict[str, Any]:
            """It."""

            def refuse() -> Any:
                raise AssertionError("the data set was read")

            return {"unread": refuse}

    host.register(Unread(), "unread")
    folder = tmp_path / "changed"
    shutil.copytree(sd, folder)
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"in_channels": 9}))
    recipe = _recipe(folder, {"max_steps": 1}) | {"data": {"name": "unread"}}
    with pytest.raises(ConfigError, match="takes 9 channels"):
        fit(load_recipe(recipe, host=host), tmp_path / "run", host=host)
    assert not (tmp_path / "run").exists()


# The attention of these small UNets alone hardly sees a picture's shapes.
LORA = {"r": 8, "target_modules": ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2"]}


# So small a transformer needs the layers between its attentions, too.
BLOCKS = {"r": 8, "target_modules": ["to_q", "to_k", "to_v", "to_out.0", "proj", "net.2", "proj_out"]}


# At these rates both pictures of a pair become less likely, which a run warns of.
@pytest.mark.filterwarnings("ignore:The chosen responses keep getting less likely:RuntimeWarning")
@pytest.mark.parametrize(
    ("family", "lora"), [("sd", None), ("sdxl", LORA), ("sd_v", LORA), ("sd35", BLOCKS), ("flux", None), ("flux_schnell", BLOCKS)]
)
def test_training_raises_held_out_accuracy(family, lora, request, host, tmp_path, pairs, examples):
    """After a few steps on discs against rings the policy tells unseen discs from unseen rings; the loss has fallen from ln 2."""
    folder = request.getfixturevalue(family)
    trainer = {"max_steps": 40, "lr": 0.02 if lora else 0.002}
    recipe = _recipe(folder, trainer, lora=lora)
    done = fit(load_recipe(recipe, host=host), tmp_path / "run", host=host)
    assert _rows(done.folder)[0]["loss"] == pytest.approx(0.6931471805599453, abs=1e-9)
    assert done.status == "finished"
    scorer = DiffusionModality(model=str(folder), framing=SMALL)
    unseen = examples(pairs(48, 100))
    base = scorer.build()
    assert _accuracy(scorer, base, base, unseen) == 0.5
    assert _accuracy(scorer, scorer.load(done.model), base, unseen) >= 0.75


def test_a_step_does_not_hang_on_how_it_is_split(sd, host, tmp_path):
    """Three steps of 8 pairs have the same losses and gradients whether scored at once or in micro-batches of one pair.

    Nor on the reference's kind: as a copy, as the adapter switched off, and as scores cached for two draws a pair.
    """
    kinds: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
        "whole": ({}, {}, "adapter"),
        "split": ({"tokens_per_batch": 2}, {}, "adapter"),
        "checkpointed": ({"accumulate_grad_batches": 4}, {"gradient_checkpointing": True}, "adapter"),
        "workers": ({"num_workers": 1}, {}, "adapter"),
        "not kept": ({}, {"cache": False}, "adapter"),
        "copy": ({}, {}, "copy"),
        "cached": ({}, {}, "cached"),
    }
    rows = {}
    for name, (trainer, modality, kind) in kinds.items():
        recipe = _recipe(sd, {"max_steps": 3, "lr": 0.01, "seeds_per_pair": 2, **trainer}, lora={"r": 4}, **modality)
        changes = {"reference": {"kind": kind}, "data": {"name": "shapes", "count": 8}}
        rows[name] = _rows(fit(load_recipe(recipe | changes, host=host), tmp_path / name, host=host).folder)
    for name, found in rows.items():
        for one, other in zip(rows["whole"], found, strict=True):
            for key in ("loss", "grad_norm", "rewards/margins", "logps/chosen"):
                assert one[key] == pytest.approx(other[key], rel=1e-4, abs=1e-6), (name, key)


def _rows(folder: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
