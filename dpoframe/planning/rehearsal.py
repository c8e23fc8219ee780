"""One optimizer step of a run, gone through without weights: who holds how many bytes, and what the step computes."""

from __future__ import annotations

import contextlib
import inspect
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from dpoframe.config.recipe import Recipe
from dpoframe.data.batching import PairBatch, StepBatch
from dpoframe.loss import Loss
from dpoframe.modality import Batch, Modality
from dpoframe.planning.ledger import Ledger
from dpoframe.train import step as arithmetic
from dpoframe.train.reference import AdapterReference, ModelReference, MovingReference, Reference, copy_of
from dpoframe.train.schedule import clip, make_optimizer
from dpoframe.train.scoring import PairScorer
from dpoframe.types import Scores

WEIGHTS, REFERENCE, GRADIENTS, OPTIMIZER = "weights", "reference", "gradients", "optimizer"
_ALONE: Any = SimpleNamespace(world_size=1, global_rank=0)
_TYPES = {"16": torch.float16, "bf16": torch.bfloat16, "64": torch.float64}


class StoredReference(Reference):
    """Stands for `cached`: scores of the right shape from nowhere."""

    def __init__(self, details: Iterable[str]) -> None:
        super().__init__()
        self.details = list(details)

    def score(self, modality: Modality, policy: nn.Module, inputs: Batch, keys: Sequence[str]) -> Scores:
        """(n,) zeros."""
        value = torch.zeros(len(keys), dtype=torch.float64)
        return Scores(value, torch.ones(len(keys), dtype=torch.long), {name: value.clone() for name in self.details})


