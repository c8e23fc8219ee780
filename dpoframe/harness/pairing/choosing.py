"""Which of a prompt's candidates become pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias

from dpoframe.harness.pairing.candidates import Candidate

Mode: TypeAlias = Literal["best-worst", "all", "failed"]
Scored: TypeAlias = tuple[Candidate, float]

TIED, LONE, UNMET = "tied", "alone", "unmet"


@dataclass(frozen=True)
class Chosen:
    """A pair: the better candidate and the worse one, with their oriented scores."""

    better: Scored
    worse: Scored

    @property
    def margin(self) -> float:
        """By how much the one is better."""
        return self.better[1] - self.worse[1]


@dataclass(frozen=True)
class Rule:
    """How pairs are chosen.

    Attributes:
        mode: `best-worst`: the best against the worst, the second best against the second worst, as far as `per_prompt`
            goes; `all`: every two; `failed`: each candidate that failed against the best that did not.
        margin: Two candidates whose scores differ by no more are tied.
        per_prompt: Pairs a prompt at most, those of the largest margin; None for all.
        failed_at: Oriented score at or below which a candidate has failed.
        from_reference: Whether the chosen answer is a row's `reference`, not a model's.
    """

    mode: Mode = "best-worst"
    margin: float = 0.0
    per_prompt: int | None = None
    failed_at: float | None = None
    from_reference: bool = False

    def pairs(self, scored: Sequence[Scored], counts: Counter[str]) -> list[Chosen]:
        """The pairs of one prompt, largest margin first; counts pairs that are `tied`, and prompts that have no two to compare."""
        possible = list(self._possible(sorted(scored, key=lambda one: -one[1])))  # stable: of equals the first found leads
        if not possible:
            counts[LONE if self.mode != "failed" and not self.from_reference else UNMET] += 1
            return []
        apart = [pair for pair in possible if pair.margin > self.margin]
        counts[TIED] += len(possible) - len(apart)
        return sorted(apart, key=lambda pair: -pair.margin)[: self.per_prompt]

    def _possible(self, ranked: Sequence[Scored]) -> Iterator[Chosen]:
        """Every pair that the mode looks at, ties among them."""
        good = [one for one in ranked if one[0].is_reference == self.from_reference and not self._failed(one)]
        bad = [one for one in ranked if not one[0].is_reference and (self.mode != "failed" or self._failed(one))]
        if self.from_reference or self.mode == "failed":
            yield from (Chosen(good[0], one) for one in reversed(bad) if good)
        elif self.mode == "all":
            yield from (Chosen(one, two) for one, two in combinations(ranked, 2))
        else:
            count = min(len(ranked) // 2, 1 if self.per_prompt is None else self.per_prompt)
            yield from (Chosen(ranked[place], ranked[-1 - place]) for place in range(count))

    def _failed(self, one: Scored) -> bool:
        return self.mode == "failed" and self.failed_at is not None and one[1] <= self.failed_at
