"""Numbers and names that a summary states and its source lacks; no model is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from dpoframe import Evaluator, EvaluatorSpec, Sample, Scale
from dpoframe_summarization.evaluators.example import EXAMPLES
from dpoframe_summarization.evaluators.names import Name, has_capitals, known, names
from dpoframe_summarization.evaluators.quantities import Quantity, quantities, supported
from dpoframe_summarization.evaluators.spec import SpecOf, named
from dpoframe_summarization.evaluators.texts import source_of, summary_of
from dpoframe_summarization.evaluators.words import words

_COUNT = Scale(0.0, None, "a summary", "lower")
_SHARE = Scale(0.0, 1.0, "share", "lower")
_FIGURES = {
    "hallucinated": _SHARE,
    "hallucinated_numbers": _COUNT,
    "hallucinated_names": _COUNT,
    "number_share": _SHARE,
    "name_share": _SHARE,
}


@dataclass(frozen=True)
class Hallucination(Evaluator):
    """Numbers and names in a summary that its source does not hold.

    `hallucinated` is 1 for a summary with any. `hallucinated_numbers` and `hallucinated_names` count them, each mention;
    `number_share` and `name_share` are their shares of all numbers and names of the summary, left out where it has none.

    Numbers are compared by value: 1,000 and 1000, two and 2, 5% and 5 percent, 3rd and third, 1.5m and 1.5 million, digits of any
    script. A rounded number holds where the source has one that rounds to it. Words that mostly state no number (one, first,
    second) are no claims. A name is a run of capitalised words; it is known where the source has all its words in any case, or
    its initials. See `quantities` and `names` for the rules.

    Measured on SummEval (Fabbri et al. 2021; 1,600 summaries, consistency rated 1 to 5 by experts): 35 summaries are told, rated
    2.71 on average against 4.70 for the rest; 74 % of them lie below 4, and 10 % of all. It finds 16 % of those below 4 (area
    under the curve .58, rank correlation .27): precise, and far from complete.

    What is not seen: a wrong fact made of the source's own names and numbers, names in lower case, names that begin a sentence
    and stand nowhere else. Switch names off for languages that capitalise every noun (German).

    Attributes:
        numbers: Whether numbers count.
        names: Whether names count.
    """

    numbers: bool = True
    names: bool = True

    spec: ClassVar[EvaluatorSpec] = SpecOf(  # type: ignore[assignment]
        EvaluatorSpec("hallucination", "0.1.0", "response", _FIGURES, "hallucinated")
    )

    def __post_init__(self) -> None:
        """ValueError where nothing is left to count."""
        if not (self.numbers or self.names):
            raise ValueError("`numbers` and `names` are both off: switch one on")

    def own(self, plain: EvaluatorSpec) -> EvaluatorSpec:
        """The spec, with what alone counts in its id."""
        if self.numbers and self.names:
            return plain
        one, other = ("number", "name") if self.numbers else ("name", "number")
        kept = {name: scale for name, scale in plain.metrics.items() if other not in name}
        return replace(named(plain, f"{one}s"), metrics=kept)

    def score(self, sample: Sample) -> Mapping[str, float] | None:
        """All figures; None where the summary has no words."""
        source, summary = source_of(sample), summary_of(sample)
        if not words(summary):
            return None
        found = {
            **(_counts("number", *numbers_of(source, summary)) if self.numbers else {}),
            **(_counts("name", *names_of(source, summary)) if self.names and has_capitals(summary) else {}),
        }
        wrong = any(value for name, value in found.items() if name.startswith("hallucinated"))
        return {"hallucinated": float(wrong), **found}

    @classmethod
    def example_samples(cls) -> list[Sample]:
        """What `dpoframe plugins check` scores."""
        return list(EXAMPLES)


def numbers_of(source: str, summary: str) -> tuple[list[Quantity], list[Quantity]]:
    """The numbers that a summary claims, and those of them that its source lacks."""
    # Each number once: a summary that repeats one without end, of a source that does, would be compared for minutes.
    given = frozenset(one.anywhere for one in quantities(source))
    claimed = [one for one in quantities(summary) if not one.weak]
    lacking = {one for one in {one.anywhere for one in claimed} if not supported(one, given)}
    return claimed, [one for one in claimed if one.anywhere in lacking]


def names_of(source: str, summary: str) -> tuple[list[Name], list[Name]]:
    """The names in a summary, and those of them that its source lacks."""
    held, found = known(source), list(names(summary))
    return found, [one for one in found if not held.holds(one)]


def _counts(what: str, all_of_them: list[Quantity] | list[Name], wrong: list[Quantity] | list[Name]) -> dict[str, float]:
    share = {f"{what}_share": len(wrong) / len(all_of_them)} if all_of_them else {}
    return {f"hallucinated_{what}s": float(len(wrong)), **share}
