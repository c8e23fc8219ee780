"""What a model card says of its figures."""

from __future__ import annotations

from typing import Any

import yaml

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
    assert "pipeline_tag" not in trained
    assert "## Use" not in trained


def test_the_card_says_what_the_modality_knows(make_recipe: Any, monkeypatch: Any) -> None:
    """The head of the card is YAML that the hub reads, and the way to load the folder stands under `Use`."""
    recipe = make_recipe()
    said = {"pipeline_tag": "text-to-image", "base_model": "someone/model", "usage": "Load it."}
    monkeypatch.setattr(type(recipe.modality.value), "card", lambda self: said)
    card = model_card(recipe, 8, 4, "0", [])
    head = yaml.safe_load(card.split("---")[1])
    assert head == {
        "library_name": "dpoframe",
        "pipeline_tag": "text-to-image",
        "base_model": "someone/model",
        "tags": ["dpo", "preference-alignment", "dpoframe"],
    }
    assert "\n## Use\n\nLoad it.\n" in card
