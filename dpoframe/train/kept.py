"""Which parameters a checkpoint holds: what is trained, what moves with it, and buffers. Frozen weights are loaded anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from dpoframe.errors import CheckpointError


def kept_names(module: nn.Module) -> set[str]:
    """Names, in the module's state, of trained parameters, the policy's buffers, and a moving reference's parameters."""
    state = module.state_dict(keep_vars=True)
    frozen = {id(parameter) for parameter in module.parameters() if not parameter.requires_grad}
    kept = {name for name, value in state.items() if name.startswith("policy.") and id(value) not in frozen}
    moving = getattr(module.reference, "moving", ())
    return kept | {f"reference.model.{name}" for name in moving}


def keep_trained(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a state that is kept."""
    names = kept_names(module)
    return {name: value for name, value in state.items() if name in names}


def require_trained(module: nn.Module, saved: Mapping[str, Any]) -> None:
    """Raises `CheckpointError` where a checkpoint holds other parameters than this module would save, or of other shapes."""
    wanted = kept_names(module)
    missing, unknown = sorted(wanted - set(saved)), sorted(set(saved) - wanted)
    if missing or unknown:
        raise CheckpointError(
            f"The checkpoint does not fit the model: it lacks {len(missing)} parameters ({', '.join(missing[:3])}) and has "
            f"{len(unknown)} that the model lacks ({', '.join(unknown[:3])}). Resume with the recipe and libraries it was made by."
        )
    state = module.state_dict(keep_vars=True)
    shapes = {name: (_shape(saved[name]), _shape(state[name])) for name in sorted(wanted)}
    if other := [name for name, (then, now) in shapes.items() if then != now]:
        then, now = shapes[other[0]]
        raise CheckpointError(
            f"The checkpoint does not fit the model: {other[0]} has the shape {then} there, and {now} in the model. Resume with "
            "the recipe and libraries it was made by."
        )


def _shape(value: Any) -> tuple[int, ...]:
    """That of the whole, under whatever strategy."""
    return tuple(getattr(value, "ds_shape", getattr(value, "shape", ())))
