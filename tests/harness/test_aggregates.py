"""Intervals of figures over all samples that are no means."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats as scipy_stats

from dpoframe.evaluator import Scored
from dpoframe.harness import stats


def ratio(scores: Sequence[Scored]) -> dict[str, float]:
    """An aggregate: the sum of one value over the sum of another."""
    return {"ratio": sum(one.values["x"] for one in scores) / sum(one.values["y"] for one in scores)}


def scored(columns: Sequence[Sequence[float]], clusters: Sequence[object]) -> list[Scored]:
    """Samples with values x and y."""
    rows = zip(*columns, clusters, strict=True)
    return [Scored(str(number), str(cluster), {"x": x, "y": y}) for number, (x, y, cluster) in enumerate(rows)]


def test_aggregate_interval_agrees_with_scipy() -> None:
    """The interval of a ratio is scipy's paired BCa bootstrap of that ratio, but for the widening for few clusters."""
    x, y = np.random.default_rng(8).exponential(size=(2, 40)) + 0.5

    def whole(one: np.ndarray, two: np.ndarray, axis: int = -1) -> np.ndarray:
        return one.sum(axis) / two.sum(axis)

    drawn = {"n_resamples": 1999, "method": "BCa", "paired": True, "rng": np.random.default_rng(0)}
    expected = scipy_stats.bootstrap((x, y), whole, vectorized=True, **drawn).confidence_interval
    found = stats.aggregate_estimates(scored((x.tolist(), y.tolist()), range(40)), ratio)["ratio"]
    tail = float(scipy_stats.t.cdf(-1.959963984540054 * math.sqrt(39 / 40), 39))
    assert found.value == pytest.approx(x.sum() / y.sum())
    assert found.bounds(tail) == pytest.approx((expected.low, expected.high), abs=1e-9)
    got = stats.aggregate_interval(scored((x.tolist(), y.tolist()), range(40)), ratio)["ratio"]
    assert got.low < found.bounds(tail)[0] < found.bounds(tail)[1] < got.high


def test_aggregate_interval_of_a_mean_is_the_means() -> None:
    """For an aggregate that is a mean, clusters of unlike sizes, its interval is near the cluster-robust t interval."""
    generator = np.random.default_rng(9)
    clusters = generator.integers(0, 50, 200).tolist()
    values = (generator.normal(size=200) + np.asarray(clusters) / 20).tolist()
    got = stats.aggregate_interval(scored((values, [1.0] * 200), clusters), ratio)["ratio"]
    plain = stats.mean_interval(values, clusters, share=False)
    assert got.value == pytest.approx(plain.value)
    assert got.n == plain.n
    assert (got.low, got.high) == pytest.approx((plain.low, plain.high), abs=0.1 * (plain.high - plain.low))


def test_paired_aggregates_are_paired() -> None:
    """The difference of two noisy ratios that share their noise is known far better than either."""
    generator = np.random.default_rng(10)
    x = generator.exponential(size=60) + 0.2
    before = scored((x.tolist(), [1.0] * 60), range(60))
    after = scored(((x + generator.normal(0.1, 0.02, 60)).tolist(), [1.0] * 60), range(60))
    got = stats.paired_aggregate_difference(before, after, ratio)["ratio"]
    alone = stats.aggregate_interval(before, ratio)["ratio"]
    assert got.value == pytest.approx(ratio(after)["ratio"] - ratio(before)["ratio"])
    assert got.high - got.low < 0.1 * (alone.high - alone.low)
    with pytest.raises(ValueError, match="same samples"):
        stats.paired_aggregate_difference(before, after[1:], ratio)


def test_a_cluster_drawn_again_is_another_cluster() -> None:
    """An aggregate that counts its clusters sees as many in every resample as there are, and samples of unlike ids."""
    seen: set[tuple[int, int, int]] = set()

    def groups(scores: Sequence[Scored]) -> dict[str, float]:
        seen.add((len({one.cluster for one in scores}), len({one.id for one in scores}), len(scores)))
        return {"count": float(len(scores))}

    stats.aggregate_interval(scored(([1.0] * 12, [1.0] * 12), np.arange(6).repeat(2).tolist()), groups)
    assert seen == {(6, 12, 12), (5, 10, 10)}  # the smaller ones leave a cluster out, for the acceleration


def test_an_aggregate_of_many_samples_is_not_formed_thousands_of_times() -> None:
    """With 3,000 clusters the interval is the jackknife's over 50 groups: near the t interval, from 51 calls."""
    values, calls = np.random.default_rng(11).normal(size=3000), []

    def counted(scores: Sequence[Scored]) -> dict[str, float]:
        calls.append(len(scores))
        return ratio(scores)

    got = stats.aggregate_interval(scored((values.tolist(), [1.0] * 3000), range(3000)), counted)["ratio"]
    plain = stats.t_interval(values.tolist())
    assert calls == [3000, *[2940] * 50]
    assert got.n == 3000
    assert got.stderr == pytest.approx(plain.stderr, rel=0.3)
    assert got.low < got.value < got.high


def test_an_aggregate_that_drawing_twice_makes_smaller() -> None:
    """The number of different values falls in every resample: the interval is the jackknife's, and holds the figure."""

    def different(scores: Sequence[Scored]) -> dict[str, float]:
        return {"different": float(len({one.values["x"] for one in scores}))}

    values = np.random.default_rng(12).integers(0, 60, 80).astype(float).tolist()
    got = stats.aggregate_interval(scored((values, [1.0] * 80), range(80)), different)["different"]
    once = sum(values.count(value) == 1 for value in values)
    # Leaving one out loses a value only where it stands once: variance (n - 1) / n * (once - once^2 / n).
    assert got.stderr == pytest.approx(math.sqrt(79 / 80 * (once - once * once / 80)))
    assert got.low < got.value < got.high


def test_an_aggregate_that_resamples_cannot_have() -> None:
    """A figure that many resamples lack (no sample of a rare class was drawn) has a value, and an interval that is unknown."""

    def rare(scores: Sequence[Scored]) -> dict[str, float]:
        return {"of the rare": 1.0 / sum(one.values["x"] for one in scores), "always": float(len(scores))}

    found = stats.aggregate_interval(scored(([1.0, *[0.0] * 9], [1.0] * 10), range(10)), rare)
    assert found["of the rare"].value == 1.0
    assert math.isnan(found["of the rare"].low)
    assert not math.isnan(found["always"].low) or found["always"].value == 10.0
    assert stats.aggregate_interval([], rare) == {}
