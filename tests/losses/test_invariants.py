"""What must hold of the losses for any scores."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpoframe import PairScores, losses

SIDES = ("policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected")
COUPLED = {"aot", "aot_unpaired", "kto"}
DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")

Row = tuple[float, float, float, float, int, int]
NATS = st.floats(-200, 0, allow_nan=False, width=32)
ROW = st.tuples(NATS, NATS, NATS, NATS, st.integers(0, 50), st.integers(0, 50))
ROWS = st.lists(ROW, min_size=1, max_size=6)


def scores_of(rows: list[Row], dtype: torch.dtype = torch.float64) -> PairScores:
    """The rows as scores, with a fixed step and state, so that pairs are coupled only where the loss couples them."""
    columns = list(zip(*rows, strict=True))
    values = {side: torch.tensor(column, dtype=dtype) for side, column in zip(SIDES, columns[:4], strict=True)}
    detail = {"step/chosen_length": torch.tensor(7.0), "state/mean": torch.tensor(0.1)}
    detail |= {"policy_mismatched": values["policy_rejected"], "reference_mismatched": values["reference_chosen"]}
    detail |= {f"{side}/shared": value / 2 for side, value in values.items()}
    detail |= {f"{side}/wpo": value / 100 for side, value in values.items()}
    lengths = {"chosen_length": torch.tensor(columns[4]), "rejected_length": torch.tensor(columns[5])}
    return PairScores(**values, **lengths, detail=detail)


@given(ROWS)
def test_a_policy_equal_to_its_reference_has_loss_ln_2(rows: list[Row]) -> None:
    """At policy = reference every margin is exactly 0 and the sigmoid loss is ln 2 to the last bit, for any divergence."""
    scores = scores_of(rows).replace(detail={})
    scores = scores.replace(reference_chosen=scores.policy_chosen, reference_rejected=scores.policy_rejected)
    for divergence in DIVERGENCES:
        loss = losses.create("sigmoid", label_smoothing=0.0, f_divergence=divergence)
        assert loss(scores).tolist() == [torch.tensor(2.0, dtype=torch.float64).log().item()] * len(rows)


@given(ROWS, st.floats(0, 0.49))
def test_swapping_the_sides_swaps_the_labels(rows: list[Row], smoothing: float) -> None:
    """Smoothed sigmoid loss at e minus the loss of the swapped pair is (1 - 2e) times the negative margin."""
    scores = scores_of(rows)
    swapped = scores_of([(pr, pc, rr, rc, n, m) for pc, pr, rc, rr, m, n in rows])
    loss = losses.create("sigmoid", beta=0.1, label_smoothing=smoothing)
    found = (loss(scores) - loss(swapped)).tolist()
    expected = [-(1 - 2 * smoothing) * 0.1 * (pc - rc - pr + rr) for pc, pr, rc, rr, _, _ in rows]
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(ROWS)
def test_losses_that_become_dpo(rows: list[Row]) -> None:
    """Loss robust at e = 0, dpop without penalty, sigmoid_norm at length 1 and a single pair's aot are the sigmoid loss."""
    scores = scores_of(rows)
    expected = losses.create("sigmoid", beta=0.3)(scores).tolist()
    ones = scores.replace(chosen_length=torch.ones(len(rows)), rejected_length=torch.ones(len(rows)))
    assert losses.create("robust", beta=0.3, label_smoothing=0.0)(scores).tolist() == pytest.approx(expected, rel=1e-12)
    assert losses.create("dpop", beta=0.3, penalty=0.0)(scores).tolist() == pytest.approx(expected, rel=1e-12)
    assert losses.create("sigmoid_norm", beta=0.3)(ones).tolist() == pytest.approx(expected, rel=1e-12)
    alone = [losses.create("aot", beta=0.3)(scores_of([row])).item() for row in rows]
    assert alone == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(ROWS, st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_order_of_pairs_does_not_matter(rows: list[Row], random: Any) -> None:
    """Permuted pairs have permuted losses; a pair's loss does not depend on the others unless the loss says so."""
    order = list(range(len(rows)))
    random.shuffle(order)
    for name in losses.names():
        loss = losses.create(name)
        together = loss(scores_of(rows)).tolist()
        if name not in {"aot", "aot_unpaired"}:  # ties take their ranks in the order they come
            permuted = loss(scores_of([rows[index] for index in order])).tolist()
            assert permuted == pytest.approx([together[index] for index in order], rel=1e-12), name
        if not loss.couples_pairs:
            assert [loss(scores_of([row])).item() for row in rows] == pytest.approx(together, rel=1e-12), name


def test_sorting_losses_follow_their_pairs() -> None:
    """Without ties, permuted pairs have permuted aot losses."""
    rows: list[Row] = [(-1.0, -4.0, -2.0, -3.5, 3, 4), (-7.0, -2.0, -5.0, -1.0, 3, 4), (-3.0, -9.0, -8.0, -6.0, 3, 4)]
    for name in ("aot", "aot_unpaired"):
        together, turned = losses.create(name)(scores_of(rows)).tolist(), losses.create(name)(scores_of(rows[::-1])).tolist()
        assert turned == together[::-1]


def test_which_losses_couple_pairs() -> None:
    """couples_pairs, mismatched and uses_reference say exactly what the losses do."""
    made = {name: losses.create(name) for name in losses.names()}
    assert {name for name, loss in made.items() if loss.couples_pairs} == COUPLED
    assert {name for name, loss in made.items() if loss.mismatched} == {"kto"}
    assert {name for name, loss in made.items() if not loss.uses_reference} == {"sft", "simpo", "orpo", "cpo"}


EXTREME: list[Row] = [
    (chosen, rejected, 0.0, 0.0, m, n) for chosen in (-1e4, 0.0, 1e4) for rejected in (-1e4, 0.0, 1e4) for m, n in ((0, 3), (1, 0))
]
VARIANTS = [
    *((name, {}) for name in losses.names()),
    *(("sigmoid", {"beta": beta}) for beta in (1e-3, 5000.0)),
    *(
        (name, {"f_divergence": kind})
        for name in ("sigmoid", "hinge", "ipo", "robust", "exo_pair", "discopop", "sigmoid_norm")
        for kind in DIVERGENCES[1:]
    ),
    ("ipo", {"reduction": "sum", "f_divergence": "forward_kl"}),
    ("sigmoid", {"wpo": True, "ld_alpha": 0.5, "label_smoothing": 0.1}),
    ("cpo", {"wpo": True}),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "fields"), VARIANTS, ids=str)
