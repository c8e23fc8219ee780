"""Losses that are images' own, against float64 arithmetic written out with Python's own numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import dpoframe_diffusion
import pytest
import torch
from dpoframe_diffusion.losses.diffusion_kto import DiffusionKto
from dpoframe_diffusion.losses.dspo import Dspo
from dpoframe_diffusion.losses.mapo import Mapo
from torch import Tensor

from dpoframe import ConfigError, Loss, PairScores
from dpoframe.testing import LossContract

PAIRS, SIZE = 5, 12


class TestMapo(LossContract):
    """MaPO holds to what every loss must."""

    loss = Mapo()


class TestSigmoidUtility(LossContract):
    """Diffusion-KTO holds to what every loss must."""

    loss = DiffusionKto(beta=0.3)


class TestLossAverse(LossContract):
    """As above, with the utility that fears losses."""

    loss = DiffusionKto(beta=0.3, utility="loss_averse", desirable_weight=1.3)


class TestRiskSeeking(LossContract):
    """As above, with the utility that seeks risk."""

    loss = DiffusionKto(beta=0.3, utility="risk_seeking", undesirable_weight=0.7)


class TestDspo(LossContract):
    """DSPO holds to what every loss must."""

    loss = Dspo(beta=0.01)


def drawn(seed: int, *shape: int) -> Tensor:
    """Normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def residuals(seed: int = 0) -> dict[str, Tensor]:
    """Residuals (B, D) of both models on both images; the policy has moved a little away from the reference."""
    reference = {side: drawn(seed + place, PAIRS, SIZE) for place, side in enumerate(("chosen", "rejected"))}
    moved = {side: value + 0.3 * drawn(seed + 10 + len(side), PAIRS, SIZE) for side, value in reference.items()}
    return {f"policy_{side}": value for side, value in moved.items()} | {
        f"reference_{side}": value for side, value in reference.items()
    }


def scores_of(found: dict[str, Tensor]) -> PairScores:
    """What the modality gives for such residuals: minus half the mean of their squares, and the residuals themselves."""
    values = {name: -value.square().mean(1) / 2 for name, value in found.items()}
    one = torch.ones(PAIRS, dtype=torch.float64)
    detail = {f"{name}/residual": value for name, value in found.items()}
    return PairScores(**values, chosen_length=one, rejected_length=one, detail=detail)


def errors(found: dict[str, Tensor], name: str) -> list[float]:
    """Mean squares by Python's own arithmetic."""
    return [math.fsum(number * number for number in row) / len(row) for row in found[name].tolist()]


def sigmoid(number: float) -> float:
    """The logistic function."""
    return 1 / (1 + math.exp(-number))


def test_mapo_is_the_equation() -> None:
    """MSE_w - beta log s(T (f(MSE_w) - f(MSE_l))) with f(x) = s x / (e^(s x) - 1), pair by pair."""
    found = residuals()
    beta, snr, steps = 0.2, 0.7, 50.0

    def falling(error: float) -> float:
        return snr * error / (math.exp(snr * error) - 1)

    wanted = [
        winner - beta * math.log(sigmoid(steps * (falling(winner) - falling(loser))))
        for winner, loser in zip(errors(found, "policy_chosen"), errors(found, "policy_rejected"), strict=True)
    ]
    got = Mapo(beta=beta, snr=snr, timesteps=steps)(scores_of(found))
    assert got.tolist() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("error", [0.0, 1e-12, 1e-5, 2e-4, 0.5, 40.0, 5000.0])
