"""Runs whose model is split over ranks: whatever the modality, all ranks end together, and what cannot be split is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dpoframe import ConfigError, Modality, blocks_of, hookimpl
from dpoframe.checkpoint.pieces import Pieces
from dpoframe.config import Recipe
from dpoframe.plugins import PluginHost
from dpoframe.testing import in_ranks
from dpoframe.train.fit import fit
from dpoframe.train.sharding.outline import Outline
from dpoframe.train.sharding.splitting import separable, split

TWO = ("trainer.devices=2", "trainer.strategy=fsdp")
LONGER = (*TWO, "trainer.save_every=1", "trainer.max_steps=6")


class Ending:
    """Sends SIGTERM to the second rank, in its third step."""

    @hookimpl
    def dpoframe_pair_metrics(self, stage: str, step: int) -> None:
        """Sends it."""
        if stage == "train" and step == 2 and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGTERM)


def losses(run: Path) -> list[float]:
    """Of each step and validation."""
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_modality_that_names_no_blocks(make_recipe: Callable[..., Recipe], host: PluginHost, tmp_path: Path) -> None:
    """Its model is gathered whole for each call; losses are those of one process."""
    assert Modality.blocks is type(make_recipe().modality.value).blocks
    fit(make_recipe(), tmp_path / "one", host=host)
    in_ranks(lambda: fit(make_recipe(*TWO), tmp_path / "two", host=host))
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-9)


def test_a_run_that_was_killed_while_it_wrote_the_model(
    make_recipe: Callable[..., Recipe], host: PluginHost, tmp_path: Path
) -> None:
    """All its steps are done: what goes on puts the model together and writes it."""
    in_ranks(lambda: fit(make_recipe(*TWO), tmp_path / "run", host=host))
    file = tmp_path / "run" / "model" / "model.safetensors"
    whole = file.read_bytes()
    shutil.rmtree(file.parent)
    in_ranks(lambda: fit(make_recipe(*TWO), tmp_path / "run", resume=True, host=host))
    assert file.read_bytes() == whole


def test_sigterm_to_one_rank(make_recipe: Callable[..., Recipe], host: PluginHost, tmp_path: Path) -> None:
    """Both ranks save the same step and end with 143, and the run goes on to the end of one that was not stopped."""
    recipe = make_recipe(*LONGER)
    in_ranks(lambda: fit(recipe, tmp_path / "whole", host=host))

    def stopped() -> None:
        host.register(Ending(), "ending")
        ended = fit(
            make_recipe(*TWO, "trainer.save_every=1", "trainer.max_steps=6", plugins=["ending"]), tmp_path / "run", host=host
        )
        assert (ended.status, ended.exit_code, ended.steps) == ("interrupted", 143, 3)

    in_ranks(stopped)
    (tmp_path / "run" / "recipe.yaml").write_text((tmp_path / "whole" / "recipe.yaml").read_text())
    in_ranks(lambda: fit(recipe, tmp_path / "run", resume=True, host=host))
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_a_scalar_cannot_be_split() -> None:
    """It has no rows; the message names it and another strategy. Nothing is touched."""
    model = nn.Linear(2, 2)
    model.scale = nn.Parameter(torch.tensor(1.0))
    with pytest.raises(ConfigError, match=r"scale cannot be split: .* Take trainer\.strategy: ddp"):
        split(model, [], Any)  # type: ignore[arg-type]
    assert type(model) is nn.Linear


def test_a_block_that_shares_a_parameter_is_none_of_its_own() -> None:
    """It stays with what lies around it; a block that is called in two places has what it needs in both."""
    model = nn.ModuleDict({name: nn.Linear(2, 2) for name in ("embedding", "first", "second", "head")})
    model["twice"] = model["second"]
    model["head"].weight = model["embedding"].weight
    blocks = [model["embedding"], model["first"], model["second"]]
    assert separable(model, blocks) == [model["first"], model["second"]]
    model["first"].bias = model["second"].bias
    assert separable(model, blocks) == []
    assert separable(model, [model]) == [model]


def test_blocks_are_those_the_class_names() -> None:
    """As transformers and diffusers name them, wherever the model is wrapped."""

    class Inner(nn.Module):
        _no_split_modules = ("Linear",)

        def __init__(self) -> None:
            super().__init__()
            self.first, self.other = nn.Linear(1, 1), nn.LayerNorm(1)

    model = nn.Sequential(Inner())
    assert blocks_of(model) == [model[0].first]
    assert blocks_of(nn.Linear(1, 1)) == []


def test_an_outline_is_filled_with_what_is_there_now() -> None:
    """Values, shared ones among them, and buffers; without `keep` nothing is kept."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    outline = Outline(model)
    assert all(value.device.type == "meta" for value in outline.model.parameters())
    with torch.no_grad():
        for value in [*model.parameters(), model[2].running_mean]:
            value.add_(1)
    assert outline.filled(model, keep=False) is None
    found = outline.filled(model, keep=True)
    assert found[1].weight is found[0].weight
    assert [value.requires_grad for value in found.parameters()] == [value.requires_grad for value in model.parameters()]
    assert found.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("start", range(6))
@pytest.mark.parametrize("stop", range(6))
def test_rows_of_pieces(start: int, stop: int) -> None:
    """Any rows, from pieces of unequal size of which one is empty, are those of the whole."""
    whole = torch.arange(10).reshape(5, 2)
    pieces = Pieces(whole.shape, [(0, whole[:2]), (2, whole[2:5]), (5, whole[5:])])
    assert torch.equal(pieces.rows(start, max(start, stop)), whole[start : max(start, stop)])
    assert torch.equal(pieces.whole(), whole)
