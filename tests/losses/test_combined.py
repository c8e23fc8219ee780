"""Weighted sums of losses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpoframe import ConfigError, PairScores, losses


def scores(detail: dict[str, torch.Tensor] | None = None) -> PairScores:
    """Three pairs."""
    columns = [[-3.8, -2.6, -3.0], [-2.4, -4.2, -3.1], [-4.2, -1.8, -3.8], [-1.9, -4.0, -2.5], [3.0, 2.0, 4.0], [2.0, 4.0, 1.0]]
    return PairScores(*(torch.tensor(column, dtype=torch.float64) for column in columns), detail=detail or {})


@given(st.floats(1e-3, 100), st.floats(1e-3, 100))
def test_linear(first: float, second: float) -> None:
    """The sum is first * sigmoid + second * sft, pair by pair; scaling all weights scales it."""
    sigmoid, sft = losses.create("sigmoid", beta=0.4), losses.create("sft")
    found = losses.combine([(sigmoid, first), (sft, second)])(scores()).tolist()
    parts = zip(sigmoid(scores()).tolist(), sft(scores()).tolist(), strict=True)
    assert found == pytest.approx([first * a + second * b for a, b in parts], rel=1e-12)
    double = losses.combine([(sigmoid, 2 * first), (sft, 2 * second)])(scores()).tolist()
    assert double == pytest.approx([2 * value for value in found], rel=1e-12)


def test_nested() -> None:
    """A sum of sums is the sum."""
    a, b, c = (losses.create(name) for name in ("sigmoid", "hinge", "sft"))
    flat = losses.combine([(a, 0.5), (b, 0.25), (c, 0.75)])
    nested = losses.combine([(losses.combine([(a, 2.0), (b, 1.0)]), 0.25), (c, 0.75)])
    assert nested(scores()).tolist() == pytest.approx(flat(scores()).tolist(), rel=1e-12)


def test_a_single_loss_of_weight_one_is_itself() -> None:
    """Nothing is wrapped where nothing is summed."""
    loss = losses.create("sigmoid")
    assert losses.combine([(loss, 1.0)]) is loss
    assert losses.combine([(loss, 0.5)])(scores()).tolist() == [value / 2 for value in loss(scores()).tolist()]


def test_a_sum_needs_what_its_parts_need() -> None:
    """Details, reference, coupling and mismatched scores are asked for as soon as one part asks."""
    sft, simpo = losses.create("sft"), losses.create("simpo", wpo=True)
    free = losses.combine([(sft, 1.0), (simpo, 1.0)])
    assert (free.uses_reference, free.couples_pairs, free.mismatched, free.requires) == (False, False, False, {"wpo"})
    full = losses.combine([(sft, 1.0), (losses.create("kto"), 1.0), (losses.create("ipo", ld_alpha=0.5), 1.0)])
    assert (full.uses_reference, full.couples_pairs, full.mismatched, full.requires) == (True, True, True, {"shared"})


def test_states_are_kept_apart() -> None:
    """Two bco_pair with different beta remember different means, and each gets its own back."""
    parts = [(losses.create("bco_pair", beta=beta), 0.5) for beta in (0.1, 0.4)]
    combined = losses.combine(parts)
    state = combined.update(combined.update({}, scores()), scores())
    mean = sum(
        (pc - rc) + (pr - rr) for pc, pr, rc, rr in [(-3.8, -2.4, -4.2, -1.9), (-2.6, -4.2, -1.8, -4.0), (-3.0, -3.1, -3.8, -2.5)]
    )
    assert state["0/mean"].item() == pytest.approx(0.1 * mean / 6, rel=1e-9)
    assert state["1/mean"].item() == pytest.approx(0.4 * mean / 6, rel=1e-9)
    assert (state["0/count"].item(), state["1/count"].item()) == (6, 6)
    found = combined(scores({f"state/{name}": value for name, value in state.items()}))
    alone = [loss(scores({"state/mean": state[f"{index}/mean"]})) * weight for index, (loss, weight) in enumerate(parts)]
    assert found.tolist() == pytest.approx((alone[0] + alone[1]).tolist(), rel=1e-12)


def test_rewards_are_those_of_the_preference_part() -> None:
    """The first part with a reference gives the rewards, whatever order the recipe has."""
    sigmoid = losses.create("sigmoid", beta=0.4)
    combined = losses.combine([(losses.create("sft"), 1.0), (sigmoid, 0.8)])
    assert combined.reward_scale == 0.4
    assert [side.tolist() for side in combined.rewards(scores())] == [side.tolist() for side in sigmoid.rewards(scores())]


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_weights_are_above_zero(weight: float) -> None:
    """A weight that is not a finite number above 0 is refused, and all such are named."""
    loss = losses.create("sft")
    with pytest.raises(ConfigError) as caught:
        losses.combine([(loss, weight), (loss, 1.0), (loss, weight)])
    assert [fault.where for fault in caught.value.faults] == ["loss 1 (Sft)", "loss 3 (Sft)"]


def test_an_empty_sum() -> None:
    """No loss at all is refused."""
    with pytest.raises(ConfigError, match="no loss was given"):
        losses.combine([])