def test_mapo_is_right_and_smooth_at_both_ends(error: float) -> None:
    """F and its derivative are finite and right for errors of 0, of next to nothing and of thousands.

    Outside reference: the series 1 - z/2 + z^2/12 - z^4/720 near 0 and the closed form elsewhere, in float64.
    """
    loss = Mapo(beta=1.0, snr=0.5, timesteps=1.0)
    value = torch.tensor([-error / 2], dtype=torch.float64, requires_grad=True)
    scores = PairScores(*[value] * 4, torch.ones(1), torch.ones(1))
    reward, _ = loss.rewards(scores)
    z = 0.5 * error
    near = z < 0.01
    wanted = 1 - z / 2 + z**2 / 12 - z**4 / 720 if near else z * math.exp(-z) / (1 - math.exp(-z))
    slope = -0.5 + z / 6 - z**3 / 180 if near else (math.exp(-z) * (1 - z) - math.exp(-2 * z)) / (1 - math.exp(-z)) ** 2
    (got,) = torch.autograd.grad(reward.sum(), value)
    assert reward.item() == pytest.approx(wanted, rel=1e-12, abs=1e-300)
    assert got.item() == pytest.approx(slope * 0.5 * -2, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(
    ("utility", "of"),
    [
        ("sigmoid", sigmoid),
        ("loss_averse", lambda number: math.log(sigmoid(number))),
        ("risk_seeking", lambda number: -math.log(sigmoid(-number))),
    ],
)
@pytest.mark.parametrize("seed", [0, 3])
def test_diffusion_kto_is_the_equation(utility: str, of: Callable[[float], float], seed: int) -> None:
    """The mean over the pair of w (1 - u(+-beta (g - z))), g = -(MSE - MSEref), z the mean of g over the step, at least 0."""
    found = residuals(seed)
    beta, up, down = 3.0, 1.5, 0.5
    gains = {
        side: [
            -(own - other) for own, other in zip(errors(found, f"policy_{side}"), errors(found, f"reference_{side}"), strict=True)
        ]
        for side in ("chosen", "rejected")
    }
    anchor = max(0.0, math.fsum(gains["chosen"] + gains["rejected"]) / (2 * PAIRS))
    wanted = [
        (up * (1 - of(beta * (good - anchor))) + down * (1 - of(-beta * (bad - anchor)))) / 2
        for good, bad in zip(gains["chosen"], gains["rejected"], strict=True)
    ]
    loss = DiffusionKto(beta=beta, utility=utility, desirable_weight=up, undesirable_weight=down)  # type: ignore[arg-type]
    assert loss(scores_of(found)).tolist() == pytest.approx(wanted, rel=1e-12)


def test_diffusion_kto_reads_an_anchor_above_zero_without_gradient() -> None:
    """Where the policy is better than the reference on average, z is that mean, and no gradient flows through it."""
    value = torch.tensor([-0.2, -0.3], dtype=torch.float64, requires_grad=True)
    worse, reference = torch.full((2,), -0.4, dtype=torch.float64), torch.full((2,), -0.5, dtype=torch.float64)
    scores = PairScores(value, worse, reference, reference, torch.ones(2), torch.ones(2))
    (got,) = torch.autograd.grad(DiffusionKto(beta=2.0)(scores).sum(), value)
    anchor = (0.6 + 0.4 + 0.2 + 0.2) / 4  # g is twice the log-ratio
    wanted = [-0.5 * 4 * sigmoid(x) * (1 - sigmoid(x)) for x in (2 * (0.6 - anchor), 2 * (0.4 - anchor))]
    assert got.tolist() == pytest.approx(wanted, rel=1e-12)


def test_diffusion_kto_has_the_authors_beta() -> None:
    """Beta multiplies differences of errors: on scores, which are half of them, it pulls like the core's kto at twice the beta."""
    scores = scores_of(residuals())
    loss = DiffusionKto(beta=7.0)
    chosen, rejected = loss.rewards(scores)
    assert chosen.tolist() == pytest.approx((14.0 * scores.chosen_logratio).tolist())
    assert rejected.tolist() == pytest.approx((14.0 * scores.rejected_logratio).tolist())


def dspo_by_hand(found: dict[str, Tensor], beta: float) -> list[float]:
    """DSPO's equation, number by number."""
    error = {name: errors(found, name) for name in found}
    rows: list[float] = []
    for pair in range(PAIRS):
        chosen = error["policy_chosen"][pair] - error["reference_chosen"][pair]
        rejected = error["policy_rejected"][pair] - error["reference_rejected"][pair]
        pull = beta * (1 - sigmoid(-beta / 2 * (chosen - rejected)))
        both: Sequence[tuple[float, float]] = list(
            zip(found["policy_chosen"][pair].tolist(), found["reference_chosen"][pair].tolist(), strict=True)
        )
        rows.append(math.fsum((own - pull * (own - other)) ** 2 for own, other in both) / SIZE)
    return rows


@pytest.mark.parametrize("beta", [0.001, 0.7, 20.0])
def test_dspo_is_the_equation(beta: float) -> None:
    """The mean over the latent of [(e - t) - beta (1 - s(inside)) (e - e_ref)]^2 on the winner."""
    found = residuals()
    assert Dspo(beta=beta)(scores_of(found)).tolist() == pytest.approx(dspo_by_hand(found, beta), rel=1e-12)


def test_dspo_starts_at_the_winners_error() -> None:
    """Where the policy is the reference, the second term is 0 and the loss is the winner's squared error."""
    found = residuals()
    equal = {name: found[name.replace("policy", "reference")] for name in found}
    assert Dspo()(scores_of(equal)).tolist() == pytest.approx(errors(equal, "policy_chosen"), rel=1e-12)


def test_dspo_pulls_further_the_way_the_pair_says() -> None:
    """Its gradient by the policy's residual is that of the written equation, the way through s(inside) included."""
    found, beta, step = residuals(), 0.7, 1e-6
    leaf = found["policy_chosen"].clone().requires_grad_()
    (got,) = torch.autograd.grad(Dspo(beta=beta)(scores_of({**found, "policy_chosen": leaf})).sum(), leaf)
    for row, column in ((0, 0), (2, 7), (4, 11)):
        nudged = []
        for sign in (1, -1):
            moved = found["policy_chosen"].clone()
            moved[row, column] += sign * step
            nudged.append(math.fsum(dspo_by_hand({**found, "policy_chosen": moved}, beta)))
        assert got[row, column].item() == pytest.approx((nudged[0] - nudged[1]) / (2 * step), rel=1e-6)


def test_dspo_says_what_it_lacks() -> None:
    """Scores without residuals are an error that names the detail and the way to switch it on."""
    scores = scores_of(residuals()).replace(detail={})
    with pytest.raises(ConfigError, match=r"policy_chosen/residual.*with_details"):
        Dspo()(scores)


@pytest.mark.parametrize(
    "loss", [Mapo(timesteps=9.0), DiffusionKto(beta=2.0), DiffusionKto(beta=2.0, utility="loss_averse"), Dspo(beta=0.7)], ids=repr
)
def test_derivatives_are_those_of_the_function(loss: Loss) -> None:
    """gradcheck: derivatives by the policy's residuals against differences in float64."""
    found = residuals()
    names = [name for name in found if name.startswith("policy")]

    def of(*moved: Tensor) -> Tensor:
        return loss(scores_of({**found, **dict(zip(names, moved, strict=True))}))

    if isinstance(loss, DiffusionKto):  # z has no gradient: hold it at 0, where it is not the function's either
        found = {name: value * (1.5 if name.startswith("policy") else 1.0) for name, value in found.items()}
    assert torch.autograd.gradcheck(of, [found[name].clone().requires_grad_() for name in names])


def test_the_plugin_offers_them() -> None:
    """The hook names the three losses, and each name leads to its class."""
    offered = dpoframe_diffusion.dpoframe_losses()
    assert offered == {
        name: f"{kind.__module__}:{kind.__name__}"
        for name, kind in (("mapo", Mapo), ("diffusion_kto", DiffusionKto), ("dspo", Dspo))
    }
