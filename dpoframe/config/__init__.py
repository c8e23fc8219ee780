"""Recipes: read strictly, every fault reported at once, resolved so that a run can be repeated from its folder.

See `Recipe` for what a recipe holds, `paths` for how relative paths are read.
"""

from __future__ import annotations

from dpoframe.config.loading import load_recipe
from dpoframe.config.recipe import Recipe
from dpoframe.config.schema import recipe_schema
from dpoframe.config.sections import (
    DataSection,
    EvaluateSection,
    KeepBest,
    KeepBestCheckpoints,
    Part,
    ReferenceSection,
    TrainerSection,
    WeightedLoss,
)

__all__ = [
    "DataSection",
    "EvaluateSection",
    "KeepBest",
    "KeepBestCheckpoints",
    "Part",
    "Recipe",
    "ReferenceSection",
    "TrainerSection",
    "WeightedLoss",
    "load_recipe",
    "recipe_schema",
]
