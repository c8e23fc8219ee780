"""The win rate at equal lengths, against other optimizers and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize

from dpoframe.builtin.length_control import PENALTY, fit, length_controlled


def logistic(value: float) -> float:
    """1 / (1 + e^-x)."""
    return 1 / (1 + math.exp(-value))


def drawn(n: int, seed: int, intercept: float = 0.4, slope: float = 1.5) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wins of 0, 1/4, 1/2, 3/4 or 1, likelier where the answer is longer, and the differences in length."""
    rng = np.random.default_rng(seed)
    differences = np.round(rng.normal(50, 300, n))
    chance = 1 / (1 + np.exp(-(intercept + slope * np.tanh(differences / differences.std(ddof=1)))))
    return rng.binomial(4, chance) / 4, differences


@pytest.mark.parametrize("seed", range(5))
def test_against_scipys_optimizer(seed: int) -> None:
    """The fit is the minimum that scipy's BFGS finds of the same loss, written out here."""
    wins, differences = drawn(200, seed)
    term = np.tanh(differences / differences.std(ddof=1))

    def loss(weights: NDArray[np.float64]) -> float:
        chance = 1 / (1 + np.exp(-(weights[0] + weights[1] * term)))
        return float(-np.sum(wins * np.log(chance) + (1 - wins) * np.log(1 - chance)) + PENALTY / 2 * np.sum(weights**2))

    found = optimize.minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-6})
    assert fit(wins, np.column_stack([np.ones_like(term), term])) == pytest.approx(found.x, abs=1e-5)
    assert length_controlled(wins.tolist(), differences.tolist()) == pytest.approx(logistic(found.x[0]), abs=1e-5)


def test_against_statsmodels() -> None:
    """Without a penalty in sight the figure is that of statsmodels' binomial regression, to three digits."""
    api = pytest.importorskip("statsmodels.api")
    wins, differences = drawn(400, 7)
    term = np.tanh(differences / differences.std(ddof=1))
    found = api.GLM(wins, api.add_constant(term), family=api.families.Binomial()).fit()
    assert length_controlled(wins.tolist(), differences.tolist()) == pytest.approx(logistic(found.params[0]), abs=1e-4)


def test_two_lengths() -> None:
    """Half of the answers longer by 9 with .8 of them winning, half shorter by 9 with .4: logit = (logit .8 + logit .4) / 2.

    (1.386294 - 0.405465) / 2 = 0.490415, of which the logistic is 0.620204; the plain win rate is .6.
    """
    wins = [1.0] * 80 + [0.0] * 20 + [1.0] * 40 + [0.0] * 60
    assert length_controlled(wins, [9.0] * 100 + [-9.0] * 100) == pytest.approx(0.620204, abs=1e-5)


@pytest.mark.parametrize("difference", [0.0, 12.0])
def test_equal_lengths_are_the_plain_win_rate(difference: float) -> None:
    """Where all differ by the same, there is nothing to correct: 3 wins of 4 are .75."""
    assert length_controlled([1.0, 1.0, 1.0, 0.0], [difference] * 4) == pytest.approx(0.75, abs=1e-3)


def test_length_alone() -> None:
    """Where exactly the longer answers win, nothing is left at equal lengths; where all win, all win."""
    wins, differences = [1.0] * 50 + [0.0] * 50, [100.0] * 50 + [-100.0] * 50
    assert length_controlled(wins, differences) == pytest.approx(0.5, abs=1e-6)
    assert length_controlled([1.0] * 100, differences) > 0.999
    assert length_controlled([0.0] * 100, differences) < 0.001


def test_the_judges_love_of_length_is_taken_out() -> None:
    """A model that is no better but longer wins .7 and more; at equal lengths it wins about one half."""
    rng = np.random.default_rng(0)
    differences = rng.normal(300, 200, 4000)
    term = np.tanh(differences / differences.std(ddof=1))
    wins = (rng.random(4000) < 1 / (1 + np.exp(-1.5 * term))).astype(float)
    assert wins.mean() > 0.7
    assert length_controlled(wins.tolist(), differences.tolist()) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    ("wins", "differences"), [([1.0], [5.0]), ([0.0], [0.0]), ([0.5, 0.5], [1e9, -1e-9]), ([1.0, 0.0], [1e12, 0.0])]
)
def test_few_and_extreme(wins: list[float], differences: list[float]) -> None:
    """One sample, or lengths far apart, give a share."""
    assert 0 <= length_controlled(wins, differences) <= 1
