"""Causal language models for dpoframe: the modality `text` and its recipes.

This module is what the entry point names. It imports neither torch nor transformers; the modality is loaded when a
recipe or a model folder asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dpoframe import PairScores, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

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


@hookimpl
def dpoframe_pair_metrics(scores: PairScores) -> Mapping[str, Tensor]:
    """`differing`: the share of tokens in which the responses of a pair differ, the mean over pairs; for weighted scores."""
    chosen, rejected = (scores.detail.get(f"policy_{side}/differing") for side in ("chosen", "rejected"))
    if chosen is None or rejected is None:
        return {}
    tokens = scores.chosen_length + scores.rejected_length
    return {"differing": ((chosen + rejected) / tokens.clamp_min(1)).mean()}
