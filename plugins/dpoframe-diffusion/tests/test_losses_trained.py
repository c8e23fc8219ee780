"""Losses of images in a training: what they reach, that no split of a step changes them, and what reference they go with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dpoframe_diffusion
import pytest

from dpoframe import ConfigError, hookimpl
from dpoframe.config import load_recipe
from dpoframe.plugins import PluginHost
from dpoframe.train.fit import fit

LORA = {"r": 8, "target_modules": ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2"]}
LOSSES: dict[str, dict[str, Any]] = {
    "mapo": {"name": "mapo", "beta": 1.0, "timesteps": 50},
    "diffusion_kto": {"name": "diffusion_kto", "beta": 20.0},
    "loss_averse": {"name": "diffusion_kto", "beta": 20.0, "utility": "loss_averse"},
    "dspo": {"name": "dspo", "beta": 0.5},
}


@pytest.fixture
def train(sd: Path, pairs: Any, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """`train(loss, trainer keys, ...)`: rows of metrics.jsonl of a run on discs that are preferred to rings."""

    class Shapes:
        """The data set of these tests."""

        @hookimpl
        def dpoframe_datasets(self) -> dict[str, Any]:
            """Pairs."""
            return {"shapes": lambda count=24: pairs(count)}

    host = PluginHost(entry_points=[])
    host.register(dpoframe_diffusion, "diffusion")
    host.register(Shapes(), "shapes")

    def go(loss: Any, trainer: dict[str, Any] | None = None, kind: str | None = None, count: int = 0) -> list[dict[str, Any]]:
        common = {"batch_size": 6, "max_steps": 3, "lr": 0.01, "warmup": 0, "accelerator": "cpu", "devices": 1}
        recipe = {
            "modality": {"name": "diffusion", "model": str(sd), "framing": {"resolution": 16}, "lora": LORA},
            "data": {"name": "shapes", "count": count} if count else {"name": "shapes", "count": 24, "validation": 6},
            "loss": loss,
            "trainer": common | (trainer or {}),
            "plugins": ["shapes"],
        } | ({"reference": {"kind": kind}} if kind else {})
        place = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        done = fit(load_recipe(recipe, host=host), place, host=host)
        return [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]

    return go


@pytest.mark.parametrize("name", LOSSES)
def test_no_split_of_a_step_changes_it(name: str, train: Any) -> None:
    """Three steps and a validation have the same rows whether 6 pairs are scored at once or two at a time."""
    whole, split = train(LOSSES[name]), train(LOSSES[name], {"accumulate_grad_batches": 3})
    assert [row.get("stage") for row in whole] == [None, None, None, "validation"]
    for one, other in zip(whole, split, strict=True):
        for key in ("loss", "rewards/margins", "logps/chosen", *(["grad_norm"] if "stage" not in one else [])):
            assert one[key] == pytest.approx(other[key], rel=1e-4, abs=1e-6), key


@pytest.mark.parametrize("name", ["mapo", "diffusion_kto", "loss_averse"])
def test_it_learns_what_is_preferred(name: str, train: Any) -> None:
    """Seen again and again under one draw of noise, the preferred pictures of 8 pairs get ahead of the others."""
    rows = train(LOSSES[name], {"max_steps": 40, "lr": 0.02, "seeds_per_pair": 1, "batch_size": 8}, count=8)
    assert rows[-1]["rewards/accuracies"] >= 0.875
    assert rows[-1]["rewards/margins"] > rows[0]["rewards/margins"] + 0.3


def test_dspo_learns_the_winners(train: Any) -> None:
    """At a small beta DSPO is mostly the denoising of winners: their error falls by a tenth, and further than the losers'."""
    rows = train(LOSSES["dspo"], {"max_steps": 40, "lr": 0.02, "seeds_per_pair": 1, "batch_size": 8}, count=8)
    assert rows[-1]["logps/chosen"] > 0.9 * rows[0]["logps/chosen"]
    assert rows[-1]["rewards/margins"] > 0


def test_mapo_needs_no_reference(train: Any) -> None:
    """With kind none it trains as with an adapter switched off, whose scores it does not read."""
    free, bound = train(LOSSES["mapo"], kind="none"), train(LOSSES["mapo"], kind="adapter")
    assert [row["loss"] for row in free] == [row["loss"] for row in bound]


def test_dspo_and_the_rewards_of_diffusion_dpo_start_at_zero(train: Any) -> None:
    """At the first step policy and reference are equal: DSPO's loss is the winner's error, and the margin is 0."""
    first = train(LOSSES["dspo"])[0]
    assert first["loss"] == pytest.approx(-2 * first["logps/chosen"], rel=1e-6)
    assert first["rewards/margins"] == 0


def test_dspo_takes_a_live_reference(train: Any) -> None:
    """A cached reference is one clear error, and so is the sum with a loss over the whole step."""
    with pytest.raises(ConfigError, match=r"dspo \(residual\).*copy or adapter"):
        train(LOSSES["dspo"], kind="cached")
    with pytest.raises(ConfigError, match="residual"):
        train([LOSSES["dspo"], LOSSES["diffusion_kto"]])
