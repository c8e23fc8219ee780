"""How long a summary is, and whether that is what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

from dpoframe import Evaluator, EvaluatorSpec, Sample, Scale
from dpoframe_summarization.evaluators.example import EXAMPLES
from dpoframe_summarization.evaluators.sentences import sentences
from dpoframe_summarization.evaluators.spec import SpecOf, named
from dpoframe_summarization.evaluators.texts import seen, summary_of
from dpoframe_summarization.evaluators.words import words

_OPEN = Scale(0.0, None, better=None)


@dataclass(frozen=True)
class SummaryLength(Evaluator):
    """Words, sentences and characters of a summary; with a target or a range, also how well they keep to it.

    `within` is 1 where the length lies in the range, `deviation` how many units lie between it and the range (0 inside). The
    range is `least` to `most`, or `target` give or take `tolerance`. Without any of them neither direction is better. Words are
    those of `words`: characters of Chinese, Japanese and other scripts without spaces count each.

    Attributes:
        unit: What the range counts.
        target: The length that was asked for.
        tolerance: How far from the target is still right, as a share of it.
        least: The shortest length that is right.
        most: The longest length that is right.
    """

    unit: Literal["words", "sentences", "characters"] = "words"
    target: Annotated[int, Gt(0)] | None = None
    tolerance: Annotated[float, Ge(0), Lt(1)] = 0.1
    least: Annotated[int, Ge(0)] | None = None
    most: Annotated[int, Gt(0)] | None = None

    spec: ClassVar[EvaluatorSpec] = SpecOf(  # type: ignore[assignment]
        EvaluatorSpec(
            "summary_length",
            "0.1.0",
            "response",
            {name: replace(_OPEN, unit=name) for name in ("words", "sentences", "characters")},
            "words",
        )
    )

    def __post_init__(self) -> None:
        """ValueError where the range is empty, or given twice."""
        if self.target is not None and (self.least is not None or self.most is not None):
            raise ValueError("give `target`, or `least` and `most`, not both")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"`least` is {self.least}, above `most`, {self.most}: no length lies between")

    def own(self, plain: EvaluatorSpec) -> EvaluatorSpec:
        """The spec with the range in its id and its figures, where there is one."""
        low, high = self.bounds()
        if low is None and high is None:
            return plain
        kept = {"within": Scale(0.0, 1.0, "share"), "deviation": Scale(0.0, None, self.unit, "lower")}
        asked = [f"from-{low:g}"] if low is not None else []
        asked += [f"to-{high:g}"] if high is not None else []
        return named(plain, "-".join([self.unit, *asked]), metrics={**kept, **plain.metrics}, primary="within")

    def bounds(self) -> tuple[float | None, float | None]:
        """The range, None where it is open."""
        if self.target is None:
            return self.least, self.most
        return self.target * (1 - self.tolerance), self.target * (1 + self.tolerance)

    def score(self, sample: Sample) -> Mapping[str, float]:
        """All figures; an empty summary has length 0."""
        text = seen(summary_of(sample))
        found = {"words": len(words(text)), "sentences": len(sentences(text)), "characters": len("".join(text.split()))}
        return {**{name: float(value) for name, value in found.items()}, **self._kept(found[self.unit])}

    def _kept(self, length: int) -> dict[str, float]:
        low, high = self.bounds()
        if low is None and high is None:
            return {}
        beyond = max(0.0, (low or 0) - length, 0.0 if high is None else length - high)
        return {"within": float(beyond == 0), "deviation": float(beyond)}

    @classmethod
    def example_samples(cls) -> list[Sample]:
        """What `dpoframe plugins check` scores."""
        return list(EXAMPLES)
