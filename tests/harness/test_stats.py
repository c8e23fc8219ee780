"""Statistics against published values, scipy, and arithmetic written out."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize as scipy_optimize
from scipy import stats as scipy_stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_confint

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
    assert (got.low, got.high) == pytest.approx(proportion_confint(successes, n, method="wilson"), abs=1e-9)


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


def test_cluster_stderr_agrees_with_statsmodels() -> None:
    """The cluster-robust error of a regression on a constant is the same, for clusters of unlike sizes."""
    for corrected in (False, True):
        settings = {"groups": np.asarray(CLUSTERS), "use_correction": corrected}
        fitted = OLS(np.asarray(CLUSTERED), np.ones(10)).fit(cov_type="cluster", cov_kwds=settings)
        got = stats.cluster_stderr(CLUSTERED, CLUSTERS, small_sample=corrected)
        # statsmodels' correction is C / (C - 1) times (n - 1) / (n - 1): one regressor.
        assert got == pytest.approx(float(fitted.bse[0]), abs=1e-12)


def test_cluster_interval_uses_clusters() -> None:
    """Several values a cluster take the cluster-robust error, t with C - 1 degrees of freedom, and n = C."""
    got = stats.mean_interval(CLUSTERED, CLUSTERS, share=False)
    half = float(scipy_stats.t.ppf(0.975, 3)) * 0.2673325020768456
    assert (got.value, got.low, got.high) == pytest.approx((0.6, 0.6 - half, 0.6 + half), abs=1e-9)
    assert got.n == 4
    as_share = stats.mean_interval(CLUSTERED, CLUSTERS)
    assert (as_share.low, as_share.high) == (0.0, 1.0), "a share's interval stays between 0 and 1"


def test_clusters_of_one_are_the_plain_interval() -> None:
    """With one value a cluster the interval is Wilson's for yes-or-no values, t for others."""
    assert stats.mean_interval(SIX_OF_TEN, range(10)) == stats.wilson(6, 10)
    numbers = [0.5, 1.5, 3.0]
    assert stats.mean_interval(numbers, "abc") == stats.t_interval(numbers)


def test_mcnemar_published() -> None:
    """Four gained, none lost: p = .125; no discordant pair: p = 1."""
    assert stats.mcnemar(4, 0) == pytest.approx(0.125)
    assert stats.mcnemar(0, 0) == 1.0


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_agrees_with_statsmodels(gained: int, lost: int) -> None:
    """The exact test of statsmodels gives the same p value for any counts."""
    if gained + lost:
        expected = statsmodels_mcnemar([[5, gained], [lost, 7]], exact=True).pvalue
        assert stats.mcnemar(gained, lost) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("p_values", [[0.3], [0.01, 0.04, 0.03, 0.005], [0.02, 0.02, 0.9], [1.0, 0.0, 0.5, 1e-9, 0.0]])
def test_holm_agrees_with_statsmodels(p_values: list[float]) -> None:
    """The corrected p values of statsmodels are the same, in the same order."""
    expected = multipletests(p_values, method="holm")[1]
    assert stats.holm(p_values) == pytest.approx(expected.tolist(), abs=1e-12)


def test_holm_of_none() -> None:
    """No tests, no p values."""
    assert stats.holm([]) == []


def test_smallest_detectable_agrees_with_statsmodels() -> None:
    """The effect that a one-sample normal test finds at 80 % power, times the deviation; and the n that finds it again."""
    effect = NormalIndPower(ddof=0).solve_power(nobs1=164, alpha=0.05, power=0.8, ratio=0, alternative="two-sided")
    found = stats.smallest_detectable(0.2, 164)
    assert found == pytest.approx(float(effect) * math.sqrt(0.2), abs=1e-6)
    assert stats.units_needed(0.2, found) == 164
    assert stats.units_needed(0.2, 0.0) == math.inf


def test_smallest_detectable_published() -> None:
    """With a variance of .2 the 164 problems of HumanEval find 9.8 points at 80 % power."""
    assert stats.smallest_detectable(0.2, 164) == pytest.approx(0.098, abs=5e-4)


