"""The kinds of pipelines that can be aligned, by the `_class_name` in their model_index.json."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType

from dpoframe import ConfigError
from dpoframe_diffusion.families.base import Family

__all__ = ["REGISTRY", "Family", "family_of"]

REGISTRY: Mapping[str, str] = MappingProxyType(
    {
        "StableDiffusionPipeline": "stable_diffusion:StableDiffusion",
        "StableDiffusionXLPipeline": "sdxl:StableDiffusionXL",
        "StableDiffusion3Pipeline": "sd3:StableDiffusion3",
        "FluxPipeline": "flux:Flux",
    }
)
"""Where the family of each pipeline class is: module of this package and class."""


def family_of(pipeline: str, where: str = "The pipeline") -> Family:
    """The family of a pipeline class of diffusers.

    Args:
        pipeline: Its name, as `_class_name` in model_index.json gives it.
        where: What the message calls the pipeline.

    Raises:
        ConfigError: pipelines of that class cannot be aligned.
    """
    if pipeline not in REGISTRY:
        raise ConfigError(
            f"{where} is a {pipeline or 'pipeline without a class name'}, which cannot be aligned. "
            f"These can: {', '.join(REGISTRY)}. A model that draws into a given picture (inpainting, editing) is none of them."
        )
    module, _, name = REGISTRY[pipeline].partition(":")
    family: type[Family] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return family()
