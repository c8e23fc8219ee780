"""Every loss against float64 arithmetic written out pair by pair."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from dpoframe import PairScores, losses

PAIRS = [
    # policy chosen, policy rejected, reference chosen, reference rejected, chosen length, rejected length
    (-3.8, -2.4, -4.2, -1.9, 3, 2),
    (-2.6, -4.2, -1.8, -4.0, 2, 4),
    (-3.0, -3.1, -3.8, -2.5, 4, 1),
    (-9.5, -0.3, -2.5, -7.1, 8, 5),
]
MISMATCHED = ([-4.0, -3.5, -3.2, -6.0], [-4.6, -3.6, -3.4, -6.1])


def scores_of(rows: list[tuple[float, ...]] = PAIRS, detail: dict[str, Any] | None = None) -> PairScores:
    """The rows as float64 scores."""
    columns = [torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True)]
    return PairScores(*columns, detail={name: torch.tensor(value, dtype=torch.float64) for name, value in (detail or {}).items()})


def sigma(x: float) -> float:
    """The logistic function."""
    return 1 / (1 + math.exp(-x))


def ls(x: float) -> float:
    """Its logarithm."""
    return math.log(sigma(x))


def log_odds(p: float) -> float:
    """log(e^p / (1 - e^p))."""
    return math.log(math.exp(p) / (1 - math.exp(p)))


Hand = Callable[[float, float, int, int], float]

B = 0.4
OF_RATIOS: list[tuple[str, dict[str, Any], Hand]] = [
    ("sigmoid", {"beta": B}, lambda c, r, m, n: -ls(B * (c - r))),
    ("sigmoid", {"beta": B, "label_smoothing": 0.2}, lambda c, r, m, n: -0.8 * ls(B * (c - r)) - 0.2 * ls(-B * (c - r))),
    ("hinge", {"beta": B}, lambda c, r, m, n: max(0.0, 1 - B * (c - r))),
    ("ipo", {"beta": B}, lambda c, r, m, n: (c / m - r / n - 1 / (2 * B)) ** 2),
    ("ipo", {"beta": B, "reduction": "sum"}, lambda c, r, m, n: (c - r - 1 / (2 * B)) ** 2),
    ("robust", {"beta": B, "label_smoothing": 0.1}, lambda c, r, m, n: (-0.9 * ls(B * (c - r)) + 0.1 * ls(-B * (c - r))) / 0.8),
    (
        "exo_pair",
        {"beta": B, "label_smoothing": 0.1},
        lambda c, r, m, n: (
            sigma(B * (c - r)) * (ls(B * (c - r)) - math.log(0.9)) + sigma(-B * (c - r)) * (ls(-B * (c - r)) - math.log(0.1))
        ),
    ),
    ("nca_pair", {"beta": B}, lambda c, r, m, n: -ls(B * c) - ls(-B * c) / 2 - ls(-B * r) / 2),
    ("sppo_hard", {"beta": B}, lambda c, r, m, n: (c - 1.25) ** 2 + (r + 1.25) ** 2),
    ("apo_zero", {"beta": B}, lambda c, r, m, n: 1 - sigma(B * c) + sigma(B * r)),
    ("apo_down", {"beta": B}, lambda c, r, m, n: sigma(B * c) + 1 - sigma(B * (c - r))),
    (
        "discopop",
        {"beta": B, "tau": 0.7},
        lambda c, r, m, n: -ls(B * (c - r)) * (1 - sigma(B * (c - r) / 0.7)) + math.exp(-B * (c - r)) * sigma(B * (c - r) / 0.7),
    ),
    ("sigmoid_norm", {"beta": 5.0}, lambda c, r, m, n: -ls(5 * (c / m - r / n))),
    ("dpop", {"beta": 0.3, "penalty": 5.0}, lambda c, r, m, n: -ls(0.3 * (c - r - 5 * max(0.0, -c)))),
    ("dpop", {"beta": 0.3, "penalty": 0.0}, lambda c, r, m, n: -ls(0.3 * (c - r))),
]

OF_POLICY: list[tuple[str, dict[str, Any], Hand]] = [
    ("simpo", {"beta": 2.0, "gamma": 0.5}, lambda p, q, m, n: -ls(2 * (p / m - q / n) - 0.5)),
    ("orpo", {"beta": B}, lambda p, q, m, n: -p / m - B * ls(log_odds(p / m) - log_odds(q / n))),
    ("sft", {}, lambda p, q, m, n: -p / 4.25),  # 4.25 is the mean of the chosen lengths 3, 2, 4, 8
    ("cpo", {"beta": B, "nll_weight": 0.0}, lambda p, q, m, n: -ls(B * (p - q))),
    (
        "cpo",
        {"beta": B, "label_smoothing": 0.2, "nll_weight": 0.7},
        lambda p, q, m, n: -0.8 * ls(B * (p - q)) - 0.2 * ls(-B * (p - q)) - 0.7 * p / 4.25,
    ),
]


@pytest.mark.parametrize(("name", "fields", "hand"), OF_RATIOS, ids=lambda value: value if isinstance(value, str) else "")
def test_losses_of_log_ratios(name: str, fields: dict[str, Any], hand: Hand) -> None:
    """A loss of c and r equals its equation on every pair."""
    expected = [hand(pc - rc, pr - rr, int(m), int(n)) for pc, pr, rc, rr, m, n in PAIRS]
    assert losses.create(name, **fields)(scores_of()).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("name", "fields", "hand"), OF_POLICY, ids=lambda value: value if isinstance(value, str) else "")
def test_losses_of_the_policy_alone(name: str, fields: dict[str, Any], hand: Hand) -> None:
    """A reference-free loss equals its equation on every pair, and does not read the reference."""
    loss = losses.create(name, **fields)
    expected = [hand(pc, pr, int(m), int(n)) for pc, pr, _, _, m, n in PAIRS]
    nothing = torch.full((4,), math.nan, dtype=torch.float64)
    found = loss(scores_of().replace(reference_chosen=nothing, reference_rejected=nothing))
    assert not loss.uses_reference
    assert found.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_aot_compares_sorted_margins(smoothing: float) -> None:
    """Each pair gets the loss of the rank that its policy margin takes among the step's margins."""
    policy = [row[0] - row[1] for row in PAIRS]
    reference = sorted(row[2] - row[3] for row in PAIRS)
    expected = []
    for own in policy:
        d = own - reference[sum(other < own for other in policy)]
        expected.append(-(1 - smoothing) * ls(B * d) - smoothing * ls(-B * d))
    loss = losses.create("aot", beta=B, label_smoothing=smoothing)
    assert loss.couples_pairs
    assert loss(scores_of()).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_aot_unpaired_compares_sorted_log_ratios(smoothing: float) -> None:
    """Each pair gets the loss of the rank that its chosen log-ratio takes; rejected log-ratios are sorted as well."""
    chosen = [row[0] - row[2] for row in PAIRS]
    rejected = sorted(row[1] - row[3] for row in PAIRS)
    expected = []
    for own in chosen:
        d = own - rejected[sum(other < own for other in chosen)]
        expected.append(-(1 - smoothing) * ls(B * d) - smoothing * ls(-B * d))
    loss = losses.create("aot_unpaired", beta=B, label_smoothing=smoothing)
    assert loss.couples_pairs
    assert loss(scores_of()).tolist() == pytest.approx(expected, rel=1e-12)


