"""What `dpoframe plan` says of a language model, without its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import dpoframe_text
import pytest
from dpoframe_text.adapters import LoraSection
from dpoframe_text.modality import TextModality

from dpoframe import ConfigError, Example, PreferencePair, hookimpl
from dpoframe.config import load_recipe
from dpoframe.planning import Hardware, Plan, make_plan
from dpoframe.plugins import PluginHost

MACHINE = Hardware("a box", 1e12, 1e12, 1e12, gpu=False)
PROMPT, CHOSEN, REJECTED = "the cat sat on", " the mat and then some", " red green blue"


class Same:
    """A data set of one pair, many times over."""

    @hookimpl
    def dpoframe_datasets(self) -> dict[str, Any]:
        """Pairs that differ in their prompt's last letter alone."""
        return {"same": lambda: [PreferencePair(f"{PROMPT} {chr(97 + n)}", CHOSEN, REJECTED, str(n)) for n in range(8)]}


@pytest.fixture
def weightless(tiny: Path, tmp_path: Path) -> Path:
    """The small model's folder without its weights."""
    folder = tmp_path / "weightless"
    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.bin"))
    assert not list(folder.glob("*.safetensors"))
    return folder


def plan(folder: Path, reference: str = "copy", **modality: Any) -> Plan:
    """The plan of two steps, each of all eight pairs."""
    host = PluginHost(entry_points=[])
    host.register(dpoframe_text, "text")
    host.register(Same(), "same")
    recipe = {
        "modality": {"name": "text", "model": str(folder), "chat": "never", **modality},
        "data": "same",
        "reference": reference,
        "trainer": {"max_steps": 2, "batch_size": 8, "accelerator": "cpu", "devices": 1},
    }
    return make_plan(load_recipe(recipe, host=host), MACHINE, host)


@pytest.mark.parametrize("lora", [None, LoraSection(r=4), LoraSection(r=4, top_layers=1, modules_to_save=("lm_head",))])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_outline_is_the_model_without_values(tiny: Path, lora: LoraSection | None, dtype: Any) -> None:
    """Names, shapes, types, what is trained and what is tied are those of the model that is built."""
    modality = TextModality(model=str(tiny), lora=lora, dtype=dtype)

    def told(model: Any) -> list[Any]:
        return [(name, one.shape, one.dtype, one.requires_grad) for name, one in model.named_parameters()]

    outline = modality.outline()
    assert told(outline) == told(modality.build())
    assert all(one.is_meta for one in outline.parameters())


def test_outline_of_four_bits_is_refused(tiny: Path) -> None:
    """Weights in four bits are said to be unknown, with what to plan instead."""
    with pytest.raises(ConfigError, match="load_in_4bit=false"):
        TextModality(model=str(tiny), lora=LoraSection(), load_in_4bit=True).outline()


def test_plan_needs_no_weights(weightless: Path) -> None:
    """The plan is made where there is no file of weights, and knows memory, operations and time."""
    for made in (plan(weightless), plan(weightless, "adapter", lora={"r": 4})):
        assert made.memory is not None, made.notes
        assert made.seconds is not None
        assert made.memory.parts["weights"] >= 4 * (made.parameters or 0)


def operations_by_hand(folder: Path) -> tuple[float, float, float]:
    """Of a forward of all eight pairs: F = 2 N T + attention + 2 V D H, its three parts.

    N are the weights of the layers' products, T the positions of the flat rows, H the response tokens. A segment of q queries and
    k keys takes 4 q k D: its scores and its mixture.
    """
    config = json.loads((folder / "config.json").read_text())
    width, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    shared = width * config["num_key_value_heads"] // config["num_attention_heads"]
    weights = layers * (2 * width * width + 2 * width * shared + 3 * width * inner)
    encode = TextModality(model=str(folder), chat="never").measure
    layer = mixing = head = 0.0
    for number in range(8):
        text = f"{PROMPT} {chr(97 + number)}"
        one, other = (encode(Example(text, answer, 0, "x")) for answer in (CHOSEN, REJECTED))
        prompt, first, second = one.prompt, one.response - 1, other.response - 1  # the last token is no input
        mixing += 4 * width * layers * ((prompt + first) ** 2 + second * (prompt + second))
        layer += 2 * weights * (prompt + first + second)
        head += 2 * config["vocab_size"] * width * (one.response + other.response)
    return layer, mixing, head


def test_operations_equal_the_formula(weightless: Path) -> None:
    """A forward is 2 N T + attention + 2 V D H. A step of full training adds two forwards to it, and one of the reference.

    The backward of attention forms the scores anew: five products for the two of its forward. `last_layer_skip` is off, since
    it leaves work out.
    """
    layer, mixing, head = operations_by_hand(weightless)
    made = plan(weightless, last_layer_skip=False)
    assert made.operations is not None
    assert made.operations.step == pytest.approx(4 * (layer + head) + 4.5 * mixing, rel=1e-3)


def test_what_the_skip_and_the_cache_spare(weightless: Path) -> None:
    """Each switch that spares work shows in the plan: the last layer's skip, shared prompts, a cached reference."""
    steps = [
        made.operations.step
        for made in (
            plan(weightless, "cached"),
            plan(weightless),
            plan(weightless, last_layer_skip=False),
            plan(weightless, last_layer_skip=False, share_prompt=False),
        )
        if made.operations is not None
    ]
    assert len(steps) == 4
    assert steps == sorted(steps)
    assert len(set(steps)) == 4
