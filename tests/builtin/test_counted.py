"""The evaluators that count or compare numbers, against arithmetic that is written out, and published values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dpoframe import Sample
from dpoframe.builtin.base_logp import BaseLogp
from dpoframe.builtin.degeneration import Degeneration
from dpoframe.builtin.distinct_n import DistinctN
from dpoframe.builtin.finished import Finished
from dpoframe.builtin.kl import Kl
from dpoframe.builtin.preference_accuracy import PreferenceAccuracy
from dpoframe.builtin.response_length import ResponseLength
from dpoframe.builtin.reward_margin import RewardMargin


def answer(text: str = "", *, finished: bool = True, **detail: float) -> Sample:
    """A sample with this answer and these details."""
    return Sample("a", "q", text, finished, detail)


@pytest.mark.parametrize(
    ("margin", "expected"),
    [
        (0.3, {"accuracy": 1.0, "tie_rate": 0.0}),
        (-0.3, {"accuracy": 0.0, "tie_rate": 0.0}),
        (0.0, {"accuracy": 0.5, "tie_rate": 1.0}),
        (5e-5, {"accuracy": 0.5, "tie_rate": 1.0}),
        (-5e-5, {"accuracy": 0.5, "tie_rate": 1.0}),
        (2e-4, {"accuracy": 1.0, "tie_rate": 0.0}),
    ],
)
def test_preference_accuracy(margin: float, expected: dict[str, float]) -> None:
    """A tie counts one half and is counted as a tie; rounding of the two log-probabilities is one."""
    assert PreferenceAccuracy().score(answer(margin=margin)) == expected


def test_reward_margin() -> None:
    """The margin times beta."""
    assert RewardMargin(beta=0.1).score(answer(margin=4.0)) == {"margin": pytest.approx(0.4)}


def test_kl_of_one_answer() -> None:
    """With d = -10 - (-12) = 2 nats over 4 tokens, k3 = e^-2 - 1 + 2 = 1.13533528."""
    found = Kl().score(answer(policy_logp=-10.0, base_logp=-12.0, base_length=4.0))
    assert found == pytest.approx({"k1": 2.0, "k1_per_token": 0.5, "k3": 1.13533528, "k3_per_token": 0.28383382})


def test_k3_keeps_its_digits() -> None:
    """For d = 1e-7, k3 = d^2 / 2 = 5e-15, of which exp(-d) - 1 + d in floats keeps nothing."""
    found = Kl().score(answer(policy_logp=-1.0, base_logp=-1.0 - 1e-7, base_length=1.0))
    assert found is not None
    assert found["k3"] == pytest.approx(5e-15, rel=0.05)


def test_kl_far_out() -> None:
    """Where exp(-d) is no float the answer has no k3, and keeps its k1."""
    found = Kl().score(answer(policy_logp=-1000.0, base_logp=-100.0, base_length=10.0))
    assert found == {"k1": -900.0, "k1_per_token": -90.0}


def test_kl_of_nothing() -> None:
    """An answer without a token is unscored."""
    assert Kl().score(answer(policy_logp=0.0, base_logp=0.0, base_length=0.0)) is None


@pytest.mark.parametrize(("shift", "true", "spread_k1", "spread_k3"), [(0.1, 0.005, 20.0, 1.42), (1.0, 0.5, 2.0, 1.7)])
def test_kl_against_schulmans_table(shift: float, true: float, spread_k1: float, spread_k3: float) -> None:
    """For N(0, 1) against N(shift, 1) both estimators have the true mean, and the spreads of Schulman's tables.

    The expectation over N(0, 1) is taken by Gauss and Hermite's rule with 80 nodes.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    found = [Kl().score(answer(policy_logp=-x * x / 2, base_logp=-((x - shift) ** 2) / 2, base_length=1.0)) for x in nodes.tolist()]
    for name, spread in (("k1", spread_k1), ("k3", spread_k3)):
        values = np.array([one[name] for one in found if one is not None])
        mean = float(weights @ values)
        assert mean == pytest.approx(true, rel=1e-6)
        assert math.sqrt(weights @ (values - mean) ** 2) / true == pytest.approx(spread, abs=0.03)


def test_response_length() -> None:
    """Words at white space; the modality's units where it reports them."""
    assert ResponseLength().score(answer("one two,three\n four")) == {"words": 3.0}
    assert ResponseLength().score(answer("", length=5.0)) == {"words": 0.0, "units": 5.0}


def test_distinct_n() -> None:
    """`a b a b c`: bigrams ab ba ab bc, 3 of 4 distinct; unigrams 3 of 5; none where the answer is shorter than n."""
    assert DistinctN().score(answer("a b A B c")) == {"ratio": 0.75}
    assert DistinctN(n=1).score(answer("a b a b c")) == {"ratio": 0.6}
    assert DistinctN().score(answer("a")) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes yes yes yes", 1.0),
        ("yes yes yes no", 0.0),
        ("one two one two one two one two", 1.0),
        ("one two one two one two", 0.0),
        ("a b c a b c a b c", 1.0),
        ("a b c a b c a b", 0.0),
        ("a b c d e f x a b c d e f y a b c d e f", 1.0),
        ("", 1.0),
        (" \n ", 1.0),
        ("A plain answer.", 0.0),
    ],
)
def test_degeneration(text: str, expected: float) -> None:
    """One or two words four times in a row, three or more three times, six words three times anywhere, or no word."""
    assert Degeneration().score(answer(text)) == {"rate": expected}


def test_finished() -> None:
    """Whether the model ended the answer."""
    assert Finished().score(answer("x")) == {"rate": 1.0}
    assert Finished().score(answer("x", finished=False)) == {"rate": 0.0}


def test_base_logp() -> None:
    """The sum over the tokens."""
    assert BaseLogp().score(answer(base_logp=-12.0, base_length=8.0)) == {"per_token": -1.5}
    assert BaseLogp().score(answer(base_logp=0.0, base_length=0.0)) is None
