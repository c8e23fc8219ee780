"""The ways in which an article's summaries become pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from dpoframe import PreferencePair, RefusedRow
from dpoframe_summarization.articles import Article, Summary
from dpoframe_summarization.articles.cleaning import lead
from dpoframe_summarization.pairs.corrupting import Kind, corruptions
from dpoframe_summarization.pairs.rated import MEAN, Choice, Rated, Rule, choices, rated
from dpoframe_summarization.readers.source import SummarySource

Way: TypeAlias = Literal["rated", "reference", "lead", "corrupted"]


@dataclass(frozen=True)
class PairedSource(SummarySource):
    """A source of articles whose pairs can be made in four ways.

    Attributes:
        pairs: `rated`: better-rated over worse-rated summaries of one article. `reference`: the published summary over the one
            that was rated lowest; one pair an article, which is what a suite's prompts need. `lead`: the published summary
            over the article's first sentences. `corrupted`: a good summary over itself made wrong in one place, the place and
            the kind in `meta`.
        rating: The question whose ratings count, or `mean` over all.
        threshold: The least difference between two ratings; smaller ones are ties, and make no pair. Ratings of one text that
            differ by as much contradict each other.
        least: The least rating of the better summary, such as 4 of 5.
        length_ratio: The most words of the longer summary for each word of the shorter one, such as 1.2, so that length says
            little about which is better; None for any.
        per_article: Pairs an article at most; those of the widest margin are taken.
        kinds: Kinds of corruption to draw from.
        lead_sentences: Sentences of the article that `lead` takes.
        seed: Decides which corruptions are drawn.
    """

    pairs: Way = "rated"
    rating: str = MEAN
    threshold: float = 0.5
    least: float | None = None
    length_ratio: float | None = None
    per_article: int = 4
    kinds: tuple[Kind, ...] = ("entity", "number", "negation")
    lead_sentences: int = 3
    seed: int = 0

    def pairs_of(self, article: Article) -> Iterator[PreferencePair | RefusedRow]:
        """The pairs of one article, in the way that `pairs` names."""
        ways = {"rated": self._rated, "reference": self._reference, "lead": self._lead, "corrupted": self._corrupted}
        return ways[self.pairs](article)

    @property
    def rule(self) -> Rule:
        """Which two summaries make a pair."""
        return Rule(self.rating, self.threshold, self.least, self.length_ratio, self.per_article)

    def _rated(self, article: Article) -> Iterator[PreferencePair | RefusedRow]:
        kept, faults = rated(article.summaries, self.rule)
        yield from (article.refuse(fault.code, str(fault)) for fault in faults)
        made = choices(kept, self.rule)
        if not made and kept:
            rules = f"differ by {self.threshold:g} and fit the other rules"
            yield article.refuse("tie", f"No two of {len(kept)} rated summaries {rules}.")
        elif not made and not faults:
            yield article.refuse("unrated", "There is no rated summary.")
        for one in made:
            yield self._pair(article, one.better.text, one.worse.text, self._ratings(one))

    def _ratings(self, one: Choice) -> dict[str, Any]:
        systems = {"chosen_source": one.better.system, "rejected_source": one.worse.system}
        known = {key: value for key, value in systems.items() if value}
        return {"score_chosen": one.high, "score_rejected": one.low, "rating": self.rating, **known}

    def _reference(self, article: Article) -> Iterator[PreferencePair | RefusedRow]:
        kept, faults = rated(article.summaries, self.rule)
        yield from (article.refuse(fault.code, str(fault)) for fault in faults)
        if not article.references:
            yield article.refuse("empty-reference", "There is no published summary.")
        elif kept:
            worst = kept[-1].summary
            yield from self._over(article, article.references[0], worst.text, {"rejected_source": worst.system})
        elif not faults:
            yield article.refuse("unrated", "There is no rated summary.")

    def _lead(self, article: Article) -> Iterator[PreferencePair | RefusedRow]:
        if article.references:
            beginning = lead(article.source, self.lead_sentences)
            yield from self._over(article, article.references[0], beginning, {"rejected_source": "lead"})
        else:
            yield article.refuse("empty-reference", "There is no published summary.")

    def _over(self, article: Article, chosen: str, rejected: str, meta: dict[str, Any]) -> Iterator[PreferencePair | RefusedRow]:
        if Summary(chosen).key == Summary(rejected).key:
            yield article.refuse("identical", "The two summaries are the same.")
        else:
            yield self._pair(article, chosen, rejected, meta)

    def _corrupted(self, article: Article) -> Iterator[PreferencePair | RefusedRow]:
        good = _best(article, rated(article.summaries, self.rule)[0])
        if good is None:
            yield article.refuse("empty-reference", "There is no good summary to be made wrong.")
            return
        made = corruptions(good, article.source, self.kinds, self.per_article, self.seed)
        if not made:
            yield article.refuse("nothing-to-corrupt", f"The summary has nothing for {', '.join(self.kinds)}: {good[:60]!r}.")
        for one in made:
            meta = {"corruption": one.kind, "corrupted_from": one.before, "corrupted_to": one.after}
            yield self._pair(article, good, one.text, meta)

    def _pair(self, article: Article, chosen: str, rejected: str, meta: dict[str, Any]) -> PreferencePair:
        return PreferencePair(self.prompt_of(article), chosen, rejected, meta={**self.meta_of(article), **meta})

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if self.per_article < 1:
            yield f"per_article is {self.per_article}; it must be at least 1."
        if self.threshold < 0:
            yield f"threshold is {self.threshold}; it must be at least 0."
        if self.length_ratio is not None and self.length_ratio < 1:
            yield f"length_ratio is {self.length_ratio}; it must be at least 1."
        if not self.kinds or len(set(self.kinds)) < len(self.kinds):
            yield f"kinds is {list(self.kinds)}; it must name each kind of corruption once."


def _best(article: Article, kept: list[Rated]) -> str | None:
    """The published summary, or the one that was rated highest."""
    if article.references:
        return article.references[0]
    return kept[0].summary.text if kept else None
