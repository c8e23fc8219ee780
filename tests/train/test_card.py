"""What a model card says of its figures."""

from __future__ import annotations

from typing import Any

from dpoframe.train.card import model_card

ROW = {"step": 3, "loss": 0.5, "rewards/accuracies": 0.75}


def test_the_card_says_where_its_figures_come_from(make_recipe: Any) -> None:
    """Figures of a validation are called held-out, those of a training step are not, and the modality names its library."""
    recipe = make_recipe()
    trained = model_card(recipe, 8, 4, "0", [ROW])
    validated = model_card(recipe, 8, 4, "0", [ROW | {"stage": "validation", "loss": 0.625}, ROW])
    assert "training metrics" in trained
    assert "| loss | 0.5 |" in trained
    assert "metrics of held-out pairs" in validated
    assert "training metrics" not in validated
    assert "| loss | 0.625 |" in validated
    assert "library_name: dpoframe" in trained
