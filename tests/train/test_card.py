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


def test_the_card_shows_its_text_in_the_order_in_which_it_stands(make_recipe: Any) -> None:
    """Marks that turn the direction of text, and what steers a terminal, are written out, in the recipe below as well."""
    plain = "Nothing \u4e16\u754c, \u0645\u06cc\u200c\u0631\u0648\u062f and \U0001f469\u200d\U0001f469."
    recipe = make_recipe(description=f"{plain}\nNot\u202eesrever\u2066, \x1b[31mred\x9b, \u2028end \ud800 \U000e0041")
    card = model_card(recipe, 8, 4, "0", [])
    assert f"\n{plain}\nNot\\u202eesrever\\u2066, \\x1b[31mred\\x9b, \\u2028end \\ud800 \\U000e0041\n" in card
    assert not set(card) & set("\u202e\u2066\x1b\x9b\u2028\ud800\U000e0041")
    assert "Not\\u202Eesrever\\u2066, \\e[31mred" in card
