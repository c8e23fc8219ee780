"""Log-probabilities of response tokens from hidden states, without a full tokens x vocabulary matrix.

Write z = W h + b for a row, p = softmax(z), t its target. Then log p_t = z_t - log sum exp z, and by h the gradient is
W_t - p W: it needs no upstream gradient, so it is formed in the forward, from the tile of logits that is still live.
The gradient by W is the sum over rows of g (e_t - p) h'; it needs the upstream gradient g. A `GradientHint` supplies g
up to a common factor while the tile is live; without one the tile is computed again in the backward. The backward
compares the hint with the true upstream gradient and computes again where they disagree, so a hint is never trusted.

Cost for H rows, hidden size D, vocabulary V, in units of H D V: 2 to score, 4 with a frozen head, 6 with a hint,
8 with recomputation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# A hinted gradient is accepted where it is the upstream gradient times one factor, to this part of its largest entry.
HINT_TOLERANCE = 1e-6
RowHint = Callable[[Tensor, int, int], Tensor]
"""`hint(logps, start, stop) -> (stop - start,)`: d loss / d log p of the rows from their log-probabilities."""


@dataclass(frozen=True)
class Tiles:
    """How the rows are cut: `bounds` of the tiles, and the hint, which needs every pair whole inside one tile."""

    bounds: tuple[tuple[int, int], ...]
    hint: RowHint | None = None
    collision: bool = False

    @property
    def largest(self) -> int:
        """Rows of the largest tile."""
        return max((stop - start for start, stop in self.bounds), default=0)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def cut(rows: int, chunk: int) -> tuple[tuple[int, int], ...]:
    """Tiles of nearly equal size, none over `chunk` rows."""
    count = max(1, -(-rows // chunk))
    edges = [rows * index // count for index in range(count + 1)]
    return tuple(pairwise(edges)) if rows else ()


def cut_pairs(sizes: Sequence[int], chunk: int) -> tuple[tuple[int, int], ...]:
    """Tiles made of whole pairs of `sizes` rows: as many as fit into `chunk`, at least one."""
    tiles, start, stop = [], 0, 0
    for size in sizes:
        if stop > start and stop + size - start > chunk:
            tiles.append((start, stop))
            start = stop
        stop += size
    return tuple([*tiles, (start, stop)] if stop > start else tiles)


def row_logps(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, tiles: Tiles) -> tuple[Tensor, Tensor | None]:
    """Log-probability of each row's target: hidden (H, D), weight (V, D), targets (H,) to (H,) float32.

    The second value is log sum_v p_v^2 of each row (without gradient) where `tiles.collision`, else None. Under autocast
    the products are formed in its dtype; sums and exponentials always in float32.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    with torch.autocast(kind, enabled=False):
        needs = torch.is_grad_enabled()
        logps, collision = _RowLogps.apply(hidden.to(dtype), weight, bias, targets, tiles, dtype, needs)  # type: ignore[no-untyped-call]
    return logps, collision if tiles.collision else None


class _RowLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        tiles: Tiles,
        dtype: torch.dtype,
        needs: bool,
    ) -> tuple[Tensor, Tensor]:
        need_hidden, need_weight, need_bias = (needs and flag for flag in ctx.needs_input_grad[:3])
        plain = weight.to(dtype)
        scale = hidden.new_empty(len(targets), dtype=_wide(dtype))
        logps, collision = torch.empty_like(scale), torch.empty_like(scale)
        by_hidden = torch.empty_like(hidden) if need_hidden else None
        head = _HeadGradient(weight, bias, need_weight, need_bias) if tiles.hint and (need_weight or need_bias) else None
        for start, stop, tile in _softmax_tiles(hidden, plain, bias, targets, tiles, logps):
            rows, wanted = slice(start, stop), targets[start:stop, None]
            if tiles.collision:
                collision[rows] = torch.linalg.vector_norm(tile, dim=-1).log_().mul_(2)
            if by_hidden is None and head is None:
                continue
            tile.scatter_add_(1, wanted, tile.new_full(wanted.shape, -1.0))
            low = tile.to(dtype)
            if by_hidden is not None:
                torch.mm(low, plain, out=by_hidden[rows]).neg_()
            if head is not None and tiles.hint is not None:
                scale[rows] = tiles.hint(logps[rows], start, stop)
                head.add(low, hidden[rows], scale[rows])
        ctx.save_for_backward(hidden, weight, bias, targets, by_hidden, scale if head else None)
        ctx.head, ctx.tiles, ctx.dtype = head, tiles, dtype
        ctx.mark_non_differentiable(collision)
        return logps, collision

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, by_hidden, hinted = ctx.saved_tensors
        _, need_weight, need_bias = ctx.needs_input_grad[:3]
        to_hidden = None if by_hidden is None else by_hidden * upstream[:, None].to(by_hidden.dtype)
        if not (need_weight or need_bias):
            return to_hidden, None, None, None, None, None, None
        # Taken once: a second backward through the same graph computes again.
        head, ctx.head = ctx.head, None
        factor = common_factor(upstream, hinted) if head is not None else None
        if factor is not None:
            head.multiply(factor)
        else:
            head = _HeadGradient(weight, bias, need_weight, need_bias)
            scratch = torch.empty_like(upstream)
            for start, stop, tile in _softmax_tiles(hidden, weight.to(ctx.dtype), bias, targets, ctx.tiles, scratch):
                wanted = targets[start:stop, None]
                tile.scatter_add_(1, wanted, tile.new_full(wanted.shape, -1.0))
                head.add(tile.to(ctx.dtype), hidden[start:stop], upstream[start:stop])
        by_weight, by_bias = head.take()
        return to_hidden, by_weight, by_bias, None, None, None, None