def test_extreme_log_ratios_stay_finite(name: str, fields: dict[str, Any], dtype: torch.dtype) -> None:
    """Log-ratios of ±10,000 nats, on either side or both, and empty responses give finite losses and gradients."""
    scores = scores_of(EXTREME, dtype)
    leaves = [getattr(scores, side).clone().requires_grad_() for side in SIDES[:2]]
    found = losses.create(name, **fields)(scores.replace(policy_chosen=leaves[0], policy_rejected=leaves[1]))
    found.sum().backward()
    assert torch.isfinite(found).all()
    for leaf in leaves:
        assert leaf.grad is None or torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize("name", losses.names())
def test_shape_and_type_are_kept(name: str) -> None:
    """B pairs of float32 give B float32 losses, also for integer lengths and B = 1."""
    for rows in (EXTREME, EXTREME[:1]):
        found = losses.create(name)(scores_of(rows, torch.float32))
        assert found.shape == (len(rows),)
        assert found.dtype is torch.float32


@pytest.mark.parametrize(("margin", "expected"), [(1e4, 0.0), (-1e4, 1e3)])
def test_discopop_far_out(margin: float, expected: float) -> None:
    """Far out DiscoPOP is the logistic loss on the wrong side and 0 on the right one; no 0 times infinity."""
    found = losses.create("discopop", beta=0.1)(scores_of([(margin, 0.0, 0.0, 0.0, 1, 1)]))
    assert found.item() == pytest.approx(expected, abs=1e-300)
    assert math.isfinite(found.item())