def test_tango_published() -> None:
    """Airway responsiveness before and after a transplantation (Bentur 2009: 1 against 7 of 21): -.517 to -.026.

    Fagerland, Lydersen and Laake give it as the example of Tango's interval in "Statistical analysis of contingency tables".
    """
    got = stats.tango(1, 7, 21)
    assert (got.low, got.high) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize(("gained", "lost", "n"), [(12, 2, 50), (0, 3, 40), (1, 0, 200), (5, 5, 30), (9, 1, 10)])
def test_tango_from_its_definition(gained: int, lost: int, n: int) -> None:
    """At each bound the score statistic is 1.96, its variance from the likelihood maximized here by a search of scipy's."""
    for bound, side in ((stats.tango(gained, lost, n).low, 1), (stats.tango(gained, lost, n).high, -1)):

        def against(share_lost: float, bound: float = bound) -> float:
            shares = (share_lost + bound, share_lost, 1 - 2 * share_lost - bound)
            return -sum(
                count * math.log(max(share, 1e-300)) for count, share in zip((gained, lost, n - gained - lost), shares, strict=True)
            )

        limits = (max(0.0, -bound) + 1e-12, (1 - bound) / 2 - 1e-12)
        found = scipy_optimize.minimize_scalar(against, bounds=limits, method="bounded", options={"xatol": 1e-12}).x
        variance = n * (2 * found + bound - bound * bound)
        assert (gained - lost - n * bound) / math.sqrt(variance) == pytest.approx(side * 1.959964, abs=2e-3)


def test_tango_without_flips_is_wilson_of_none() -> None:
    """Where nothing flipped, as many may flip as Wilson allows where none of n was seen: z^2 / (n + z^2)."""
    got, expected = stats.tango(0, 0, 60), stats.wilson(0, 60)
    assert (got.low, got.high) == pytest.approx((-expected.high, expected.high), abs=1e-9)


@given(st.integers(0, 15), st.integers(0, 15), st.integers(1, 40))
def test_tango_mirrors(gained: int, lost: int, others: int) -> None:
    """Before and after exchanged mirror the interval, which holds the difference and stays inside [-1, 1]."""
    n = gained + lost + others
    one, other = stats.tango(gained, lost, n), stats.tango(lost, gained, n)
    assert -1.0 <= one.low <= one.value <= one.high <= 1.0
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
    same = stats.paired_difference([7.5, 8.0, 9.0], [7.5, 8.0, 9.0], range(3))
    assert (same.low, same.high) == (0.0, 0.0)
    assert not same.excludes(0.0)


@pytest.mark.parametrize(("value", "n"), [(0.5, 24), (0.25, 9), (0.0, 40), (1.0, 40)])
def test_shares_that_are_all_the_same_are_no_certainty(value: float, n: int) -> None:
    """None of n was otherwise: a share u = z^2 / (n + z^2) may be, all of it 0 or all of it 1; scipy gives z."""
    z = float(scipy_stats.norm.ppf(0.975))
    unseen = z * z / (n + z * z)
    got = stats.mean_interval([value] * n, range(n))
    assert (got.value, got.low, got.high) == pytest.approx((value, value - unseen * value, value + unseen * (1 - value)))
    if value in (0.0, 1.0):
        assert (got.low, got.high) == pytest.approx((stats.wilson(n * value, n).low, stats.wilson(n * value, n).high))


def test_constant_base_keeps_the_uncertainty() -> None:
    """Against a base that is one half by definition, 72 of 72 is +.5 with Wilson's uncertainty, not with none."""
    got = stats.paired_difference([0.5] * 72, [1.0] * 72, range(72))
    expected = stats.wilson(72, 72)
    assert (got.value, got.low, got.high) == pytest.approx((0.5, expected.low - 0.5, 0.5))
    assert got.low < 0.46