def common_factor(upstream: Tensor, hinted: Tensor) -> float | None:
    """The c with `upstream == c * hinted` to `HINT_TOLERANCE` of the largest entry, or None. Both (H,)."""
    true, guess = upstream.double(), hinted.double()
    square = guess.dot(guess)
    c = torch.where(square > 0, true.dot(guess) / square, torch.zeros_like(square))
    fits = (true - c * guess).abs().amax() <= HINT_TOLERANCE * true.abs().amax()
    factor, fits_all = torch.stack((c, fits.double())).tolist()
    return factor if fits_all else None


class _HeadGradient:
    """Sums g (e_t - p) h' over tiles. The sum is kept in float32, whatever the products are formed in."""

    def __init__(self, weight: Tensor, bias: Tensor | None, need_weight: bool, need_bias: bool) -> None:
        self.weight, self.bias = weight if need_weight else None, bias if need_bias else None
        self.by_weight: Tensor | None = None
        self.by_bias: Tensor | None = None

    def add(self, negative: Tensor, hidden: Tensor, gradient: Tensor) -> None:
        """One tile: `negative` is p - e_t (rows, V)."""
        if self.weight is not None:
            scaled = hidden * gradient[:, None].to(hidden.dtype).neg()
            if self.by_weight is None:
                self.by_weight = (negative.t() @ scaled).to(_wide(self.weight.dtype))
            elif negative.dtype == self.by_weight.dtype:
                self.by_weight.addmm_(negative.t(), scaled)
            else:
                self.by_weight.add_(negative.t() @ scaled)
        if self.bias is not None:
            added = (gradient.to(negative.dtype).neg() @ negative).to(_wide(self.bias.dtype))
            self.by_bias = added if self.by_bias is None else self.by_bias.add_(added)

    def multiply(self, factor: float) -> None:
        """Scales everything summed so far."""
        for part in (self.by_weight, self.by_bias):
            if part is not None:
                part.mul_(factor)

    def take(self) -> tuple[Tensor | None, Tensor | None]:
        """The gradients by weight and bias in the weight's dtype."""
        return _as(self.by_weight, self.weight), _as(self.by_bias, self.bias)


def _as(total: Tensor | None, parameter: Tensor | None) -> Tensor | None:
    if parameter is None:
        return None
    return torch.zeros_like(parameter) if total is None else total.to(parameter.dtype)


def _softmax_tiles(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, tiles: Tiles, logps: Tensor
) -> Iterator[tuple[int, int, Tensor]]:
    """Yields each tile as probabilities (rows, V) float32 in a buffer that all tiles share; fills `logps` (H,)."""
    # Not kept for the next call: it would save a fiftieth of the time, and add to the peak of the backward.
    room = torch.empty(tiles.largest * weight.shape[0], dtype=_wide(hidden.dtype), device=hidden.device)
    for start, stop in tiles.bounds:
        tile = room[: (stop - start) * weight.shape[0]].view(stop - start, -1)
        if hidden.dtype == tile.dtype:
            torch.mm(hidden[start:stop], weight.t(), out=tile)
        else:
            tile.copy_(hidden[start:stop] @ weight.t())
        if bias is not None:
            tile.add_(bias)
        top, scored = tile.amax(-1), tile.gather(1, targets[start:stop, None])[:, 0]
        # softmax in place is one pass. The largest probability is exp(top - logsumexp) and at least 1 / V: its
        # logarithm is exact where the target's own probability may underflow.
        torch.softmax(tile, -1, out=tile)
        logps[start:stop] = scored - top + tile.amax(-1).log()
        yield start, stop, tile
