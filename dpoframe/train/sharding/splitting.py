"""Splits a model over the ranks of a mesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from dpoframe.errors import ConfigError
from dpoframe.train.sharding.root import ROOT, Root, is_split

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def split(model: nn.Module, blocks: Sequence[nn.Module], mesh: DeviceMesh) -> None:
    """Splits every parameter over the ranks along its first dimension, in place (`torch.distributed.fsdp.fully_shard`).

    Args:
        model: On every rank with the same values.
        blocks: Parts of it that are gathered one at a time, each when it is called; what lies in none of them is gathered for
            the whole of a forward, and again for the backward.
        mesh: Of one dimension, the ranks.

    Raises:
        ConfigError: the model has parameters that cannot be split.
    """
    if is_split(model):
        return
    from torch.distributed.fsdp import fully_shard

    whole = [name for name, value in model.named_parameters() if value.ndim == 0 or not value.is_floating_point()]
    if whole:
        raise ConfigError(
            f"trainer.strategy 'fsdp' splits parameters, and {whole[0]} cannot be split: it is a scalar or no floating-point "
            "tensor (weights of 4 or 8 bits are none). Take trainer.strategy: ddp."
        )
    root = Root(model)
    known = {id(part): depth for depth, part in enumerate(model.modules())}
    for block in sorted(separable(model, blocks), key=lambda part: known[id(part)], reverse=True):  # the inner ones first
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(root, mesh=mesh, reshard_after_forward=True)
    model.__dict__[ROOT] = root


def separable(model: nn.Module, blocks: Sequence[nn.Module]) -> list[nn.Module]:
    """The blocks of which no parameter is used outside as well, as an embedding's is by the head that shares it.

    A parameter can be gathered with one block alone; the others stay with what lies around them.
    """
    places: dict[int, set[str]] = {}
    for name, value in model.named_parameters(remove_duplicate=False):
        places.setdefault(id(value), set()).add(name)
    names: dict[int, list[str]] = {}
    for name, part in model.named_modules(remove_duplicate=False):
        names.setdefault(id(part), []).append(name)

    def is_apart(block: nn.Module) -> bool:
        own = list(block.named_parameters(remove_duplicate=False))
        inside = {f"{place}.{name}".lstrip(".") for place in names[id(block)] for name, _ in own}
        return all(places[id(value)] <= inside for _, value in own)

    return [block for block in blocks if is_apart(block)]
