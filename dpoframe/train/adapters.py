"""Adapters before training: which of their tensors decide nothing yet. Read off peft's layout, without importing it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

# What peft puts into the names of the model that it wraps.
WRAPPED = "base_model.model."
INNER = (".base_layer.", ".original_module.")


def starting_state(model: nn.Module) -> list[tuple[str, Tensor]]:
    """The parameters and buffers that decide the scores of a model before training, by the names they have without adapters.

    What is left out is exactly without effect: both factors of a low-rank product while one of them is zero, which is how
    LoRA starts, and a module's copy to be trained whole while it equals the original. Everything else stays, such as the
    norms of DoRA, which undo the weights' own only up to rounding, and adapters that have been trained.
    """
    idle = tuple(idle_prefixes(model))
    state = model.state_dict()
    kept = ((name, value) for name, value in state.items() if isinstance(value, Tensor) and not name.startswith(idle))
    return [(plain_name(name), value) for name, value in kept]


def plain_name(name: str) -> str:
    """The name of a tensor in the model without adapters."""
    for part in INNER:
        name = name.replace(part, ".")
    return name.removeprefix(WRAPPED)


def idle_prefixes(model: nn.Module) -> Iterator[str]:
    """Beginnings of the names of tensors without effect."""
    for name, part in model.named_modules():
        for factor in _idle_factors(part):
            yield f"{name}.{factor}.".lstrip(".")
        if _untouched_copies(part):
            yield f"{name}.modules_to_save.".lstrip(".")


def _idle_factors(part: Any) -> tuple[str, ...]:
    if len(getattr(part, "lora_magnitude_vector", None) or ()):
        return ()
    found: tuple[str, ...] = ()
    if hasattr(part, "lora_A") and _is_zero(getattr(part, "lora_B", None)):  # the outer factor may have a bias
        found += ("lora_A", "lora_B")
    embedding = [getattr(part, name, None) for name in ("lora_embedding_A", "lora_embedding_B")]
    if None not in embedding and any(map(_is_zero, embedding)):
        found += ("lora_embedding_A", "lora_embedding_B")
    return found


def _is_zero(factor: Any) -> bool:
    return isinstance(factor, nn.Module) and not any(bool(value.any()) for value in factor.parameters())


def _untouched_copies(part: Any) -> bool:
    original, copies = getattr(part, "original_module", None), getattr(part, "modules_to_save", None)
    if not (isinstance(original, nn.Module) and isinstance(copies, nn.ModuleDict)):
        return False
    wanted = original.state_dict()
    return all(_equal(wanted, copy.state_dict()) for copy in copies.values())


def _equal(wanted: dict[str, Any], found: dict[str, Any]) -> bool:
    same = ((value, found[name]) for name, value in wanted.items() if name in found)
    return wanted.keys() == found.keys() and all(one.dtype == other.dtype and torch.equal(one, other) for one, other in same)