@dataclass
class Rehearsal:
    """Policy, reference and optimizer of a run without values.

    Attributes:
        recipe: The run.
        modality: With the details switched on that the loss needs.
        loss: The run's loss.
        policy: What `Modality.outline` gave, on the meta device.
    """

    recipe: Recipe
    modality: Modality
    loss: Loss
    policy: nn.Module
    ledger: Ledger = field(default_factory=Ledger)
    fake: FakeTensorMode = field(default_factory=lambda: FakeTensorMode(allow_non_fake_inputs=True))

    def __post_init__(self) -> None:
        """Gives policy and reference fake tensors in place of those on the meta device."""
        kind, _, precision = self.recipe.trainer.precision.partition("-")
        if precision == "true" and kind in _TYPES:
            self.policy.to(_TYPES[kind])
        self.reference = self._reference()
        with self.fake:
            materialise([self.policy, self.reference])
        self._note(self.policy, WEIGHTS)
        self._note(self.reference, REFERENCE)
        for parameter in self._trained():
            parameter.register_post_accumulate_grad_hook(self._note_gradient)
        self.scorer = PairScorer(self.modality, self.policy, self.reference, self.loss)
        with self.fake:
            self.optimizer = self._optimizer()

    def forward(self, pairs: PairBatch) -> int:
        """Operations of scoring a micro-batch once without gradients."""
        with self._watching() as ledger, torch.no_grad():
            before = ledger.operations
            self.modality.score(self.policy, self._faked(pairs).inputs)
            return ledger.operations - before

    def step(self, micro: Sequence[PairBatch]) -> int:
        """Operations of one optimizer step over these micro-batches. The optimizer's own, a few a weight, are not counted."""
        pairs = sum(len(one.ids) for one in micro)
        batch = StepBatch(0, 0.0, pairs, 1.0, [self._faked(one) for one in micro])
        with self._watching() as ledger:
            before = ledger.operations
            self.optimizer.zero_grad()
            facts = self.scorer.facts(batch, {})
            ahead = self.scorer.look_ahead(batch, facts, _ALONE)
            for number, one in enumerate(batch.micro):
                if ahead is None:
                    scores = self.scorer.score(one, self.scorer.fixed(one), facts)
                    total = (self.loss(scores) * one.weight).sum() / pairs
                else:
                    gradients = ahead.gradients[number]
                    hint = arithmetic.hint_from_gradients(gradients)
                    scores = self.scorer.score(one, ahead.fixed[number], facts, hint)
                    total = arithmetic.linear_in_scores(scores, gradients)
                total.backward()
                del scores, total
            clip(SimpleNamespace(precision_plugin=None, strategy=None), self.optimizer, self.recipe.trainer.gradient_clip_val)
            self.optimizer.step()
            self._note_state()
            self.reference.after_step(self.policy)
            return ledger.operations - before

    def counts(self) -> tuple[int, int, dict[str, int]]:
        """Parameters, those that are trained, and parameters by type."""
        types: Counter[str] = Counter()
        for parameter in self.policy.parameters():
            types[str(parameter.dtype).removeprefix("torch.")] += parameter.numel()
        return sum(types.values()), sum(parameter.numel() for parameter in self._trained()), dict(types)

    def state_size(self) -> int:
        """Bytes of what a checkpoint holds: the parameters that are trained, and the optimizer's state."""
        return sum(one.numel() * one.element_size() for one in self._trained()) + self.ledger.now[OPTIMIZER]

    @contextlib.contextmanager
    def _watching(self) -> Iterator[Ledger]:
        kind, _, precision = self.recipe.trainer.precision.partition("-")
        half = torch.autocast("cpu", _TYPES[kind]) if precision == "mixed" else contextlib.nullcontext()
        with self.fake, self.ledger, half:
            yield self.ledger

    def _trained(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.policy.parameters() if parameter.requires_grad]

    def _reference(self) -> Reference:
        section = self.recipe.reference
        if section.kind == "cached":
            return StoredReference(self.loss.requires)
        if section.kind == "adapter":
            return AdapterReference()
        if section.kind == "ema":
            return MovingReference(copy_of(self.policy), self.policy, section.decay)
        return ModelReference(copy_of(self.policy)) if section.kind == "copy" else Reference()

    def _optimizer(self) -> torch.optim.Optimizer:
        made = make_optimizer(self.policy.parameters(), self.recipe.trainer)
        # Fake parameters are of a type of their own, for which the one kernel is not chosen by itself.
        if "fused" in inspect.signature(type(made)).parameters:
            for group in made.param_groups:
                group["fused"], group["foreach"] = True, False
        return made

    def _faked(self, pairs: PairBatch) -> PairBatch:
        """The batch with fake tensors for those of floating-point numbers."""
        kind, _, precision = self.recipe.trainer.precision.partition("-")
        wanted = _TYPES.get(kind) if precision == "true" else None

        def fake(tensor: Tensor) -> Tensor:
            if not tensor.is_floating_point():
                return tensor
            made = torch.empty(tensor.shape, dtype=wanted or tensor.dtype)
            self.ledger.note(made, "batch")
            return made

        with self.fake:
            return apply_to_collection(pairs, Tensor, fake)  # type: ignore[no-any-return]

    def _note(self, module: nn.Module, kind: str) -> None:
        for tensor in (*module.parameters(), *module.buffers()):
            self.ledger.note(tensor, kind, again=False)

    def _note_gradient(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.ledger.note(parameter.grad, GRADIENTS)

    def _note_state(self) -> None:
        for state in self.optimizer.state.values():
            for value in state.values():
                if isinstance(value, Tensor):
                    self.ledger.note(value, OPTIMIZER)


def materialise(modules: Iterable[nn.Module]) -> None:
    """Puts fake tensors on the CPU in the place of those on the meta device; what modules share stays shared.

    Called within a `FakeTensorMode`.
    """
    made: dict[int, Tensor] = {}
    kept: list[Any] = []

    def fake(tensor: Any) -> Any:
        if not isinstance(tensor, Tensor) or not tensor.is_meta:
            return tensor
        if id(tensor) not in made:
            kept.append(tensor)  # a number of an object that is gone could come again
            empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
            made[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
        return made[id(tensor)]

    for part in (part for module in modules for part in module.modules()):
        for table in (part._parameters, part._buffers, vars(part)):
            table.update({name: fake(value) for name, value in table.items() if isinstance(value, Tensor)})
