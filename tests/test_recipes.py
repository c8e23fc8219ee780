"""Every recipe that an installed plugin ships."""

from __future__ import annotations

import pytest

from dpoframe.config import load_recipe
from dpoframe.losses import combine
from dpoframe.plugins import host
from dpoframe.train.fit import require_reference

SHIPPED = sorted(host().names("recipe"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_can_be_read(name: str) -> None:
    """It has no fault, says what it is for, and resolves to the same recipe when its resolved form is read."""
    recipe = load_recipe(name)
    assert recipe.description.endswith(".")
    assert load_recipe(recipe.to_dict()).to_dict() == recipe.to_dict()
    require_reference(recipe, combine([(one.part.value, one.weight) for one in recipe.loss]))


def test_there_are_recipes() -> None:
    """The set-up that runs the tests installs the plugins that ship recipes."""
    assert {"quickstart", "sd15-lora", "sdxl-lora", "flux-lora", "sd15-full"} <= set(SHIPPED)
