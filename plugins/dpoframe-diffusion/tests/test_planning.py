"""What `dpoframe plan` says of an image model, without its weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import dpoframe_diffusion
import pytest
from dpoframe_diffusion.adapters import LoraSection
from dpoframe_diffusion.framing import FramingSection
from dpoframe_diffusion.modality import DiffusionModality

from dpoframe import hookimpl
from dpoframe.config import load_recipe
from dpoframe.planning import Hardware, make_plan
from dpoframe.plugins import PluginHost

FAMILIES = ["sd", "sdxl", "sd3", "flux", "flux_schnell"]
MACHINE = Hardware("a box", 1e12, 1e12, 1e12, gpu=False)


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest) -> Path:
    """A pipeline of each family."""
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("lora", [None, LoraSection(r=4)])
def test_outline_is_the_denoiser_without_values(folder: Path, lora: LoraSection | None) -> None:
    """Names, shapes, types and what is trained are those of the denoiser that is built."""
    modality = DiffusionModality(model=str(folder), lora=lora, framing=FramingSection(resolution=16))

    def told(model: Any) -> list[Any]:
        return [(name, one.shape, one.dtype, one.requires_grad) for name, one in model.named_parameters()]

    outline = modality.outline()
    assert told(outline) == told(modality.build())
    assert all(one.is_meta for one in outline.parameters())


def test_outlined_batch_has_the_shapes_of_a_real_one(folder: Path, examples: Any) -> None:
    """Latents, targets, times and encodings have the shapes and types of those that VAE and text encoders make."""
    modality = DiffusionModality(model=str(folder), framing=FramingSection(resolution=16))
    real, made = modality.collate(examples()), modality.outline_batch(examples())
    assert {name: (one.shape, one.dtype) for name, one in made.prompts.items()} == {
        name: (one.shape, one.dtype) for name, one in real.prompts.items()
    }
    for one, other in zip(made.groups, real.groups, strict=True):
        for name in ("place", "noisy", "target", "time", "sizes", "prompt"):
            mine, theirs = getattr(one, name), getattr(other, name)
            assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype), name


def test_plan_needs_no_weights(folder: Path, tmp_path: Path, pairs: Any) -> None:
    """The plan of every family is made where there is no file of weights, and knows memory, operations and time."""

    class Shapes:
        """The data set of this test."""

        @hookimpl
        def dpoframe_datasets(self) -> dict[str, Any]:
            """Discs against rings."""
            return {"shapes": lambda: pairs(4)}

    copy = tmp_path / "weightless"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.safetensors", "*.bin"))
    host = PluginHost(entry_points=[])
    host.register(dpoframe_diffusion, "diffusion")
    host.register(Shapes(), "shapes")
    recipe = {
        "modality": {"name": "diffusion", "model": str(copy), "framing": {"resolution": 16}, "lora": {"r": 4}},
        "data": "shapes",
        "trainer": {"max_steps": 2, "batch_size": 2, "accelerator": "cpu", "devices": 1},
    }
    made = make_plan(load_recipe(recipe, host=host), MACHINE, host)
    assert made.memory is not None, made.notes
    assert made.seconds is not None
    assert made.tokens_per_step == 4
    assert made.trainable is not None
    assert 0 < made.trainable < (made.parameters or 0)
