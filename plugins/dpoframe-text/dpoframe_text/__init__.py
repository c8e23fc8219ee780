"""Causal language models for dpoframe: the modality `text` and its recipes.

This module is what the entry point names. It imports neither torch nor transformers; the modality is loaded when a
recipe or a model folder asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dpoframe import hookimpl

__version__ = "0.1.0"

_RECIPES = Path(__file__).parent / "recipes"


@hookimpl
def dpoframe_modalities() -> Mapping[str, str]:
    """The modality `text`."""
    return {"text": "dpoframe_text.modality:TextModality"}


@hookimpl
def dpoframe_recipes() -> Mapping[str, Path]:
    """Every YAML file beside this module in `recipes/`, by its file name without the ending."""
    return {path.stem: path for path in sorted(_RECIPES.glob("*.yaml"))}
