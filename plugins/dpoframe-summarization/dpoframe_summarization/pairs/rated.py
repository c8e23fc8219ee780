"""Better-rated over worse-rated summaries of one article."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from dpoframe_summarization.articles import BrokenError, Summary, count

MEAN = "mean"


@dataclass(frozen=True)
class Choice:
    """One summary over another, with what people gave them."""

    better: Summary
    worse: Summary
    high: float
    low: float


@dataclass(frozen=True)
class Rule:
    """Which two summaries make a pair.

    Attributes:
        rating: The question whose ratings count, or `mean` over all of them.
        threshold: The least difference between the two ratings; smaller ones are ties.
        least: The least rating of the better one; None for any.
        length_ratio: The most words of the longer one for each word of the shorter one; None for any.
        most: Pairs an article.
    """

    rating: str = MEAN
    threshold: float = 0.5
    least: float | None = None
    length_ratio: float | None = None
    most: int = 4

    def rate(self, summary: Summary) -> float:
        """What a summary got.

        Raises:
            BrokenError: It was not rated.
        """
        if self.rating == MEAN and summary.ratings:
            return fmean(summary.ratings.values())
        if self.rating in summary.ratings:
            return summary.ratings[self.rating]
        had = ", ".join(summary.ratings) or "none"
        raise BrokenError("unrated", f"A summary by {summary.system or 'somebody'} has no rating {self.rating!r}; it has {had}.")


@dataclass(frozen=True)
class Rated:
    """A summary and the one number that counts."""

    summary: Summary
    rating: float


def rated(summaries: Sequence[Summary], rule: Rule) -> tuple[list[Rated], list[BrokenError]]:
    """Each text once with its rating, the best first, and what is wrong with the others.

    Texts that differ in spaces and case alone are one, with the mean of their ratings; where these contradict each other by
    the threshold or more, the text is left out.
    """
    found: dict[str, list[Rated]] = {}
    faults = []
    for summary in summaries:
        try:
            rating = rule.rate(summary)
        except BrokenError as fault:
            faults.append(fault)
            continue
        found.setdefault(summary.key, []).append(Rated(summary, rating))
    kept = []
    for same in found.values():
        ratings = [one.rating for one in same]
        if max(ratings) - min(ratings) >= max(rule.threshold, 1e-9) and len(same) > 1:
            given = " and ".join(f"{one:.3g}" for one in sorted(set(ratings)))
            faults.append(BrokenError("contradiction", f"One summary was rated {given}: {same[0].summary.text[:60]!r}."))
        else:
            kept.append(Rated(same[0].summary, fmean(ratings)))
    return sorted(kept, key=lambda one: (-one.rating, one.summary.key)), faults


def choices(summaries: Sequence[Rated], rule: Rule) -> list[Choice]:
    """The pairs of one article, those of the widest margin first.

    As long as there are others, each summary is in one pair only, so that one bad system is not on every losing side.

    Args:
        summaries: As `rated` returns them.
        rule: What makes a pair.
    """
    able = [Choice(a.summary, b.summary, a.rating, b.rating) for a, b in itertools.combinations(summaries, 2) if _pairs(a, b, rule)]
    able.sort(key=lambda one: (one.low - one.high, one.better.key, one.worse.key))
    taken: list[Choice] = []
    while able and len(taken) < rule.most:
        used: set[str] = set()
        for one in list(able):
            if len(taken) < rule.most and not used & {one.better.key, one.worse.key}:
                used |= {one.better.key, one.worse.key}
                taken.append(one)
                able.remove(one)
    return taken


def _pairs(better: Rated, worse: Rated, rule: Rule) -> bool:
    """Whether two summaries, the first rated no lower than the second, make a pair."""
    margin = better.rating - worse.rating
    # Means of thirds: .8333 - .3333 must count as one half.
    if margin <= 0 or margin < rule.threshold - 1e-9 or (rule.least is not None and better.rating < rule.least):
        return False
    long, short = sorted((count(better.summary.text), count(worse.summary.text)), reverse=True)
    return rule.length_ratio is None or long <= rule.length_ratio * short
