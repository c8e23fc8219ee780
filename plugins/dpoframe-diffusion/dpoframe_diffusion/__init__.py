"""Image generators for dpoframe: the modality `diffusion`, its losses, data sets, evaluators, recipes and suites.

This module is what the entry point names. It imports neither torch nor diffusers; a part is loaded when a recipe, a
suite or a model folder asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpoframe import hookimpl

__version__ = "0.1.0"

_HERE = Path(__file__).parent


@hookimpl
def dpoframe_modalities() -> Mapping[str, str]:
    """The modality `diffusion`."""
    return {"diffusion": "dpoframe_diffusion.modality:DiffusionModality"}


@hookimpl
def dpoframe_losses() -> Mapping[str, str]:
    """Losses that are images' own. Diffusion-DPO is the core's `sigmoid`."""
    return {
        "mapo": "dpoframe_diffusion.losses.mapo:Mapo",
        "diffusion_kto": "dpoframe_diffusion.losses.diffusion_kto:DiffusionKto",
        "dspo": "dpoframe_diffusion.losses.dspo:Dspo",
    }


@hookimpl
def dpoframe_datasets() -> Mapping[str, str]:
    """Preferences on pictures: layouts in which they are published, and two for a person's own."""
    return {
        "digits-bold": "dpoframe_diffusion.example.bolder_pairs:bolder_pairs",
        "hpd": "dpoframe_diffusion.readers.hpd:hpd",
        "image_folders": "dpoframe_diffusion.readers.folders:image_folders",
        "image_reward": "dpoframe_diffusion.readers.image_reward:image_reward",
        "image_rows": "dpoframe_diffusion.readers.table:image_rows",
        "pick_a_pic": "dpoframe_diffusion.readers.pick_a_pic:pick_a_pic",
    }


@hookimpl
def dpoframe_evaluators() -> Mapping[str, str]:
    """Scores of pictures."""
    return {
        "aesthetic": "dpoframe_diffusion.evaluators.aesthetic:Aesthetic",
        "clip_score": "dpoframe_diffusion.evaluators.clip_score:ClipScore",
        "hps": "dpoframe_diffusion.evaluators.hps:Hps",
        "image_diversity": "dpoframe_diffusion.evaluators.image_diversity:ImageDiversity",
        "image_reward": "dpoframe_diffusion.evaluators.image_reward:ImageReward",
        "ink": "dpoframe_diffusion.example.ink:Ink",
        "kid": "dpoframe_diffusion.evaluators.kid:Kid",
        "legibility": "dpoframe_diffusion.example.legibility:Legibility",
        "nsfw_rate": "dpoframe_diffusion.evaluators.nsfw_rate:NsfwRate",
        "pickscore": "dpoframe_diffusion.evaluators.pickscore:PickScore",
    }


@hookimpl
def dpoframe_recipes() -> Mapping[str, Path]:
    """Every YAML file beside this module in `recipes/`, by its file name without the ending."""
    return {path.stem: path for path in sorted((_HERE / "recipes").glob("*.yaml"))}


@hookimpl
def dpoframe_suites() -> Mapping[str, Path]:
    """Every YAML file beside this module in `suites/`, by its file name without the ending."""
    return {path.stem: path for path in sorted((_HERE / "suites").glob("*.yaml"))}


@hookimpl
def dpoframe_configure(config: Any) -> None:
    """Looks at the configs of the recipe's pipeline, before pairs or weights are read."""
    from dpoframe_diffusion.modality import DiffusionModality

    if isinstance(config.modality.value, DiffusionModality):
        config.modality.value.require()


@hookimpl
def dpoframe_commands(cli: Any) -> None:
    """Adds `dpoframe quickstart-images`."""
    cli.command("quickstart-images")(quickstart_images)


def quickstart_images(out: Path = Path("dpoframe-quickstart-images")) -> int:
    """Aligns a small image model on a plain CPU, in minutes, and shows base against aligned.

    The base is trained first, on real handwritten digits, and kept for later runs; then it is measured, aligned to bolder
    strokes, and measured again. OUT is the run folder; a run that was cut off goes on where it stood, a finished one is shown
    again.
    """
    from dpoframe_diffusion.example.quickstart import run

    return run(out)
