"""HS-DPO against arithmetic written out, and against the paper's own procedure."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from dpoframe_moderation.losses.hs_dpo import HsDpo

from dpoframe import losses
from dpoframe.testing import LossContract
from dpoframe.types import PairScores

# Policy and reference log-probabilities of the chosen and of the rejected answer.
ROWS = ((-0.2, -1.8, -0.7, -0.69), (-3.0, -0.1, -2.5, -0.08), (-0.01, -5.0, -0.02, -4.0), (-1.0, -0.5, -0.6, -0.8))


class TestPlain(LossContract):
    """The weight alone."""

    loss = HsDpo()


class TestDraws(LossContract):
    """The weight with the chance that a pair is kept."""

    loss = HsDpo(draws=4, gamma=0.5)


def scores(rows=ROWS):
    """Rows as scores, float64."""
    columns = torch.tensor(rows, dtype=torch.float64).T
    one = torch.ones(len(rows))
    return PairScores(columns[0], columns[1], columns[2], columns[3], one, one)


@pytest.mark.parametrize("gamma", [0.0, 0.2, 0.9])
def test_against_arithmetic(gamma):
    """-alpha log s(beta D) with alpha = 1 + gamma (2 q - 1), q the reference's share of the wrong answer."""
    expected = []
    for chosen, rejected, ref_chosen, ref_rejected in ROWS:
        q = math.exp(ref_rejected) / (math.exp(ref_chosen) + math.exp(ref_rejected))
        margin = 0.3 * ((chosen - ref_chosen) - (rejected - ref_rejected))
        expected.append(-(1 + gamma * (2 * q - 1)) * math.log(1 / (1 + math.exp(-margin))))
    np.testing.assert_allclose(HsDpo(beta=0.3, gamma=gamma)(scores()).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("k", [3, 4, 7])
def test_draws_are_the_papers_weight_on_average(k):
    """With `draws: k` the weight is the sum over all outcomes of k answers of their chance times the paper's weight."""
    gamma = 0.2
    for *_, ref_chosen, ref_rejected in ROWS:
        q = 1 / (1 + math.exp(ref_chosen - ref_rejected))
        # Of the kept outcomes, 1 to k - 1 wrong answers, the weight goes linearly from 1 - gamma to 1 + gamma.
        expected = sum(
            math.comb(k, wrong) * q**wrong * (1 - q) ** (k - wrong) * (1 - gamma + 2 * gamma * (wrong - 1) / (k - 2))
            for wrong in range(1, k)
        )
        odds = torch.tensor([ref_rejected - ref_chosen], dtype=torch.float64)
        assert HsDpo(draws=k, gamma=gamma).weight(odds).item() == pytest.approx(expected, rel=1e-9)


def test_gamma_zero_is_dpo():
    """Without a weight it is the core's loss `sigmoid`, value and gradient."""
    made, plain = scores(), losses.create("sigmoid", beta=0.4)
    torch.testing.assert_close(HsDpo(beta=0.4, gamma=0.0)(made), plain(made), rtol=1e-12, atol=0)


def test_the_weight_has_no_gradient():
    """The reference's scores carry no gradient into the loss, even where they have a graph."""
    made = scores()
    leaf = made.reference_chosen.clone().requires_grad_()
    weight = HsDpo().weight(made.reference_rejected - leaf)
    assert not weight.requires_grad


def test_hard_pairs_count_more():
    """The weight grows with the reference's odds of the wrong answer, within 1 - gamma and 1 + gamma; draws drop sure ones."""
    odds = torch.linspace(-60, 60, 241, dtype=torch.float64)
    weight = HsDpo(gamma=0.2).weight(odds)
    assert bool((weight.diff() >= 0).all())
    assert (weight[0].item(), weight[120].item(), weight[-1].item()) == pytest.approx((0.8, 1.0, 1.2))
    kept = HsDpo(gamma=0.2, draws=4).weight(odds)
    assert bool((kept >= 0).all())
    assert (kept[0].item(), kept[-1].item()) == pytest.approx((0, 0), abs=1e-12)
    # q = 1/2 and four answers: 14 of 16 outcomes are mixed, and weigh 1 on average.
    assert kept[120].item() == pytest.approx(14 / 16)