def test_bco_shifts_by_the_state() -> None:
    """With a remembered mean reward d, the loss is -LS(bc - d) - LS(-(br - d))."""
    expected = [-ls(B * (pc - rc) - 0.3) - ls(-(B * (pr - rr) - 0.3)) for pc, pr, rc, rr, _, _ in PAIRS]
    assert losses.create("bco_pair", beta=B)(scores_of(detail={"state/mean": 0.3})).tolist() == pytest.approx(expected, rel=1e-12)


def test_bco_without_state_shifts_by_nothing() -> None:
    """At the first step d is 0, so that the loss of a pair does not depend on the micro-batch it is scored in."""
    expected = [-ls(B * (pc - rc)) - ls(-B * (pr - rr)) for pc, pr, rc, rr, _, _ in PAIRS]
    assert losses.create("bco_pair", beta=B)(scores_of()).tolist() == pytest.approx(expected, rel=1e-12)


def test_bco_remembers_the_mean_over_all_pairs_so_far() -> None:
    """After steps of 3 and 1 pairs the state holds the mean over 8 rewards, not the mean of two means."""
    loss = losses.create("bco_pair", beta=B)
    state = loss.update(loss.update({}, scores_of(PAIRS[:3])), scores_of(PAIRS[3:]))
    rewards = [B * (row[side] - row[side + 2]) for row in PAIRS for side in (0, 1)]
    assert state["mean"].item() == pytest.approx(sum(rewards) / 8, rel=1e-12)
    assert state["count"].item() == 4


