"""Statistics against published values, scipy, and arithmetic written out."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from dpoframe.harness import stats

SIX_OF_TEN = [1.0] * 6 + [0.0] * 4
CLUSTERED = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0]
CLUSTERS = [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]


def test_wilson_published() -> None:
    """Six of ten: mean .6, stderr .163299, interval .312674 to .831820."""
    got = stats.wilson(6, 10)
    assert (got.value, got.stderr, got.low, got.high) == pytest.approx((0.6, 0.163299, 0.312674, 0.831820), abs=5e-7)


@given(st.integers(0, 40), st.integers(1, 40))
def test_wilson_agrees_with_scipy(successes: int, n: int) -> None:
    """Scipy's own Wilson interval is the same for any count."""
    successes = min(successes, n)
    expected = scipy_stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    got = stats.wilson(successes, n)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_t_interval_agrees_with_scipy() -> None:
    """Scipy's one-sample t interval is the same."""
    values = [0.3, -1.2, 4.5, 2.2, 0.9]
    expected = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    got = stats.t_interval(values)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_cluster_stderr_parity() -> None:
    """The worked example: .231517 plain, .267333 with C/(C-1), against .163299 that ignores clusters."""
    assert stats.cluster_stderr(CLUSTERED, CLUSTERS) == pytest.approx(0.231517, abs=5e-7)
    assert stats.cluster_stderr(CLUSTERED, CLUSTERS, small_sample=True) == pytest.approx(0.267333, abs=5e-7)
    assert stats.t_interval(CLUSTERED).stderr == pytest.approx(0.163299, abs=5e-7)


def test_cluster_interval_uses_clusters() -> None:
    """Several values a cluster take the cluster-robust error, t with C - 1 degrees of freedom, and n = C."""
    got = stats.mean_interval(CLUSTERED, CLUSTERS)
    half = float(scipy_stats.t.ppf(0.975, 3)) * 0.2673325020768456
    assert (got.value, got.low, got.high) == pytest.approx((0.6, 0.6 - half, 0.6 + half), abs=1e-9)
    assert got.n == 4


def test_clusters_of_one_are_the_plain_interval() -> None:
    """With one value a cluster the interval is Wilson's for yes-or-no values, t for others."""
    assert stats.mean_interval(SIX_OF_TEN, range(10)) == stats.wilson(6, 10)
    numbers = [0.5, 1.5, 3.0]
    assert stats.mean_interval(numbers, "abc") == stats.t_interval(numbers)


def test_mcnemar_published() -> None:
    """Four gained, none lost: p = .125; no discordant pair: p = 1."""
    assert stats.mcnemar(4, 0) == pytest.approx(0.125)
    assert stats.mcnemar(0, 0) == 1.0


def test_smallest_detectable_published() -> None:
    """With a variance of .2 the 164 problems of HumanEval find 9.8 points at 80 % power."""
    assert stats.smallest_detectable(0.2, 164) == pytest.approx(0.098, abs=5e-4)


def test_newcombe_published() -> None:
    """Newcombe 1998, paired data, method 10: 36 both, 12 against 2 discordant, none neither gives .0569 to .3404."""
    after, before = [1.0] * 48 + [0.0] * 2, [1.0] * 36 + [0.0] * 12 + [1.0] * 2
    got = stats.newcombe(before, after)
    assert (got.value, got.low, got.high) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=30))
def test_newcombe_mirrors(rows: list[tuple[bool, bool]]) -> None:
    """Before and after exchanged mirror the interval, which holds the difference and stays inside [-1, 1]."""
    before, after = [float(a) for a, _ in rows], [float(b) for _, b in rows]
    one, other = stats.newcombe(before, after), stats.newcombe(after, before)
    assert -1.0 <= one.low <= one.value + 1e-12
    assert one.value - 1e-12 <= one.high <= 1.0
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-9)


def test_paired_difference_is_paired() -> None:
    """A constant shift between two noisy columns is found with far less uncertainty than the columns have."""
    noise = np.random.default_rng(1).normal(size=60)
    shift = np.random.default_rng(2).normal(0.3, 0.05, size=60)
    got = stats.paired_difference(noise.tolist(), (noise + shift).tolist(), range(60))
    assert got.value == pytest.approx(float(shift.mean()))
    assert got.excludes(0.0)
    assert got.high - got.low < 0.05 < stats.t_interval(noise.tolist()).high - stats.t_interval(noise.tolist()).low


