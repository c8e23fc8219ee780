"""Which of a prompt's candidates become pairs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal, TypeAlias

from dpoframe.harness.pairing.candidates import Candidate

Mode: TypeAlias = Literal["best-worst", "all", "failed"]

TIED, LONE, UNMET = "tied", "alone", "unmet"

_SURE = 2.0
"""Standard errors by which two measurements must differ."""


@dataclass(frozen=True)
class Rated:
    """A candidate and what the evaluator says of it.

    Attributes:
        candidate: The answer.
        score: Its oriented score: the higher, the better.
        error: Standard error of the score, where it is a measurement that comes out differently each time.
        values: Everything that the evaluator gave, by name: the evidence.
    """

    candidate: Candidate
    score: float
    error: float = 0.0
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Chosen:
    """A pair: the better candidate and the worse one."""

    better: Rated
    worse: Rated

    @property
    def margin(self) -> float:
        """By how much the one is better."""
        return self.better.score - self.worse.score

    @property
    def noise(self) -> float:
        """What the margin may be by chance: two standard errors of the difference."""
        return _SURE * math.hypot(self.better.error, self.worse.error)


@dataclass(frozen=True)
class Rule:
    """How pairs are chosen.

    Attributes:
        mode: `best-worst`: the best against the worst, the second best against the second worst, as far as `per_prompt`
            goes; `all`: every two; `failed`: each candidate that failed against the best that did not.
        margin: Two candidates whose scores differ by no more are tied. Of measurements, whose evaluator says how far off they
            may be, two standard errors of the difference come on top.
        per_prompt: Pairs a prompt at most, those of the largest margin; None for all.
        failed_at: Oriented score at or below which a candidate has failed.
        from_reference: Whether the chosen answer is a row's `reference`, not a model's.
    """

    mode: Mode = "best-worst"
    margin: float = 0.0
    per_prompt: int | None = None
    failed_at: float | None = None
    from_reference: bool = False

    def pairs(self, rated: Sequence[Rated], counts: Counter[str]) -> list[Chosen]:
        """The pairs of one prompt, largest margin first; counts pairs that are `tied`, and prompts that have no two to compare."""
        possible = list(self._possible(sorted(rated, key=lambda one: -one.score)))  # stable: of equals the first found leads
        if not possible:
            counts[LONE if self.mode != "failed" and not self.from_reference else UNMET] += 1
            return []
        apart = [pair for pair in possible if pair.margin > self.margin + pair.noise]
        counts[TIED] += len(possible) - len(apart)
        return sorted(apart, key=lambda pair: -pair.margin)[: self.per_prompt]

    def _possible(self, ranked: Sequence[Rated]) -> Iterator[Chosen]:
        """Every pair that the mode looks at, ties among them."""
        good = [one for one in ranked if one.candidate.is_reference == self.from_reference and not self._failed(one)]
        bad = [one for one in ranked if not one.candidate.is_reference and (self.mode != "failed" or self._failed(one))]
        if self.from_reference or self.mode == "failed":
            yield from (Chosen(good[0], one) for one in reversed(bad) if good)
        elif self.mode == "all":
            yield from (Chosen(one, two) for one, two in combinations(ranked, 2))
        else:
            count = min(len(ranked) // 2, 1 if self.per_prompt is None else self.per_prompt)
            yield from (Chosen(ranked[place], ranked[-1 - place]) for place in range(count))

    def _failed(self, one: Rated) -> bool:
        return self.mode == "failed" and self.failed_at is not None and one.score <= self.failed_at
