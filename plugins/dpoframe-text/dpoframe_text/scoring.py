"""Scores of a packed batch: one pass of the transformer, and logits only where a response token is predicted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dpoframe import Scores
from dpoframe_text import layers
from dpoframe_text.attention import Segments
from dpoframe_text.heads import Parts, checkpointed_logps, pick, take_apart
from dpoframe_text.logprobs import Tiles, cut, cut_pairs, row_logps
from dpoframe_text.packing import PackedBatch, unpack
from dpoframe_text.support import direct, reason

if TYPE_CHECKING:
    from dpoframe import GradientHint

# Rows of a tile of logits: large enough for full matrix speed, small enough that the tile (rows x vocabulary x 4
# bytes, 64 MB at a vocabulary of 32,000) stays small beside the activations.
DEFAULT_CHUNK = 512
DIFFERING = "differing"
"""Detail of weighted scores: (N,) tokens that differ from the partner's response."""

# The hint needs all logits of a pair at once. A pair over this many chunks is not worth that memory: the batch then
# forms the head's gradient from recomputed logits.
_LARGEST_PAIR = 4


def score_packed(
    model: nn.Module,
    batch: PackedBatch,
    *,
    chunk: int = DEFAULT_CHUNK,
    details: Collection[str] = (),
    hint: GradientHint | None = None,
    response_only: bool = True,
    fused_head: bool = True,
    last_layer_skip: bool = True,
    weight: float | None = None,
) -> Scores:
    """Log-probabilities (N,) of the responses, summed in float64, with their graph where gradients are on.

    With `weight` the sums are weighted: tokens that the batch marks as different count whole, the others `weight`. The length
    stays the number of tokens, as `TextModality.measure` and with it the trainer counts them.

    Args:
        model: A causal language model of transformers, peft-wrapped or not.
        batch: What `pack` made. A flat row is turned into padded rows where the model's attention cannot read it.
        chunk: Rows of logits held at a time (rows x vocabulary x 4 bytes); up to four times as many with a hint.
        details: `shared`: (N,) the value over the first min(length, partner's length) tokens, with its graph.
            `wpo`: (N,) mean over tokens of log p_t - log sum_v p_v^2, without gradient (Zhou et al. 2024, arXiv 2406.11827).
        hint: See `Modality.score_with_hint`; speeds up the head's gradient, never changes it.
        response_only: Logits only of rows that predict a response token; off: the model's own logits of every position.
        fused_head: Use `hint`. Off: the head's gradient is formed in the backward, from recomputed logits.
        last_layer_skip: Run the layers of known families by `layers.run`: in the last layer, positions that predict nothing
            have only keys and values, and elementwise chains are fused. Off: transformers' own forward.
        weight: Of tokens that the two responses of a pair share, where the batch marks which differ; None for 1.
    """
    parts = take_apart(model)
    if batch.packed and (parts is None or reason(parts) is not None):
        batch = unpack(batch)
    collision: Tensor | None
    sums = _Sums(batch, row_weights(batch, weight))
    if parts is None or not response_only:
        logps, collision = _all_logits(model, batch)
    else:
        hidden = _hidden_rows(parts, batch, last_layer_skip)
        hint = hint if fused_head and torch.is_grad_enabled() else None
        logps, collision = _head(parts, hidden, batch, chunk, "wpo" in details, hint and _RowHint(batch, hint, sums.weights))
    extra = {"shared": lambda: sums.shared(logps), "wpo": lambda: sums.wpo(logps, collision)}
    found = {name: extra[name]() for name in sorted(details)}
    return Scores(sums.weighted(logps), batch.lengths, found if sums.weights is None else {**found, DIFFERING: sums.differing()})


def row_weights(batch: PackedBatch, weight: float | None) -> Tensor | None:
    """(H,) float64 (float32 where the device has none): 1 where a token differs from the partner's response, else `weight`."""
    if weight is None or batch.differs is None:
        return None
    wide = torch.float32 if batch.differs.device.type == "mps" else torch.float64
    return batch.differs.to(wide).mul_(1 - weight).add_(weight)


@dataclass(frozen=True)
class _Sums:
    """Sums over the rows of each example."""

    batch: PackedBatch
    weights: Tensor | None = None

    def weighted(self, logps: Tensor) -> Tensor:
        """(N,) sums of log-probabilities, each times its row's weight where rows have weights."""
        return self.total(logps if self.weights is None else logps.to(self.weights.dtype) * self.weights)

    def differing(self) -> Tensor:
        """(N,) how many tokens differ from the partner's response."""
        assert self.batch.differs is not None
        return torch.zeros_like(self.batch.lengths).index_add(
            0, self.batch.example, self.batch.differs.to(self.batch.lengths.dtype)
        )

    def total(self, terms: Tensor) -> Tensor:
        """(N,) float64 (float32 where the device has none)."""
        wide = terms.float() if terms.device.type == "mps" else terms.double()
        return wide.new_zeros(len(self.batch.lengths)).index_add(0, self.batch.example, wide)

    def shared(self, logps: Tensor) -> Tensor:
        """Sums over the tokens up to the shorter length of the pair; the whole sum where there is no partner."""
        batch = self.batch
        other = torch.where(batch.partner < 0, batch.lengths, batch.lengths[batch.partner.clamp_min(0)])
        return self.weighted(logps * (self._place() < other[batch.example]))

    def wpo(self, logps: Tensor, collision: Tensor | None) -> Tensor:
        """Means of log p_t - log sum_v p_v^2 over all tokens, whatever they weigh: it says how likely the response was."""
        assert collision is not None
        return self.total((logps - collision).detach()) / self.batch.lengths.clamp_min(1)

    def _place(self) -> Tensor:
        """(H,) number of each row within its example."""
        starts = torch.zeros(len(self.batch.lengths), dtype=torch.long)
        for example, start, _ in self.batch.spans:
            starts[example] = start
        device = self.batch.rows.device
        return torch.arange(len(self.batch.rows), device=device) - starts.to(device)[self.batch.example]