def test_paired_bootstrap_near_t() -> None:
    """For well-behaved differences BCa and Student's t agree to a tenth of the width."""
    differences = np.random.default_rng(3).normal(1.0, 1.0, size=200)
    got = stats.paired_difference([0.0] * 200, differences.tolist(), range(200))
    plain = stats.t_interval(differences.tolist())
    assert abs(got.low - plain.low) < 0.1 * (plain.high - plain.low)
    assert abs(got.high - plain.high) < 0.1 * (plain.high - plain.low)


def test_paired_difference_of_clusters_counts_clusters() -> None:
    """Copies of a cluster's samples add no certainty."""
    before, after = np.random.default_rng(4).normal(size=(2, 20)).tolist()
    one = stats.paired_difference(before, after, range(20))
    many = stats.paired_difference(before * 3, after * 3, [*range(20)] * 3)
    assert (one.value, one.low, one.high) == pytest.approx((many.value, many.low, many.high))
    assert one.n == many.n == 20


def test_paired_difference_repeats() -> None:
    """The bootstrap's seed is fixed: the same data give the same bounds."""
    before, after = [0.1, 0.7, 0.3, 0.2, 0.9], [0.2, 0.5, 0.9, 0.8, 1.4]
    assert stats.paired_difference(before, after, range(5)) == stats.paired_difference(before, after, range(5))


def test_equal_differences_have_width_zero() -> None:
    """Where every cluster differs by the same amount the interval is that point, and excludes 0 only if it is not 0."""
    same = stats.paired_difference([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], range(3))
    assert (same.low, same.high) == (0.0, 0.0)
    assert not same.excludes(0.0)


def test_constant_base_keeps_the_uncertainty() -> None:
    """Against a base that is one half by definition, 72 of 72 is +.5 with Wilson's uncertainty, not with none."""
    got = stats.paired_difference([0.5] * 72, [1.0] * 72, range(72))
    expected = stats.wilson(72, 72)
    assert (got.value, got.low, got.high) == pytest.approx((0.5, expected.low - 0.5, 0.5))
    assert got.low < 0.46


def test_zeros_that_are_no_shares() -> None:
    """Zeros of an open scale (margins in nats) are numbers: their interval is [0, 0], not Wilson's."""
    got = stats.mean_interval([0.0] * 9, range(9), share=False)
    assert (got.low, got.high) == (0.0, 0.0)


def test_one_value_has_no_interval() -> None:
    """A single value gives its mean and unknown bounds, which exclude nothing."""
    got = stats.mean_interval([2.5], ["a"])
    assert got.value == 2.5
    assert math.isnan(got.low)
    assert not got.excludes(0.0)


def test_newcombe_of_an_odd_count() -> None:
    """Method 10 for 5 both, 2 gained, 0 lost, 4 neither of 11, written out: phi's cross product is 20 - 11 / 2 = 14.5."""
    after, before = [1.0] * 7 + [0.0] * 4, [1.0] * 5 + [0.0] * 6
    phi = 14.5 / math.sqrt(7 * 4 * 5 * 6)
    one, two = (scipy_stats.binomtest(count, 11).proportion_ci(0.95, method="wilson") for count in (7, 5))
    down, up = 7 / 11 - one.low, one.high - 7 / 11
    other_down, other_up = 5 / 11 - two.low, two.high - 5 / 11
    low = 2 / 11 - math.sqrt(down**2 - 2 * phi * down * other_up + other_up**2)
    high = 2 / 11 + math.sqrt(up**2 - 2 * phi * up * other_down + other_down**2)
    got = stats.newcombe(before, after)
    assert (got.low, got.high) == pytest.approx((low, high), abs=1e-12)


def test_bootstrap_of_a_large_suite_fits_into_memory() -> None:
    """The resamples of 4,000 prompts (160 MB as a whole) are drawn piece by piece."""
    values = np.random.default_rng(5).normal(size=4000).tolist()
    tracemalloc.start()
    try:
        stats.paired_difference([0.0] * 4000, values, range(4000))
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()
