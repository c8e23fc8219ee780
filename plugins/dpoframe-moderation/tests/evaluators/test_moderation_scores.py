"""Figures of log-odds, against scikit-learn and torchmetrics."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from dpoframe_moderation.evaluators.moderation_scores import ModerationScores
from dpoframe_moderation.evaluators.profanity import Profanity
from dpoframe_moderation.taxonomy import TAXONOMIES
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve
from torchmetrics.functional.classification import binary_calibration_error

from dpoframe import ConfigError, Refused, Sample, Scored, UnscoredError
from dpoframe.testing import EvaluatorContract

OPENAI = Path(__file__).parents[4].parent / "shared" / "data" / "moderation" / "openai_moderation_samples-1680.jsonl.gz"

needs_data = pytest.mark.skipif(not OPENAI.is_file(), reason=f"there is no {OPENAI}")
needs_profanity = pytest.mark.skipif(isinstance(Profanity().probe(), Refused), reason="alt-profanity-check is not installed")


class TestContract(EvaluatorContract):
    """The evaluator keeps the contract."""

    evaluator = ModerationScores()
    samples = ModerationScores.example_samples()


def pair(number: int, log_odds: float, positive: bool, category: str = "overall", **meta: object) -> Sample:
    """A pair whose right answer is preferred by the log-odds of the truth."""
    margin = log_odds if positive else -log_odds
    more = {"positive": positive, "category": category, **meta}
    return Sample(f"{number}/{category}", f"text {number}", "x", detail={"policy_margin": margin}, meta=more)


def figures(evaluator: ModerationScores, samples: list[Sample]) -> dict[str, float]:
    """The aggregates over the samples that are scored."""
    scores = [(one, found) for one in samples if (found := evaluator.score(one)) is not None]
    return dict(evaluator.aggregate([Scored(one.id, str(one.prompt), found) for one, found in scores]))


@pytest.mark.parametrize("seed", range(3))
def test_equals_scikit_learn(seed: int) -> None:
    """All figures of each category and overall are scikit-learn's or torchmetrics', from margins whose sign follows the truth."""
    generator = np.random.default_rng(seed)
    parts = {}
    samples = []
    for part, size in (("overall", 300), ("H", 120), ("V", 40)):
        positive = generator.random(size) < 0.3
        log_odds = np.round(generator.normal(positive * 2.0 - 1.0, 2.0), 1)
        parts[part] = (positive, log_odds)
        rows = zip(log_odds, positive, strict=True)
        samples += [pair(n, float(one), bool(true), part) for n, (one, true) in enumerate(rows)]
    found = figures(ModerationScores(taxonomy="openai"), samples)
    for part, (positive, log_odds) in parts.items():
        lead = "" if part == "overall" else f"{part}/"
        assert found[f"{lead}auprc"] == pytest.approx(average_precision_score(positive, log_odds))
        assert found[f"{lead}auroc"] == pytest.approx(roc_auc_score(positive, log_odds))
        wrong, right, _ = roc_curve(positive, log_odds, drop_intermediate=False)
        assert found[f"{lead}recall@fpr=0.01"] == pytest.approx(right[wrong <= 0.01].max())
        assert found[f"{lead}recall@fpr=0.05"] == pytest.approx(right[wrong <= 0.05].max())
        assert found[f"{lead}f1"] == pytest.approx(f1_score(positive, log_odds > 0))
        chances, truth = torch.tensor(1 / (1 + np.exp(-log_odds))), torch.tensor(positive.astype(int))
        theirs = float(binary_calibration_error(chances, truth, n_bins=10))
        assert found[f"{lead}ece_torchmetrics"] == pytest.approx(theirs, abs=1e-6)
        assert found[f"{lead}prevalence"] == pytest.approx(positive.mean())
    assert all(math.isnan(found[f"SH/{name}"]) for name in ("auprc", "auroc", "f1", "ece", "prevalence"))


@needs_data
@needs_profanity
def test_equals_scikit_learn_on_real_texts() -> None:
    """On OpenAI's samples, scored by a real classifier, each category's figures are those of the texts whose label is known."""
    with gzip.open(OPENAI, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    chances = np.clip(Profanity().chances([row["prompt"] for row in rows]), 1e-9, 1 - 1e-9)
    log_odds = np.log(chances / (1 - chances))
    samples = [pair(n, float(log_odds[n]), bool(row[key]), key) for n, row in enumerate(rows) for key in row if key != "prompt"]
    assert len(samples) < 8 * len(rows)
    found = figures(ModerationScores(taxonomy="openai"), samples)
    for key in TAXONOMIES["openai"].categories:
        known = np.array([key in row for row in rows])
        truth = np.array([bool(row.get(key)) for row in rows])[known]
        assert found[f"{key}/auprc"] == pytest.approx(average_precision_score(truth, log_odds[known]))
        assert found[f"{key}/auroc"] == pytest.approx(roc_auc_score(truth, log_odds[known]))
        assert found[f"{key}/f1"] == pytest.approx(f1_score(truth, chances[known] > 0.5))
        theirs = binary_calibration_error(torch.tensor(chances[known]), torch.tensor(truth.astype(int)), n_bins=10)
        assert found[f"{key}/ece_torchmetrics"] == pytest.approx(float(theirs), abs=1e-6)


def test_both_conventions_of_calibration() -> None:
    """With probabilities of .92, .94, 1 and 1, of which the latter are wrong, the error is .465 or .535."""
    log_odds = [math.log(0.92 / 0.08), math.log(0.94 / 0.06), 800.0, 800.0]
    found = figures(ModerationScores(), [pair(n, one, n < 2) for n, one in enumerate(log_odds)])
    assert found["ece"] == pytest.approx(0.465)
    assert found["ece_torchmetrics"] == pytest.approx(0.535)


def test_threshold() -> None:
    """F1 takes a text for positive above the suite's threshold, and a text without a preference is not flagged at one half."""
    samples = [pair(0, math.log(0.7 / 0.3), True), pair(1, 0.0, False), pair(2, math.log(0.9 / 0.1), False)]
    assert figures(ModerationScores(), samples)["f1"] == pytest.approx(2 / 3)
    assert figures(ModerationScores(threshold=0.8), samples)["f1"] == 0


def test_what_is_not_counted() -> None:
    """Pairs that differ in the categories alone, and texts of which nothing is known; a category that nobody named is told."""
    for wrong in ("categories", "verdict and categories", "labels", "hate"):
        assert ModerationScores().score(pair(0, 1.0, True, wrong=wrong)) is None
    assert ModerationScores().score(Sample("a", "?", "x", detail={"policy_margin": 1.0})) is None
    with pytest.raises(UnscoredError, match="'H'"):
        ModerationScores().score(pair(0, 1.0, True, "H"))


def test_one_class_alone() -> None:
    """Without a negative there is no curve, and nothing is made up; the calibration is there."""
    found = figures(ModerationScores(), [pair(0, 1.0, True), pair(1, 2.0, True)])
    assert math.isnan(found["auprc"])
    assert math.isnan(found["recall@fpr=0.01"])
    assert found["prevalence"] == 1
    assert 0 < found["ece"] < 1


def test_unknown_taxonomy() -> None:
    """A name that is no taxonomy is told with those that are."""
    with pytest.raises(ConfigError, match="openai"):
        ModerationScores(taxonomy="openia")
