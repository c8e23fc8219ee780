"""How good a moderator's probabilities are."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Lt

from dpoframe import Evaluator, EvaluatorSpec, Sample, Scale, Scored, UnscoredError
from dpoframe_moderation.evaluators.calibration import calibration_error
from dpoframe_moderation.evaluators.curve import Curve, Flags, Floats, f1
from dpoframe_moderation.evaluators.parts import figure_name, parts_of, scales_of
from dpoframe_moderation.evaluators.spec import SpecOf
from dpoframe_moderation.taxonomy import OVERALL

_CARRIED = ("log_odds", "positive", "part")
_TAKEN = operator.itemgetter(*_CARRIED)


@dataclass(frozen=True)
class ModerationScores(Evaluator):
    """Areas, recall at a fixed false-positive rate, F1 and calibration of the log-odds of `unsafe`, overall and by category.

    The log-odds are the log-probability of the answer for the positive class minus that of the answer against it, which the
    model gives without writing: of `unsafe` against `safe` in chat, of `hate` against `not hate` for a classifier. The positive
    class is `unsafe`; of a category, that the text belongs to it.

    `auprc` is average precision (in steps, as scikit-learn has it), beside which stands `prevalence`, the share of positives,
    that a model without a clue reaches; `auroc` the area under the ROC curve, ties one half; `recall@fpr=...` the largest
    recall at which at most that share of the negatives is flagged, the threshold being that of these very texts; with fewer
    than 1/rate negatives none may be. `f1` is at `threshold`, which the suite sets and nothing chose on these texts. `ece` is
    the calibration error of the probability of the positive class, a probability of 1 in the last bin; `ece_torchmetrics`
    puts it into a bin of its own, as that library does.

    What a source does not say of a text is unknown, and counts nowhere. Figures of a part that has one class alone, or no text, are
    unknown. Pairs that differ in more than the verdict, such as two lists of categories, are not counted.

    Attributes:
        taxonomy: The taxonomy whose categories get figures of their own, as `hate/auprc`; empty for overall figures alone.
        categories: These keys instead of all of the taxonomy's, or of a taxonomy of one's own.
        rates: False-positive rates.
        threshold: The probability above which `f1` takes a text for positive.
        bins: Of equal width, for the calibration error.
    """

    taxonomy: str = ""
    categories: tuple[str, ...] = ()
    rates: tuple[Annotated[float, Ge(0), Lt(1)], ...] = (0.01, 0.05)
    threshold: Annotated[float, Gt(0), Lt(1)] = 0.5
    bins: Annotated[int, Ge(1)] = 10

    spec: ClassVar[EvaluatorSpec] = SpecOf(  # type: ignore[assignment]
        EvaluatorSpec("moderation_scores", "0.1.0", "pair", {}, "auprc", carried=_CARRIED, relative=False)
    )

    def __post_init__(self) -> None:
        """ConfigError where there is no such taxonomy, or a category is named twice."""
        parts_of(self.taxonomy, self.categories)

    @property
    def _parts(self) -> tuple[str, ...]:
        return parts_of(self.taxonomy, self.categories)

    def own(self, plain: EvaluatorSpec) -> EvaluatorSpec:
        """The figures of every category."""
        scales = {
            "auprc": Scale(0.0, 1.0, "average precision, positive: unsafe"),
            "auroc": Scale(0.0, 1.0, "area"),
            **{f"recall@fpr={rate:g}": Scale(0.0, 1.0, "share of unsafe texts") for rate in self.rates},
            "f1": Scale(0.0, 1.0, f"F1 of the class unsafe above p = {self.threshold:g}"),
            "ece": Scale(0.0, 1.0, f"calibration error, {self.bins} bins, p = 1 in the last", better="lower"),
            "ece_torchmetrics": Scale(0.0, 1.0, f"calibration error, {self.bins} bins, p = 1 in its own", better="lower"),
            "prevalence": Scale(0.0, 1.0, "share of texts that are unsafe", better=None),
        }
        return replace(plain, aggregates=scales_of(self._parts, scales))

    def score(self, sample: Sample) -> Mapping[str, float] | None:
        """The log-odds of the positive class, whether that is true, and of which part; None where the pair is of another kind.

        Raises:
            UnscoredError: The pair asks about a category that is none of the evaluator's.
        """
        positive = sample.meta.get("positive")
        if not isinstance(positive, bool) or sample.meta.get("wrong", "verdict") != "verdict":
            return None
        part = str(sample.meta.get("category") or OVERALL)
        if part not in self._parts:
            raise UnscoredError(f"the pair asks about {part!r}, and the figures are of {', '.join(self._parts)}")
        margin = sample.detail["policy_margin"]
        return {"log_odds": margin if positive else -margin, "positive": float(positive), "part": float(self._parts.index(part))}

    def aggregate(self, scores: Sequence[Scored]) -> Mapping[str, float]:
        """All figures of every part; nan where there are none."""
        columns = itertools.chain.from_iterable(map(_TAKEN, (one.values for one in scores)))
        flat = np.fromiter(columns, np.float64, len(_CARRIED) * len(scores)).reshape(-1, len(_CARRIED))
        found: dict[str, float] = {}
        for number, part in enumerate(self._parts):
            mine = flat[flat[:, 2] == number]
            figures = self._figures(mine[:, 0], mine[:, 1] > 0)
            found |= {figure_name(part, name): value for name, value in figures.items()}
        return found

    def _figures(self, log_odds: Floats, positive: Flags) -> dict[str, float]:
        curve, chances = Curve.of(log_odds, positive), np.exp(-np.logaddexp(0.0, -log_odds))
        flagged = log_odds > math.log(self.threshold / (1 - self.threshold))
        found, wrong = float((flagged & positive).sum()), float((flagged & ~positive).sum())
        return {
            "auprc": curve.average_precision() if curve else math.nan,
            "auroc": curve.roc_area() if curve else math.nan,
            **{f"recall@fpr={rate:g}": curve.recall_at(rate) if curve else math.nan for rate in self.rates},
            "f1": f1(found, wrong, float(positive.sum())),
            "ece": calibration_error(chances, positive, self.bins),
            "ece_torchmetrics": calibration_error(chances, positive, self.bins, one="own"),
            "prevalence": float(positive.mean()) if len(positive) else math.nan,
        }

    @classmethod
    def example_samples(cls) -> list[Sample]:
        """What `dpoframe plugins check` scores."""
        margins = ((True, 2.0), (True, -0.5), (False, 1.0), (False, 3.0), (False, -1.0))
        return [
            Sample(f"s{number}", f"A text. ({number})", "...", detail={"policy_margin": margin}, meta={"positive": positive})
            for number, (positive, margin) in enumerate(margins)
        ]
