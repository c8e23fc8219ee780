"""Preference losses by name: pure functions of `PairScores` that give the loss of each pair.

`create("sigmoid", beta=0.1)(scores)` makes one and applies it. Importing this package imports no torch; a loss's own
module does, when the loss is made.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from dpoframe.errors import UnknownNameError, suggestion
from dpoframe.loss import Loss
from dpoframe.losses.combined import combine
from dpoframe.losses.parameters import check

__all__ = ["REGISTRY", "combine", "create", "names"]

_CLASSES = {
    "direct": {
        "sigmoid": "Sigmoid",
        "hinge": "Hinge",
        "ipo": "Ipo",
        "robust": "Robust",
        "exo_pair": "ExoPair",
        "discopop": "Discopop",
        "sigmoid_norm": "SigmoidNorm",
        "dpop": "Dpop",
    },
    "separate": {
        "nca_pair": "NcaPair",
        "bco_pair": "BcoPair",
        "sppo_hard": "SppoHard",
        "apo_zero": "ApoZero",
        "apo_down": "ApoDown",
        "kto": "Kto",
    },
    "ranked": {"aot": "Aot", "aot_unpaired": "AotUnpaired"},
    "free": {"sft": "Sft", "simpo": "Simpo", "orpo": "Orpo", "cpo": "Cpo"},
}

REGISTRY: Mapping[str, str] = MappingProxyType(
    {name: f"dpoframe.losses.{module}:{cls}" for module, classes in _CLASSES.items() for name, cls in classes.items()}
)
"""Where each loss lives: name to `"module:Class"`."""


def names() -> list[str]:
    """The names `create` knows, sorted."""
    return sorted(REGISTRY)


def create(name: str, **fields: Any) -> Loss:
    """The loss called `name` with the given parameters.

    Raises:
        UnknownNameError: No loss has that name; the message suggests the nearest.
        ConfigError: A parameter is unknown or its value out of range; the message has all faults.
    """
    if name not in REGISTRY:
        known = ", ".join(names())
        raise UnknownNameError(
            f"There is no loss {name!r}. {suggestion(name, REGISTRY)} The losses are: {known}.".replace("  ", " ")
        )
    module, _, cls_name = REGISTRY[name].partition(":")
    cls: type[Loss] = getattr(importlib.import_module(module), cls_name)
    check(cls, name, fields)
    return cls(**fields)
