"""Figures of scores against scikit-learn and torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from dpoframe_moderation.evaluators.calibration import calibration_error
from dpoframe_moderation.evaluators.curve import Curve, Flags, Floats, f1
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve
from torchmetrics.functional.classification import (
    binary_average_precision,
    binary_calibration_error,
    binary_sensitivity_at_specificity,
)

CASES = [(seed, size, places) for seed, size in enumerate((2, 7, 50, 400, 3000)) for places in (1, 6)]
"""Seed, number of texts, and decimals that scores are rounded to: with one there are many ties."""


def drawn(seed: int, size: int, places: int) -> tuple[Floats, Flags]:
    """Scores between 0 and 1, higher on average for positives; both classes are there."""
    generator = np.random.default_rng(seed)
    positive = generator.random(size) < 0.3
    positive[:2] = (True, False)
    return np.round(1 / (1 + np.exp(-generator.normal(positive * 1.5, 2.0))), places), positive


def curve(scores: Floats, positive: Flags) -> Curve:
    """The curve, which is there."""
    found = Curve.of(scores, positive)
    assert found is not None
    return found


@pytest.mark.parametrize(("seed", "size", "places"), CASES)
def test_areas(seed: int, size: int, places: int) -> None:
    """Average precision and ROC area are scikit-learn's and torchmetrics', with and without ties."""
    scores, positive = drawn(seed, size, places)
    found = curve(scores, positive)
    assert found.average_precision() == pytest.approx(average_precision_score(positive, scores), abs=1e-12)
    theirs = binary_average_precision(torch.tensor(scores), torch.tensor(positive.astype(int)))
    assert found.average_precision() == pytest.approx(float(theirs), abs=1e-6)
    assert found.roc_area() == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.5])
@pytest.mark.parametrize(("seed", "size", "places"), CASES)
def test_recall_at_a_false_positive_rate(seed: int, size: int, places: int, rate: float) -> None:
    """It is the largest recall on scikit-learn's ROC curve up to that rate, and torchmetrics' at the specificity 1 - rate."""
    scores, positive = drawn(seed, size, places)
    wrong, right, _ = roc_curve(positive, scores, drop_intermediate=False)
    found = curve(scores, positive).recall_at(rate)
    assert found == pytest.approx(right[wrong <= rate].max(), abs=1e-12)
    theirs, _ = binary_sensitivity_at_specificity(torch.tensor(scores), torch.tensor(positive.astype(int)), 1 - rate)
    assert found == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.parametrize(("seed", "size", "places"), CASES)
def test_f1(seed: int, size: int, places: int) -> None:
    """From counts it is scikit-learn's."""
    scores, positive = drawn(seed, size, places)
    flagged = scores > 0.5
    found = f1((flagged & positive).sum(), (flagged & ~positive).sum(), positive.sum())
    assert found == pytest.approx(f1_score(positive, flagged), abs=1e-12)


def test_figures_that_do_not_exist() -> None:
    """One class alone has no curve; where nothing is positive and nothing flagged there is no F1."""
    assert Curve.of(np.array([0.1, 0.9]), np.array([True, True])) is None
    assert Curve.of(np.array([0.1, 0.9]), np.array([False, False])) is None
    assert math.isnan(f1(0, 0, 0))


def test_calibration_in_both_conventions() -> None:
    """A probability of 1 counts in the last bin, or as torchmetrics has it in its own: .465 and .535 for the same texts."""
    chances, positive = np.array([0.92, 0.94, 1, 1]), np.array([True, True, False, False])
    assert calibration_error(chances, positive, 10) == pytest.approx(0.465)
    assert calibration_error(chances, positive, 10, one="own") == pytest.approx(0.535)
    theirs = binary_calibration_error(torch.tensor(chances), torch.tensor(positive.astype(int)), n_bins=10)
    assert float(theirs) == pytest.approx(0.535)


@pytest.mark.parametrize("bins", [10, 15])
@pytest.mark.parametrize(("seed", "size", "places"), [one for one in CASES if one[2] > 1])
def test_calibration(seed: int, size: int, places: int, bins: int) -> None:
    """In torchmetrics' convention it is torchmetrics'; without a probability of 1 both conventions agree."""
    scores, positive = drawn(seed, size, places)
    scores = scores.clip(max=1 - 1e-6)
    theirs = binary_calibration_error(torch.tensor(scores), torch.tensor(positive.astype(int)), n_bins=bins)
    assert calibration_error(scores, positive, bins, one="own") == pytest.approx(float(theirs), abs=1e-9)
    assert calibration_error(scores, positive, bins) == pytest.approx(calibration_error(scores, positive, bins, one="own"))
    sure = np.where(positive, 1.0, scores)
    theirs = binary_calibration_error(torch.tensor(sure), torch.tensor(positive.astype(int)), n_bins=bins)
    assert calibration_error(sure, positive, bins, one="own") == pytest.approx(float(theirs), abs=1e-9)
