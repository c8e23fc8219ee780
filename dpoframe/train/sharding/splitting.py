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
    for block in sorted(blocks, key=lambda part: known[id(part)], reverse=True):  # the inner ones first
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(root, mesh=mesh, reshard_after_forward=True)
    model.__dict__[ROOT] = root