def test_all_right_in_clusters_is_no_proof() -> None:
    """Four answers a prompt, all of 30 prompts right: Wilson's for 30 of 30, alone and against a base of one half."""
    values, clusters = [1.0] * 120, np.arange(30).repeat(4).tolist()
    expected = stats.wilson(30, 30)
    alone = stats.mean_interval(values, clusters)
    assert (alone.value, alone.low, alone.high, alone.n) == pytest.approx((1.0, expected.low, 1.0, 30))
    got = stats.paired_difference([0.5] * 120, values, clusters)
    assert (got.value, got.low, got.high) == pytest.approx((0.5, expected.low - 0.5, 0.5))


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


def test_bootstrap_of_a_large_suite_fits_into_memory() -> None:
    """The resamples of 4,000 prompts (160 MB as a whole) are drawn piece by piece."""
    values = np.random.default_rng(5).normal(size=4000).tolist()
    tracemalloc.start()
    try:
        stats.paired_difference([0.0] * 4000, values, range(4000))
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()


def test_bca_agrees_with_scipy() -> None:
    """At the tail that the widening for few clusters takes to .025, the interval is that of scipy's BCa bootstrap."""
    values = np.random.default_rng(6).exponential(size=60)
    drawn = {"n_resamples": 4999, "method": "BCa", "rng": np.random.default_rng(0)}
    expected = scipy_stats.bootstrap((values,), np.mean, **drawn).confidence_interval
    tail = float(scipy_stats.t.cdf(-1.959963984540054 * math.sqrt(59 / 60), 59))
    low, high = stats.paired_estimate([0.0] * 60, values.tolist(), range(60), share=False).bounds(tail)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_difference_is_the_difference_of_the_means() -> None:
    """With clusters of unlike sizes the figures of a row add up: the difference of the means over samples."""
    before, after = [0.0, 1.0, 2.0, 5.0], [1.0, 1.0, 4.0, 9.0]
    got = stats.paired_difference(before, after, ["a", "a", "a", "b"], share=False)
    assert got.value == pytest.approx(np.mean(after) - np.mean(before))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-2, 2), st.floats(-2, 2)), min_size=3, max_size=20))
def test_p_values_agree_with_intervals(rows: list[tuple[int, float, float]]) -> None:
    """A p value under .05 comes with a 95 % interval that excludes 0, and the other way round, whatever the values."""
    before, after = [first for _, first, _ in rows], [second for _, _, second in rows]
    found = stats.paired_estimate(before, after, [cluster for cluster, _, _ in rows], share=False)
    p, interval = found.p_value(), found.interval()
    assert interval.excludes(0.0) == (p < 0.05) or abs(p - 0.05) < 1e-9


def test_one_sided_p_values_of_a_t_interval() -> None:
    """For Student's t both tails are those of scipy's one-sample tests, against any point."""
    values = np.random.default_rng(7).normal(0.4, 1.0, size=25)
    mean, stderr = float(values.mean()), float(values.std(ddof=1) / 5)
    found = stats.student(mean, stderr, 25)
    for point in (-0.3, 0.0, 0.9 * mean):
        assert found.above(point) == pytest.approx(
            float(scipy_stats.ttest_1samp(values, point, alternative="greater").pvalue), rel=1e-6
        )
        assert found.p_value(point) == pytest.approx(float(scipy_stats.ttest_1samp(values, point).pvalue), rel=1e-6)
    assert found.mirrored().below(0.3) == pytest.approx(found.above(-0.3))


def test_clusters_that_all_stayed_are_no_proof() -> None:
    """Yes-or-no answers, four a prompt, none of 60 prompts changed: the interval is Wilson's for none of 60, not a point."""
    values, clusters = [1.0, 0.0, 1.0, 1.0] * 60, np.arange(60).repeat(4).tolist()
    got = stats.paired_difference(values, values, clusters)
    assert (got.low, got.high) == pytest.approx((-stats.wilson(0, 60).high, stats.wilson(0, 60).high))


def test_an_interval_is_an_estimate_again() -> None:
    """From a 95 % interval alone the p value is the normal one, on the side that is asked for."""
    found = stats.from_interval(stats.Interval(1.0, 0.02, 1.5, 0.5, 30))
    assert found.bounds(0.025) == pytest.approx((0.02, 1.5))
    assert found.above(0.0) == pytest.approx(float(scipy_stats.norm.sf(1.959964 / 0.98)), rel=1e-4)
