"""What a run began with besides its recipe and its data: how the model reads examples, and its weights."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dpoframe.config.secrets import masked
from dpoframe.digests import tensors_digest
from dpoframe.errors import ConfigError, Fault
from dpoframe.modality import Modality
from dpoframe.train.adapters import starting_state
from dpoframe.train.changes import flat, is_allowed

KEY = "model"
"""Where it stands in environment.json."""
SAMPLED = 4096
"""Values of each tensor that are looked at: a model of billions of weights is told apart in seconds, not minutes."""


def beginning(modality: Modality, policy: nn.Module) -> dict[str, Any]:
    """The modality's fingerprint (tokenizer, template, resolution), and a digest of the policy before any training.

    The digest covers every tensor's name, type and shape, and `SAMPLED` of its values, evenly spaced: another base, or
    further training of the same, changes nearly all of them.
    """
    sampled = [(f"{name} {tuple(value.shape)}", _sample(value)) for name, value in starting_state(policy)]
    fingerprint = masked(json.loads(json.dumps(modality.fingerprint(), default=str)))
    return {"fingerprint": fingerprint, "weights": tensors_digest(sampled)}


def _sample(value: Tensor) -> Tensor:
    flat_value = value.detach().reshape(-1)
    if len(flat_value) <= SAMPLED:
        return flat_value
    return flat_value[torch.arange(SAMPLED, device=flat_value.device) * (len(flat_value) - 1) // (SAMPLED - 1)]


def require_beginning(environment: Path, now: Mapping[str, Any], allowed: Collection[str]) -> list[Fault]:
    """What of the model differs from what the run began with and is allowed to.

    Args:
        environment: The run's environment.json; one that names no model, or cannot be read, says nothing.
        now: What `beginning` gives of the model at hand.
        allowed: Items that may differ: `weights`, `modality`, or a part of the fingerprint such as `modality.tokens`.

    Raises:
        ConfigError: something differs that is not allowed; it names all of that.
    """
    then = _recorded(environment)
    if then is None:
        return []
    before, after = ({f"modality.{key}": value for key, value in flat(one["fingerprint"]).items()} for one in (then, now))
    told = [
        Fault(key, f"the run has {before.get(key)!r}, the model now gives {after.get(key)!r}.")
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]
    if then["weights"] != now["weights"]:
        told.append(Fault("weights", "the model's weights before training are not those that the run began with."))
    if refused := [fault for fault in told if not is_allowed(fault.where, allowed)]:
        raise ConfigError(
            f"The model is not what the run in {environment.parent} began with, so it cannot go on. Put it back (tokenizer, "
            "template, weights), or name what may differ with --allow-change. What differs:",
            refused,
        )
    return told


def _recorded(environment: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(environment.read_text(encoding="utf-8"))[KEY]
        return found if isinstance(found["fingerprint"], dict) and isinstance(found["weights"], str) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None
