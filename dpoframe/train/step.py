"""The arithmetic of one optimizer step that is scored in pieces, on several ranks."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from dpoframe.data.batching import PairBatch, StepBatch
from dpoframe.data.sampler import share
from dpoframe.loss import Loss
from dpoframe.modality import GradientHint
from dpoframe.types import PairScores, Scores

Columns = dict[str, Tensor]
"""(B,) tensors by name: the fields of `PairScores`, its details, and `loss`, `weight`, `units`, `term/...` beside them."""

FIELDS = tuple(field.name for field in fields(PairScores) if field.name != "detail")
LOSS, WEIGHT, UNITS, TERM = "loss", "weight", "units", "term/"


def to_columns(scores: PairScores, pairs: PairBatch, losses: Tensor, terms: Mapping[str, Tensor]) -> Columns:
    """Everything that is known of a micro-batch's pairs, detached. A hook's term counts for each pair alike."""
    made = {name: getattr(scores, name) for name in FIELDS}
    made |= {name: value for name, value in scores.detail.items() if value.ndim == 1}
    made |= {LOSS: losses, WEIGHT: pairs.weight, UNITS: pairs.units}
    made |= {TERM + name: value.expand(len(pairs.ids)) for name, value in terms.items()}
    return {name: value.detach() for name, value in made.items()}


def to_scores(columns: Columns, detail: Mapping[str, Tensor]) -> PairScores:
    """`PairScores` of columns, with facts of the step and the loss's state added to the detail."""
    other = {LOSS, WEIGHT, UNITS, *FIELDS}
    kept = {name: value for name, value in columns.items() if name not in other and not name.startswith(TERM)}
    return PairScores(**{name: columns[name] for name in FIELDS}, detail={**kept, **detail})


def join(parts: Sequence[Columns]) -> Columns:
    """Micro-batches one after the other."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def gather(columns: Columns, pairs: int, strategy: Any) -> Columns:
    """The columns of the whole step, rank after rank, in one exchange.

    Args:
        columns: This rank's.
        pairs: Pairs of the step over all ranks; ranks hold the slices that `share` gives.
        strategy: Lightning's strategy.
    """
    world = strategy.world_size
    if world == 1:
        return columns
    names = sorted(columns)
    kind = torch.float32 if strategy.root_device.type == "mps" else torch.float64
    rows = torch.stack([columns[name].to(kind) for name in names])
    padded = torch.nn.functional.pad(rows, (0, -(-pairs // world) - rows.shape[1]))
    everyone = [torch.empty_like(padded) for _ in range(world)]
    torch.distributed.all_gather(everyone, padded.contiguous())
    sizes = [len(range(pairs)[share(pairs, rank, world)]) for rank in range(world)]
    whole = torch.cat([everyone[rank][:, :size] for rank, size in enumerate(sizes)], dim=1)
    return dict(zip(names, whole, strict=True))


def no_pairs(others: Sequence[Columns], device: torch.device) -> Columns:
    """Columns of a rank that has no share in the last validation step, named as those before; in the first every rank has one."""
    return {name: torch.zeros(0, device=device) for name in others[-1]}


def score_gradients(loss: Loss, scores: PairScores, weight: Tensor) -> tuple[Columns, Tensor]:
    """Derivative of the step's mean loss by each of the policy's scores, and the (B,) losses."""
    leaves = {name: getattr(scores, name) for name in ("policy_chosen", "policy_rejected")}
    leaves |= {name: value for name, value in scores.detail.items() if name.startswith(("policy_chosen/", "policy_rejected/"))}
    leaves = {name: value.detach().requires_grad_() for name, value in leaves.items() if value.is_floating_point()}
    with torch.enable_grad():
        losses = loss(replace_all(scores, leaves))
        found = torch.autograd.grad((losses * weight).mean(), list(leaves.values()), allow_unused=True)
    gradients = {name: value for name, value in zip(leaves, found, strict=True) if value is not None}
    return gradients, losses.detach()


def replace_all(scores: PairScores, values: Columns) -> PairScores:
    """`scores` with fields and details exchanged by name."""
    own = {name: value for name, value in values.items() if name in FIELDS}
    return scores.replace(**own, detail={**scores.detail, **{name: value for name, value in values.items() if name not in own}})


def linear_in_scores(scores: PairScores, gradients: Columns) -> Tensor:
    """A scalar whose derivative by the policy's scores is `gradients`."""
    known = {**{name: getattr(scores, name) for name in FIELDS}, **scores.detail}
    return torch.stack([(known[name] * gradient).sum() for name, gradient in gradients.items()]).sum()


def hint_from_gradients(gradients: Columns) -> GradientHint:
    """The hint where the derivative is known beforehand; a side that the loss does not read has none, which counts as 0."""
    none = torch.zeros_like(next(iter(gradients.values())))
    known = torch.cat([gradients.get(name, none) for name in ("policy_chosen", "policy_rejected")])
    return lambda values, index: known[index].to(values)


def hint_from_loss(loss: Loss, pairs: PairBatch, reference: Scores | None, detail: Mapping[str, Tensor]) -> GradientHint:
    """The hint of a loss that looks at one pair at a time: its derivative by the values of whole pairs."""

    def hint(values: Tensor, index: Tensor) -> Tensor:
        order = index.argsort()
        picked = index[order]
        half = len(picked) // 2
        with torch.enable_grad():
            leaf = values.detach()[order].requires_grad_()
            policy = Scores(leaf, pairs.lengths[picked])
            other = Scores(torch.zeros_like(leaf) if reference is None else reference.value[picked], policy.length)
            losses = loss(PairScores.from_scores(policy, other, detail)) * pairs.weight[picked[:half]]
            (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        return gradient[order.argsort()]

    return hint


def own_parts(columns: Columns, batch: StepBatch, strategy: Any) -> list[Columns]:
    """Of the whole step's columns this rank's share, cut into its micro-batches."""
    mine = share(batch.pairs, strategy.global_rank, strategy.world_size)
    sizes = [len(pairs.ids) for pairs in batch.own]
    parts = {name: torch.split(value[mine], sizes) for name, value in columns.items()}
    return [{name: values[number] for name, values in parts.items()} for number in range(len(sizes))]


def synchronised(strategy: Any, last: bool) -> AbstractContextManager[Any]:
    """Context of a backward: ranks exchange gradients in the step's last one alone, where the strategy can wait."""
    block = getattr(strategy, "block_backward_sync", None)
    return contextlib.nullcontext() if last or block is None else block()
