"""The state of training that DeepSpeed lays over the ranks, by parameter, as one rank alone would have it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

STEP = "step"
"""The one entry of an optimizer's state that is a number for the whole parameter, and the same for all."""


class ZeroState:
    """What DeepSpeed's optimizer of a stage holds.

    It keeps parameters one after the other in flat tensors, of which each rank has a part.

    Args:
        zero: DeepSpeed's optimizer.
        trained: The parameters of each group, in their order before they were flattened.
        stage: 1, 2 or 3.
        rank: This rank.
    """

    def __init__(self, zero: Any, trained: list[list[nn.Parameter]], stage: int, rank: int) -> None:
        self.zero, self.trained, self.stage, self.rank = zero, trained, stage, rank

    @property
    def flats(self) -> list[Tensor]:
        """This rank's parts, as the torch optimizer knows them."""
        name = "fp32_partitioned_groups_flat" if self.stage == 3 else "single_partition_of_fp32_groups"
        found: list[Tensor] = getattr(self.zero, name)
        return found

    def norm(self) -> Tensor:
        """Of the gradient of all parameters."""
        from deepspeed.runtime.utils import combine_grad_norm_groups

        if self.stage < 3:
            return self.zero.scaled_global_norm()  # type: ignore[no-any-return]
        return combine_grad_norm_groups(self.zero._get_norm_groups())  # type: ignore[no-any-return]

    def forget_gradient(self) -> None:
        """Leaves nothing of the step's gradient, as the engine does where an update is passed over."""
        self.zero.zero_grad()
        if self.stage == 3:
            self.zero.averaged_gradients = {}
            self.part_all()
            return
        for kept in (self.zero.averaged_gradients, self.zero.all_grad_tensors):
            for group in kept:
                kept[group] = None
        self.zero._release_preflattened_grad_buffers()

    def part_all(self) -> None:
        """Lets go of every parameter that is gathered at the moment; stage 3 alone has such."""
        if self.stage == 3:
            self.zero.empty_partition_cache()

    @torch.no_grad()
    def optimizer_state(self, keep: bool) -> dict[str, Any]:
        """In the form of a torch optimizer's `state_dict`. All ranks call it; those that do not `keep` get no values."""
        from deepspeed.utils import safe_get_full_optimizer_state

        known = self.zero.optimizer.state.get(self.flats[0], {}) if self.flats else {}
        split = [name for name in known if name != STEP]
        if known:
            self._link()
        state: dict[int, Any] = {}
        groups, number = [], count()
        for group, parameters in zip(self.zero.param_groups, self.trained, strict=True):
            numbers = [next(number) for _ in parameters]
            for index, parameter in zip(numbers, parameters, strict=True):
                wholes = {name: safe_get_full_optimizer_state(parameter, name) for name in split}
                if keep and known:
                    state[index] = {name: wholes.get(name, known[name]).to("cpu", copy=True) for name in known}
            settings = {name: value for name, value in group.items() if name not in ("params", "matrices")}
            groups.append({**settings, "params": numbers})
        return {"state": state, "param_groups": groups}

    @torch.no_grad()
    def load(self, saved: Mapping[str, Any]) -> None:
        """Takes on a torch optimizer's `state_dict` of the same parameters."""
        for group, kept in zip(self.zero.param_groups, saved["param_groups"], strict=True):
            group.update({name: value for name, value in kept.items() if name != "params"})
        if not saved["state"]:
            return
        self._begin(saved["state"][0])
        for index, parameter in enumerate(parameter for parameters in self.trained for parameter in parameters):
            for name, value in saved["state"][index].items():
                if name != STEP:
                    put_state(parameter, name, value, self.rank)

    def _begin(self, example: Mapping[str, Tensor]) -> None:
        """Makes the state that the torch optimizer would make in its first step: zeros, and the number of steps."""
        settings = self.zero.param_groups[0]
        on_device = settings.get("fused") or settings.get("capturable")
        for flat in self.flats:
            self.zero.optimizer.state[flat] = {
                name: torch.zeros_like(flat) if name != STEP else value.to(flat.device if on_device else "cpu", copy=True)
                for name, value in example.items()
            }
        self._link()

    def _link(self) -> None:
        """Tells parameters where their state lies. DeepSpeed does it after its first group's first update, for no later group."""
        if self.stage == 3:
            return
        for flat, parameters in zip(self.flats, self.zero.bit16_groups, strict=True):
            for parameter in parameters:
                if parameter._hp_mapping is not None:
                    parameter._hp_mapping.set_optim_state_fragment(flat, self.zero.optimizer.state[flat])


def gathered_zero(value: Tensor) -> Tensor:
    """A tensor whole; where it is split, all ranks call this."""
    if not hasattr(value, "ds_id"):
        return value.detach()
    import deepspeed

    with deepspeed.zero.GatheredParameters([value]):
        return value.detach().clone()


def own_part(parameter: Any, whole: Tensor, rank: int) -> Tensor:
    """What this rank holds of a split parameter, from its whole: equal parts, the last ones filled up with zeros."""
    size = parameter.ds_tensor.numel()
    part = whole.flatten()[rank * size : (rank + 1) * size]
    return torch.nn.functional.pad(part, (0, size - len(part))).to(parameter.ds_tensor.device, torch.float32)


def put(value: Any, whole: Tensor, rank: int) -> None:
    """Gives a parameter or buffer a value: what computes, and what the optimizer updates."""
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_local_fp32_param

    if not hasattr(value, "ds_id"):
        value.data.copy_(whole)
        if hasattr(value, "_hp_mapping"):
            safe_set_full_fp32_param(value, whole.to(value.device, torch.float32))
        return
    part = own_part(value, whole, rank)
    value.ds_tensor.data.copy_(part)
    if value.requires_grad:
        safe_set_local_fp32_param(value, part)


def put_state(parameter: Any, name: str, whole: Tensor, rank: int) -> None:
    """Gives the optimizer's state of a parameter its values."""
    from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

    if hasattr(parameter, "ds_id"):
        safe_set_local_optimizer_state(parameter, own_part(parameter, whole, rank), name)
    else:
        safe_set_full_optimizer_state(parameter, whole.to(parameter.device, torch.float32), name)
