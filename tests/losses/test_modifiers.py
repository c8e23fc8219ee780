"""f-divergences, LD-DPO and WPO against float64 arithmetic written out pair by pair."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from dpoframe import ConfigError, PairScores, losses

B = 0.4
VALUES = {
    "policy_chosen": [-3.8, -2.6, -9.5],
    "policy_rejected": [-2.4, -4.2, -0.3],
    "reference_chosen": [-4.2, -1.8, -2.5],
    "reference_rejected": [-1.9, -4.0, -7.1],
}
SHARED = {
    "policy_chosen": [-1.5, -2.6, -4.0],
    "policy_rejected": [-2.4, -2.7, -0.3],
    "reference_chosen": [-2.2, -1.8, -1.5],
    "reference_rejected": [-1.9, -2.7, -7.1],
}
LENGTHS = ([3.0, 2.0, 8.0], [2.0, 4.0, 5.0])
WPO = ([-0.47, -0.4, 0.21], [-0.4, -0.3, -1.4])


def column(values: list[float]) -> torch.Tensor:
    """The numbers as float64."""
    return torch.tensor(values, dtype=torch.float64)


def scores() -> PairScores:
    """Three pairs with every detail."""
    detail = {f"{side}/shared": column(values) for side, values in SHARED.items()}
    detail |= {"policy_chosen/wpo": column(WPO[0]), "policy_rejected/wpo": column(WPO[1])}
    sides = {side: column(values) for side, values in VALUES.items()}
    return PairScores(**sides, chosen_length=column(LENGTHS[0]), rejected_length=column(LENGTHS[1]), detail=detail)


def ls(x: float) -> float:
    """Logarithm of the logistic function."""
    return -math.log(1 + math.exp(-x))


DERIVATIVES: list[tuple[str, float, Callable[[float], float]]] = [
    ("reverse_kl", 0.5, math.log),
    ("forward_kl", 0.5, lambda t: 1 - 1 / t),
    ("js_divergence", 0.5, lambda t: math.log(2 * t / (t + 1))),
    ("alpha_divergence", 0.5, lambda t: (t ** (0.5 - 1) - 1) / (0.5 - 1)),
    ("alpha_divergence", 0.0, lambda t: 1 - 1 / t),
    ("alpha_divergence", 1.0, math.log),
    ("alpha_divergence", 1.7, lambda t: (t**0.7 - 1) / 0.7),
]


@pytest.mark.parametrize(("divergence", "alpha", "derivative"), DERIVATIVES, ids=lambda value: str(value)[:16])
def test_divergences(divergence: str, alpha: float, derivative: Callable[[float], float]) -> None:
    """The loss takes f'(pi/ref), written here as a function of the probability ratio t, in place of log t."""
    loss = losses.create("sigmoid", beta=B, f_divergence=divergence, f_alpha=alpha)
    expected = [
        -ls(B * (derivative(math.exp(pc - rc)) - derivative(math.exp(pr - rr))))
        for pc, pr, rc, rr in zip(*VALUES.values(), strict=True)
    ]
    assert loss(scores()).tolist() == pytest.approx(expected, rel=1e-9)


def test_alpha_divergence_is_smooth_where_it_becomes_reverse_kl() -> None:
    """Just beside a = 1 the derivative is that of a = 1, without cancellation."""
    beside = losses.create("hinge", beta=B, f_divergence="alpha_divergence", f_alpha=1 + 1e-9)(scores())
    assert beside.tolist() == pytest.approx(losses.create("hinge", beta=B)(scores()).tolist(), rel=1e-7)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_length_desensitizing(alpha: float) -> None:
    """Policy and reference both become shared + alpha * (all - shared)."""
    expected = []
    for pair in range(3):
        part = {side: SHARED[side][pair] + alpha * (VALUES[side][pair] - SHARED[side][pair]) for side in VALUES}
        chosen = part["policy_chosen"] - part["reference_chosen"]
        expected.append(-ls(B * (chosen - part["policy_rejected"] + part["reference_rejected"])))
    loss = losses.create("sigmoid", beta=B, ld_alpha=alpha)
    assert loss.requires == {"shared"}
    assert loss(scores()).tolist() == pytest.approx(expected, rel=1e-12)


def test_length_desensitizing_before_the_divergence() -> None:
    """The two compose: f' is taken of the desensitised ratio, and IPO still divides by the whole length."""
    expected = []
    for pair in range(3):
        part = {side: SHARED[side][pair] + 0.3 * (VALUES[side][pair] - SHARED[side][pair]) for side in VALUES}
        chosen = 1 - math.exp(part["reference_chosen"] - part["policy_chosen"])
        rejected = 1 - math.exp(part["reference_rejected"] - part["policy_rejected"])
        expected.append((chosen / LENGTHS[0][pair] - rejected / LENGTHS[1][pair] - 1 / (2 * B)) ** 2)
    loss = losses.create("ipo", beta=B, ld_alpha=0.3, f_divergence="forward_kl")
    assert loss(scores()).tolist() == pytest.approx(expected, rel=1e-12)


def test_wpo_weights() -> None:
    """A pair's loss is multiplied by exp of the two means; the modality must provide `wpo`."""
    plain = losses.create("sigmoid", beta=B)(scores()).tolist()
    expected = [loss * math.exp(chosen) * math.exp(rejected) for loss, chosen, rejected in zip(plain, *WPO, strict=True)]
    loss = losses.create("sigmoid", beta=B, wpo=True)
    assert loss.requires == {"wpo"}
    assert loss(scores()).tolist() == pytest.approx(expected, rel=1e-12)


def test_wpo_weights_have_no_gradient() -> None:
    """Nothing flows into the weights, and the loss's gradient is the plain one times the weight."""
    leaf, mean = column(VALUES["policy_chosen"]).requires_grad_(), column(WPO[0]).requires_grad_()
    given = scores().replace(policy_chosen=leaf, detail={**scores().detail, "policy_chosen/wpo": mean})
    losses.create("sigmoid", beta=B, wpo=True)(given).sum().backward()
    expected = []
    for pair, (pc, pr, rc, rr) in enumerate(zip(*VALUES.values(), strict=True)):
        slope = -B / (1 + math.exp(B * (pc - rc - pr + rr)))
        expected.append(slope * math.exp(WPO[0][pair] + WPO[1][pair]))
    assert mean.grad is None
    assert leaf.grad is not None
    assert leaf.grad.tolist() == pytest.approx(expected, rel=1e-12)


def test_modifiers_name_what_they_need() -> None:
    """`requires` follows the switches: none, one, both."""
    assert losses.create("sigmoid").requires == frozenset()
    assert losses.create("sigmoid", wpo=True, ld_alpha=0.5).requires == {"shared", "wpo"}


@pytest.mark.parametrize(
    ("name", "fields", "missing"),
    [
        ("sigmoid", {"ld_alpha": 0.5}, "policy_chosen/shared"),
        ("simpo", {"wpo": True}, "policy_chosen/wpo"),
        ("kto", {}, "policy_mismatched"),
    ],
)
def test_missing_detail(name: str, fields: dict[str, object], missing: str) -> None:
    """Scores without a needed detail are a clear error that names it, not a KeyError."""
    with pytest.raises(ConfigError, match=missing):
        losses.create(name, **fields)(scores().replace(detail={}))
