"""How long a run is, its optimizer, and how the learning rate goes."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from dpoframe.config.sections import TrainerSection
from dpoframe.errors import ConfigError, suggestion


def total_steps(settings: TrainerSection, pairs: int | None) -> int:
    """Optimizer steps of the run: `max_steps`, or enough to see every pair `max_epochs` times (1 where neither is given)."""
    if settings.max_steps is not None:
        return settings.max_steps
    if pairs is None:
        raise ConfigError("With data.window the number of pairs is not known before training: set trainer.max_steps.")
    epochs = 1.0 if settings.max_epochs is None else settings.max_epochs
    return max(1, math.ceil(epochs * pairs / settings.batch_size - 1e-9))


def make_optimizer(parameters: Iterable[nn.Parameter], settings: TrainerSection, scaler: Any = None) -> torch.optim.Optimizer:
    """The named optimizer of `torch.optim`. Weight decay spares vectors and scalars (biases, norms), as is usual.

    Where torch has the update as one kernel, that is used: on a CPU it takes a fifth of the time. Not where a loss `scaler`
    scales the gradients, because Lightning then leaves it to the optimizer to take the factor out, after the clipping.
    """
    known = {name.lower(): kind for name, kind in vars(torch.optim).items() if inspect.isclass(kind) and name != "Optimizer"}
    if settings.optimizer not in known:
        hint = suggestion(settings.optimizer, known)
        raise ConfigError(
            f"trainer.optimizer is {settings.optimizer!r}; torch.optim has {', '.join(sorted(known))}. {hint}".rstrip()
        )
    kind: Any = known[settings.optimizer]
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise ConfigError("The model has no parameter to train: everything that build() returned is frozen.")
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    takes = inspect.signature(kind).parameters
    extra: dict[str, Any] = {"betas": tuple(settings.betas)} if "betas" in takes else {}
    if "fused" in takes and scaler is None and all(_fusible(kind, parameter) for parameter in trained):
        extra["fused"] = True
    try:
        made: torch.optim.Optimizer = kind([group for group in groups if group["params"]], lr=settings.lr, **extra)
    except (TypeError, ValueError) as error:  # muon, for example, takes matrices only
        raise ConfigError(f"trainer.optimizer {settings.optimizer!r} does not take this model's parameters: {error}") from error
    made.register_load_state_dict_pre_hook(_with_own_kernel)
    return made


def _with_own_kernel(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any] | None:
    """A checkpoint as this optimizer takes it: what updates at once elsewhere, on another device or split, need not here."""
    own = optimizer.param_groups
    if len(own) != len(state["param_groups"]):
        return None
    kernels = [{"fused": group["fused"]} if "fused" in group else {} for group in own]
    return {**state, "param_groups": [saved | kernel for saved, kernel in zip(state["param_groups"], kernels, strict=True)]}


def _fusible(kind: type, parameter: nn.Parameter) -> bool:
    if kind is torch.optim.SGD and parameter.device.type == "cpu" and parameter.element_size() < 4:
        return False  # that kernel leaves most weights as they are
    return type(parameter) is nn.Parameter and parameter.device.type in ("cpu", "cuda") and parameter.is_floating_point()


def make_schedule(optimizer: torch.optim.Optimizer, settings: TrainerSection, total: int) -> LambdaLR:
    """Linear warm-up over `warmup` (a share of the run below 1, else steps), then the schedule down to 0."""
    warmup = math.ceil(settings.warmup * total) if settings.warmup < 1 else int(settings.warmup)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = min(1.0, (step - warmup) / max(1, total - warmup))
        return {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2, "constant": 1.0}[settings.schedule]

    return LambdaLR(optimizer, factor)


def scaler_of(trainer: Any) -> Any:
    """The loss scaler of float16 training, or None."""
    return getattr(trainer.precision_plugin, "scaler", None)


def clip(trainer: Any, optimizer: torch.optim.Optimizer, limit: float | None) -> torch.Tensor:
    """Clips the gradients to a total norm of `limit` (None: leaves them) and returns the norm before, 0-dim, on the device.

    Under a loss scaler they stay scaled, since Lightning takes the factor out right before the update; the norm is without it.
    """
    if hasattr(trainer.strategy, "gradient_norm"):  # it holds the gradients, and clips them in the update
        return trainer.strategy.gradient_norm()  # type: ignore[no-any-return]
    scaler = scaler_of(trainer)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    norm = norm if scaler is None else norm / scaler.get_scale()
    if limit is not None:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm
