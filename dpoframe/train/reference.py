"""The reference: what the policy is measured against.

Every kind answers one question, the scores of a micro-batch's examples without gradients:

    copy     a second model; frozen parameters are the policy's own, not copies
    ema      as copy, following the policy as an exponential moving average
    adapter  the policy with its adapter switched off
    cached   scores computed once, before training, and kept on disk
    none     zeros
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor, nn

from dpoframe.config.recipe import Recipe
from dpoframe.config.sections import ReferenceSection
from dpoframe.errors import ConfigError
from dpoframe.loss import Loss
from dpoframe.modality import Batch, Modality
from dpoframe.train.cache import ScoreStore, cache_folder, store_digest
from dpoframe.train.sharding.root import score
from dpoframe.types import Scores


def copy_of(policy: nn.Module) -> nn.Module:
    """A frozen copy in evaluation mode. Parameters that are frozen in the policy are shared: they cost no memory."""
    shared = {id(parameter): parameter for parameter in policy.parameters() if not parameter.requires_grad}
    return copy.deepcopy(policy, dict(shared)).requires_grad_(False).eval()


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Context in which the model has no dropout; each part gets its own mode back afterwards."""
    training = [part for part in model.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


class Reference(nn.Module):
    """`none`, and the base of the other kinds."""

    exact_at_start = False

    def score(self, modality: Modality, policy: nn.Module, inputs: Batch, keys: Sequence[str]) -> Scores | None:
        """Scores of the n examples of a batch, whose names are `keys`; None where there is no reference."""
        return None

    def after_step(self, policy: nn.Module) -> None:
        """Called when the policy has changed."""


class ModelReference(Reference):
    """`copy`, and whatever module a plugin supplies."""

    exact_at_start = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> ModelReference:
        """A reference stays in evaluation mode, whatever the trainer sets."""
        return self

    @torch.no_grad()
    def score(self, modality: Modality, policy: nn.Module, inputs: Batch, keys: Sequence[str]) -> Scores:
        """Scores by the second model."""
        return score(modality, self.model, inputs)


class MovingReference(ModelReference):
    """`ema`: after each step every trained parameter r becomes decay r + (1 - decay) p, p the policy's."""

    def __init__(self, model: nn.Module, policy: nn.Module, decay: float) -> None:
        super().__init__(model)
        self.decay = decay
        self.moving = [name for name, parameter in policy.named_parameters() if parameter.requires_grad]

    @torch.no_grad()
    def after_step(self, policy: nn.Module) -> None:
        """Follows the policy."""
        own, new = _held(self.model), _held(policy)
        torch._foreach_lerp_([own[name] for name in self.moving], [new[name] for name in self.moving], 1 - self.decay)


def _held(model: nn.Module) -> dict[str, Tensor]:
    """The parameters, or this rank's rows of them where the model is split: policy and reference are split alike."""
    return {name: _own(value) for name, value in model.named_parameters()}


def _own(value: Tensor) -> Tensor:
    part: Tensor = value.to_local() if hasattr(value, "to_local") else getattr(value, "ds_tensor", value)
    return part


class AdapterReference(Reference):
    """`adapter`: the policy itself, its adapter off and in evaluation mode."""

    exact_at_start = True

    @torch.no_grad()
    def score(self, modality: Modality, policy: nn.Module, inputs: Batch, keys: Sequence[str]) -> Scores:
        """Scores by the policy as it was before training."""
        with evaluation_mode(policy), modality.without_adapter(policy):
            return score(modality, policy, inputs)


class CachedReference(Reference):
    """`cached`: scores looked up by the names of the examples. `store` is filled before training starts."""

    exact_at_start = True

    def __init__(self, store: ScoreStore, model: nn.Module) -> None:
        super().__init__()
        self.store = store
        self._model = (model,)  # a tuple, so that it is no part of this module: it is needed before training only

    @property
    def model(self) -> nn.Module:
        """What makes missing scores: the policy before training, or a plugin's reference."""
        return self._model[0]

    def score(self, modality: Modality, policy: nn.Module, inputs: Batch, keys: Sequence[str]) -> Scores:
        """Stored scores, on the policy's device."""
        device = next(policy.parameters()).device
        found = self.store.lookup(keys)

        def put(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True) if device.type != "mps" else tensor.float().to(device)

        return Scores(put(found.value), put(found.length), {name: put(value) for name, value in found.detail.items()})


def make_reference(
    section: ReferenceSection,
    modality: Modality,
    policy: nn.Module,
    made: nn.Module | None,
    details: Collection[str],
    precision: str,
) -> Reference:
    """The reference of a run.

    Args:
        section: The recipe's `reference`.
        modality: With the details switched on that the loss needs.
        policy: Before any training.
        made: What the hook `dpoframe_reference` gave: a plugin's module, the core's copy, or None.
        details: Their names.
        precision: The run's precision.
    """
    if section.kind == "cached":
        model = policy if made is None else made
        digest = store_digest(modality, model, details, precision)
        return CachedReference(ScoreStore((section.folder or cache_folder()) / digest), model)
    if section.kind == "ema" and made is not None:
        return MovingReference(made, policy, section.decay)
    if made is not None:
        return ModelReference(made)
    return AdapterReference() if section.kind == "adapter" else Reference()


def require_reference(recipe: Recipe, loss: Loss) -> None:
    """Raises `ConfigError` where a loss reads of the reference what the recipe's kind does not give."""
    names = ", ".join(one.part.name for one in recipe.loss)
    if recipe.reference.kind == "cached" and loss.vectors:
        raise ConfigError(
            f"reference.kind is 'cached', but the loss ({names}) reads {', '.join(sorted(loss.vectors))}, a vector an example, of "
            "which nothing is kept. Take copy or adapter."
        )
    if recipe.reference.kind == "none" and loss.uses_reference:
        raise ConfigError(
            f"reference.kind is 'none', but the loss ({names}) compares with a reference. Take copy, adapter or cached."
        )
