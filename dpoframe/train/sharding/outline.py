"""The whole of a split model, put together on the first rank when it is written."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from dpoframe.train.sharding.zero_state import gathered_zero


class Outline:
    """A model's structure without values, taken before it was split."""

    def __init__(self, model: nn.Module) -> None:
        shapes = {id(value): _without_values(value) for value in model.parameters()}
        self.model: nn.Module = copy.deepcopy(model, dict(shapes))

    @torch.no_grad()
    def filled(self, split: nn.Module, keep: bool) -> nn.Module | None:
        """The model whole, in host memory, where `keep`; else None. All ranks call it.

        One parameter at a time is gathered, so that the device holds no more than that.
        """
        found: dict[int, nn.Parameter] = {}
        for (name, empty), (other, value) in zip(self.model.named_parameters(), split.named_parameters(), strict=True):
            assert name == other, "splitting keeps names and order"
            whole = gathered(value)
            if keep:
                found[id(empty)] = nn.Parameter(whole.to("cpu", copy=True), requires_grad=empty.requires_grad)
        if not keep:
            return None
        for part in self.model.modules():
            for name, unfilled in part._parameters.items():
                if unfilled is not None:
                    part._parameters[name] = found[id(unfilled)]
        for mine, now in zip(self.model.buffers(), split.buffers(), strict=True):
            mine.copy_(now)
        return self.model


def gathered(value: Tensor) -> Tensor:
    """A tensor whole, on the ranks that call this together."""
    if hasattr(value, "ds_id"):
        return gathered_zero(value)
    full = getattr(value, "full_tensor", None)
    whole: Tensor = value.detach() if full is None else full().detach()
    return whole


def _without_values(value: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(torch.empty_like(value, device="meta"), requires_grad=value.requires_grad)