def _all_logits(model: nn.Module, batch: PackedBatch) -> tuple[Tensor, Tensor]:
    """The plain path: the model's own logits of every position."""
    inputs: dict[str, Any] = {"input_ids": batch.input_ids, "use_cache": False}
    if batch.packed:
        inputs |= _packed_inputs(batch)
    else:
        inputs["attention_mask"] = batch.attention_mask
    logits = model(**inputs).logits.flatten(0, 1)[batch.rows]
    return pick(logits if logits.dtype == torch.float64 else logits.float(), batch.targets)


def _packed_inputs(batch: PackedBatch) -> dict[str, Any]:
    # A mask of four dimensions is passed on as it is, so none is built; the segment attention does not read it.
    mask = batch.input_ids.new_ones(1, 1, 1, 1, dtype=torch.bool)
    return {"position_ids": batch.position_ids, "attention_mask": mask, "segments": Segments(batch.trees)}


def _hidden_rows(parts: Parts, batch: PackedBatch, last_layer_skip: bool) -> Tensor:
    """(H, D) last hidden state of every predicting position."""
    state: Tensor
    if batch.packed and last_layer_skip and direct(parts):
        state = layers.run(parts.decoder, batch.input_ids, batch.position_ids, batch.trees, skip=True)
        place = batch.rows.new_empty(batch.input_ids.shape[1])
        kept = layers.ends(batch.trees).to(place.device)
        place[kept] = torch.arange(len(kept), device=place.device)
        return state[place[batch.rows]]
    inputs: dict[str, Any] = {"input_ids": batch.input_ids, "use_cache": False}
    if batch.packed:
        inputs |= _packed_inputs(batch)
    else:
        inputs["attention_mask"] = batch.attention_mask
    state = parts.decoder(**inputs).last_hidden_state.flatten(0, 1)
    return state[batch.rows]


def _head(
    parts: Parts, hidden: Tensor, batch: PackedBatch, chunk: int, collision: bool, hint: _RowHint | None
) -> tuple[Tensor, Tensor | None]:
    if not parts.plain:
        return checkpointed_logps(parts, hidden, batch.targets, cut(len(hidden), chunk))
    head: Any = parts.head
    trainable = head.weight.requires_grad or (head.bias is not None and head.bias.requires_grad)
    sizes = _pair_sizes(batch) if hint is not None and trainable else []
    if hint is None or not sizes or max(sizes) > _LARGEST_PAIR * chunk:
        tiles = Tiles(cut(len(hidden), chunk), None, collision)
    else:
        tiles = Tiles(cut_pairs(sizes, chunk), hint, collision)
    return row_logps(hidden, head.weight, head.bias, batch.targets, tiles)


def _pair_sizes(batch: PackedBatch) -> list[int]:
    """Rows of each pair, in row order."""
    partners, sizes, owner = batch.partner.tolist(), list[int](), -1
    for example, start, stop in batch.spans:
        if owner >= 0 and partners[example] == owner:
            sizes[-1] += stop - start
        else:
            sizes.append(stop - start)
        owner = example
    return sizes


@dataclass(frozen=True)
class _RowHint:
    """Turns the hint on examples into one on rows: a row's derivative is its example's times the weight of the row."""

    batch: PackedBatch
    hint: GradientHint
    weights: Tensor | None = None

    def __call__(self, logps: Tensor, start: int, stop: int) -> Tensor:
        members = [example for example, first, last in self.batch.spans if start <= first < last <= stop]
        partners = self.batch.partner[torch.tensor(members, device=self.batch.partner.device)].tolist()
        # A partner outside the tile has no rows at all; its value is 0.
        members += [partner for partner in partners if partner >= 0 and partner not in members]
        index = torch.tensor(members, device=logps.device)
        place = torch.zeros(len(self.batch.lengths), dtype=torch.long, device=logps.device)
        place[index] = torch.arange(len(members), device=logps.device)
        of_row = place[self.batch.example[start:stop]]
        weights = None if self.weights is None else self.weights[start:stop]
        terms = logps.double() if weights is None else logps.double() * weights
        values = logps.new_zeros(len(members), dtype=torch.float64).index_add(0, of_row, terms)
        gradient = self.hint(values, index)
        if weights is None:
            return gradient.to(logps.dtype)[of_row]
        return (gradient[of_row] * weights).to(logps.dtype)
