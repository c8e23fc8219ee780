"""Making losses by name: what exists, what is refused, and that looking costs no torch."""

from __future__ import annotations

import dataclasses
import importlib
import math
import pickle
import subprocess
import sys
from typing import Any

import pytest
from pydantic import TypeAdapter

from dpoframe import ConfigError, Loss, UnknownNameError, losses

CONTRACT = (
    *("sigmoid", "hinge", "ipo", "robust", "exo_pair", "nca_pair", "bco_pair", "sppo_hard", "aot", "aot_unpaired"),
    *("apo_zero", "apo_down", "discopop", "sigmoid_norm", "sft", "simpo", "orpo", "cpo", "kto", "dpop"),
)


def test_names() -> None:
    """Every name of the contract can be made, and nothing else is there."""
    assert losses.names() == sorted(CONTRACT) == sorted(losses.REGISTRY)


@pytest.mark.parametrize("name", CONTRACT)
def test_every_loss(name: str) -> None:
    """A loss is a frozen, hashable, picklable dataclass whose docstring names its paper, and the registry leads to it."""
    loss = losses.create(name)
    module, _, cls = losses.REGISTRY[name].partition(":")
    assert type(loss) is getattr(importlib.import_module(module), cls)
    assert pickle.loads(pickle.dumps(loss)) == loss
    assert hash(loss) == hash(losses.create(name))
    with pytest.raises(dataclasses.FrozenInstanceError):
        loss.beta = 1.0
    assert name == "sft" or "arXiv" in str(type(loss).__doc__)


@pytest.mark.parametrize("name", CONTRACT)
def test_every_parameter_is_documented(name: str) -> None:
    """The docstrings of a loss and of its modifiers describe every parameter."""
    cls = type(losses.create(name))
    text = "\n".join(str(base.__doc__) for base in cls.__mro__)
    assert [field.name for field in dataclasses.fields(cls) if f"\n        {field.name}: " not in text] == []


def test_unknown_name() -> None:
    """A misspelt name is answered with the nearest and with all there are."""
    with pytest.raises(UnknownNameError, match=r"no loss 'sigmoyd'\. Did you mean 'sigmoid'\?.*aot, aot_unpaired"):
        losses.create("sigmoyd")


def test_all_faults_at_once() -> None:
    """Unknown parameters, wrong types and values out of range come in one error, each with the range or the nearest name."""
    wrong = {"bta": 1, "beta": -1, "label_smoothing": 0.5, "wpo": "yes", "ld_alpha": 2, "f_divergence": "kl"}
    with pytest.raises(ConfigError) as caught:
        losses.create("sigmoid", **wrong)
    assert sorted(fault.where for fault in caught.value.faults) == sorted(wrong)
    assert "Did you mean 'beta'?" in str(caught.value)
    assert "greater than 0" in str(caught.value)
    assert "'reverse_kl', 'forward_kl', 'js_divergence' or 'alpha_divergence'" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("sigmoid", {"beta": 0}),
        ("sigmoid", {"beta": math.nan}),
        ("sigmoid", {"beta": math.inf}),
        ("sigmoid", {"beta": "0.1"}),
        ("sigmoid", {"beta": True}),
        ("sigmoid", {"label_smoothing": -0.1}),
        ("robust", {"label_smoothing": 0.5}),
        ("exo_pair", {"label_smoothing": 0.0}),
        ("ipo", {"reduction": "max"}),
        ("discopop", {"tau": 0.0}),
        ("dpop", {"penalty": -1.0}),
        ("simpo", {"gamma": -0.1}),
        ("cpo", {"nll_weight": -1.0}),
        ("kto", {"desirable_weight": -1.0}),
        ("sigmoid", {"f_alpha": -0.5}),
        ("aot", {"wpo": True}),
        ("sft", {"beta": 0.1}),
        ("nca_pair", {"f_divergence": "forward_kl"}),
    ],
)
def test_bad_values(name: str, fields: dict[str, Any]) -> None:
    """A value out of range, or a modifier that the loss does not have, is refused by `create`, with its name."""
    with pytest.raises(ConfigError) as caught:
        losses.create(name, **fields)
    assert [fault.where for fault in caught.value.faults] == list(fields)


def test_the_class_checks_too() -> None:
    """A loss made without `create`, or changed by dataclasses.replace, is checked as well."""
    loss = losses.create("sigmoid")
    with pytest.raises(ConfigError, match="beta"):
        dataclasses.replace(loss, beta=-1.0)


def test_whole_numbers_are_numbers() -> None:
    """YAML's `beta: 1` is as good as 1.0."""
    assert losses.create("sigmoid", beta=1).reward_scale == 1.0


def test_ranges_reach_the_schema() -> None:
    """The JSON Schema of a loss carries the allowed ranges, so that editors can check recipes."""
    schema = TypeAdapter(type(losses.create("sigmoid"))).json_schema()
    assert schema["properties"]["beta"]["exclusiveMinimum"] == 0
    assert schema["properties"]["label_smoothing"]["exclusiveMaximum"] == 0.5
    assert schema["additionalProperties"] is False


def test_looking_imports_no_torch() -> None:
    """Importing the package, listing names and summing losses need no torch."""
    code = "import sys, dpoframe.losses as l, dpoframe.metrics; l.names(), l.REGISTRY, l.combine; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_plugin_loss_needs_three_lines() -> None:
    """A loss of another package sets the facts as plain class attributes; rewards and scale come by themselves."""

    @dataclasses.dataclass(frozen=True)
    class Plain(Loss):
        beta: float = 0.5
        uses_reference = False
        requires = frozenset({"shared"})

        def __call__(self, scores: Any) -> Any:
            return -scores.policy_chosen

    assert (Plain().uses_reference, Plain().couples_pairs, Plain().requires) == (False, False, {"shared"})
    assert Plain().reward_scale == 0.5
    assert [field.name for field in dataclasses.fields(Plain)] == ["beta"]