@pytest.mark.parametrize("swap", [False, True])
def test_kto_subtracts_the_divergence_clamped_at_zero(swap: bool) -> None:
    """The divergence z is the mean mismatched log-ratio, never below 0; a pair's loss is the mean over its two examples."""
    policy, reference = MISMATCHED[::-1] if swap else MISMATCHED
    z = max(0.0, sum(p - q for p, q in zip(policy, reference, strict=True)) / 4)
    assert (z == 0) is swap
    expected = [
        (0.9 * (1 - sigma(B * (pc - rc - z))) + 1.3 * (1 - sigma(B * (z - (pr - rr))))) / 2 for pc, pr, rc, rr, _, _ in PAIRS
    ]
    loss = losses.create("kto", beta=B, desirable_weight=0.9, undesirable_weight=1.3)
    scores = scores_of(detail={"policy_mismatched": policy, "reference_mismatched": reference})
    assert loss.couples_pairs
    assert loss.mismatched
    assert loss(scores).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["sft", "cpo"])
def test_likelihood_is_normalised_over_the_step(name: str) -> None:
    """The mean over a step is the same whether its pairs come together or one by one."""
    loss = losses.create(name)
    one_by_one = [loss(scores_of([row], detail={"step/chosen_length": 4.25})).item() for row in PAIRS]
    assert sum(one_by_one) / 4 == pytest.approx(loss(scores_of()).mean().item(), rel=1e-12)


@pytest.mark.parametrize(("lengths", "expected"), [((0, 1), 3.0 / 0.5), ((0, 0), 3.0)])
def test_likelihood_of_steps_with_hardly_a_token(lengths: tuple[int, int], expected: float) -> None:
    """A mean length below 1 is taken as it is, so that the token mean stays exact; only a mean of 0 counts as 1."""
    rows = [(0.0, -2.0, 0.0, -1.0, lengths[0], 3), (-3.0, -2.0, 0.0, -1.0, lengths[1], 3)]
    assert losses.create("sft")(scores_of(rows)).tolist() == [0.0, expected]


def test_sigmoid_is_diffusion_dpo_at_its_own_beta() -> None:
    """With scores of -MSE/2, beta 5000 gives -LS(-5000/2 [(MSE+ - ref+) - (MSE- - ref-)]), Diffusion-DPO's loss."""
    errors = [(0.1312, 0.2044, 0.1309, 0.2046), (0.0871, 0.0902, 0.0872, 0.0900), (0.3, 0.1, 0.3, 0.1)]
    expected = [-ls(-2500 * ((w - w_ref) - (lose - lose_ref))) for w, lose, w_ref, lose_ref in errors]
    scores = scores_of([(-w / 2, -lose / 2, -w_ref / 2, -lose_ref / 2, 1, 1) for w, lose, w_ref, lose_ref in errors])
    found = losses.create("sigmoid", beta=5000.0)(scores).tolist()
    assert found == pytest.approx(expected, rel=1e-9)
    assert found[2] == pytest.approx(math.log(2), rel=1e-9)


@pytest.mark.parametrize("name", ["ipo", "sigmoid_norm", "simpo", "orpo", "sft", "cpo"])
def test_an_empty_response_counts_as_length_one(name: str) -> None:
    """A response without a token has value 0 and length 0; the loss is the one of length 1, and finite."""
    empty, one = [(0.0, -2.0, 0.0, -1.0, 0, 3)], [(0.0, -2.0, 0.0, -1.0, 1, 3)]
    loss = losses.create(name)
    assert torch.isfinite(loss(scores_of(empty))).all()
    assert loss(scores_of(empty)).tolist() == loss(scores_of(one)).tolist()
