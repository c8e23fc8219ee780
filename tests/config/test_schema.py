"""The JSON Schema of recipes."""

from __future__ import annotations

from typing import Any

import pytest

from dpoframe.config import load_recipe, recipe_schema
from dpoframe.plugins import PluginHost

jsonschema = pytest.importorskip("jsonschema", reason="the schema's own validity is checked by jsonschema, a development need")

GOOD: dict[str, Any] = {"modality": {"name": "echo", "model": "m"}, "data": {"name": "rows", "path": "p"}, "loss": "plain"}


@pytest.fixture(scope="module")
def validator(host: PluginHost) -> Any:
    """A validator of recipes."""
    schema = recipe_schema(host)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"loss": {"name": "plain", "beta": 0.5}},
        {"loss": [{"name": "plain", "weight": 0.5}, "free"]},
        {"modality": {"name": "echo", "model": "m", "lora": {"r": 4}, "size": [1, 2]}},
        {"modality": {"name": "./mine.py:Thing", "whatever": 1}},
        {"data": {"name": "rows", "path": ["a"], "validation": 0.1, "limit": 5}},
        {"data": {"name": "anything", "free": 1}},
        {"reference": "none"},
        {"reference": {"kind": "ema", "decay": 0.9}},
        {"trainer": {"lr": 1e-5, "betas": [0.9, 0.99], "lightning": {"benchmark": True}}},
        {"trainer": {"precision": 32}},
        {
            "trainer": {"keep_best_checkpoints": {"metric": "validation/loss", "count": 2}},
            "data": {**GOOD["data"], "validation": 8},
        },
        {"trainer": {"precision": "bf16"}},
        {"evaluate": ["tiny"], "reporters": [{"name": "notes"}], "plugins": ["small"], "seed": 3},
    ],
)
def test_right_recipes_are_valid(change: dict[str, Any], validator: Any) -> None:
    """What `load_recipe` takes, the schema takes."""
    validator.validate({**GOOD, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"evalaute": []},
        {"modality": {"name": "ecko", "model": "m"}},
        {"modality": {"name": "echo"}},
        {"modality": {"name": "echo", "model": "m", "modle": 1}},
        {"data": {"name": "rows"}},
        {"data": {"name": "rows", "path": "p", "layuot": "x"}},
        {"loss": "sigmiod"},
        {"loss": {"name": "plain", "beta": "x"}},
        {"loss": []},
        {"reference": "frozen"},
        {"trainer": {"lr": -1}},
        {"trainer": {"lrr": 1}},
        {"trainer": {"precision": 8}},
        {"trainer": {"keep_best_checkpoints": {"count": 2}}},
        {"trainer": {"keep_best_checkpoints": {"metric": "validation/loss", "best": 2}}},
        {"seed": -1},
    ],
)
def test_wrong_recipes_are_not(change: dict[str, Any], validator: Any) -> None:
    """What `load_recipe` refuses for its keys, types or names, the schema refuses."""
    assert not validator.is_valid({**GOOD, **change})


def test_resolved_recipe_is_valid(validator: Any, host: PluginHost) -> None:
    """A resolved recipe, every default shown, is valid."""
    validator.validate(load_recipe(GOOD, host=host).to_dict())


def test_fields_are_described(host: PluginHost) -> None:
    """What a docstring says of a field is the field's description, for the core's sections and for parts."""
    schema = recipe_schema(host)
    trainer = schema["properties"]["trainer"]["properties"]
    assert trainer["tokens_per_batch"]["description"].startswith("Most units (tokens for text) in one micro-batch: the knob")
    assert all("description" in found for found in trainer.values())
    assert schema["properties"]["seed"]["description"] == "All randomness of the run follows from it."
    jsonl = next(one for one in schema["$defs"]["data"]["oneOf"] if one.get("title") == "jsonl")
    assert jsonl["properties"]["path"]["description"] == "A file, a folder, a pattern such as `pairs/*.jsonl`, or a list of these."
    assert jsonl["properties"]["validation"]["description"].startswith("What is held out of training")


def test_parts_that_cannot_be_imported_are_left_out(validator: Any) -> None:
    """A broken part does not keep the schema from being made."""
    assert not validator.is_valid({**GOOD, "modality": {"name": "lost"}})
