"""OpenAI's comparisons of summaries: two of a Reddit post or a news article, and which one a person chose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from dpoframe import PreferencePair, RawRow, RefusedRow
from dpoframe_summarization.articles import Article, BrokenError, Summary, count
from dpoframe_summarization.readers.columns import article, listed, summary
from dpoframe_summarization.readers.source import SummarySource


@dataclass(frozen=True)
class TldrComparisons(SummarySource):
    """The `comparisons` of "Learning to summarize from human feedback" (Stiennon et al. 2020, arXiv 2009.01325).

    Rows hold `info` (`post` and `title`, or `article`), two `summaries` and the `choice` of one of them. Where several people
    compared the same two, most votes decide; as many on both sides are refused as a contradiction.

    Attributes:
        length_ratio: As in the other data sets: the most words of the longer one for each word of the shorter one.
        with_title: Put the title before the text.
    """

    get: ClassVar[str] = "The comparisons are not part of this package: https://github.com/openai/summarize-from-feedback."
    example_options: ClassVar[Mapping[str, Any]] = {"path": str(Path(__file__).parent / "examples" / "tldr_comparisons.jsonl")}

    instruction: str = "Summarize the following post in one or two sentences.\n\n{source}"
    length_ratio: float | None = None
    with_title: bool = True

    def articles(self) -> Iterator[Article | RefusedRow]:
        """A post with the two summaries that were compared, whose ratings are the votes."""
        found: dict[tuple[str, ...], Article] = {}
        for row in self.rows():
            made = row if isinstance(row, RefusedRow) else self._read(row)
            if isinstance(made, RefusedRow):
                yield made
                continue
            key = (made.id or made.source, *sorted(one.key for one in made.summaries))
            found[key] = _added(found[key], made) if key in found else made
        yield from found.values()

    def pairs_of(self, article: Article) -> Iterator[PreferencePair | RefusedRow]:
        """The one pair of a comparison."""
        better, worse = sorted(article.summaries, key=_votes, reverse=True)
        if better.key == worse.key:
            yield article.refuse("identical", "The two summaries are the same.")
        elif _votes(better) == _votes(worse):
            yield article.refuse("contradiction", f"{_votes(better):.0f} of {2 * _votes(better):.0f} people chose each summary.")
        elif self.length_ratio is None or _ratio(better, worse) <= self.length_ratio:
            systems = {"chosen_source": better.system, "rejected_source": worse.system}
            votes = {"votes_chosen": _votes(better), "votes_rejected": _votes(worse)}
            meta = {**self.meta_of(article), **votes, **{key: value for key, value in systems.items() if value}}
            yield PreferencePair(self.prompt_of(article), better.text, worse.text, meta=meta)
        else:
            yield article.refuse("lengths", f"One summary has {_ratio(better, worse):.2g} times the words of the other.")

    def _read(self, row: RawRow) -> Article | RefusedRow:
        try:
            info, chosen = row.values.get("info"), _choice(row.values.get("choice"))
            if not isinstance(info, Mapping):
                raise BrokenError("wrong-type", f"'info' must be an object, found {type(info).__name__}.")
            made = article(row, info.get("id"), self._source(info))
            kept, lost = _two(listed(row.values.get("summaries"), "summaries"), chosen)
        except BrokenError as fault:
            return row.refuse(fault.code, str(fault))
        return replace(made, summaries=kept, removed=made.removed + lost)

    def _source(self, info: Mapping[str, Any]) -> Any:
        text = info.get("article") or info.get("post")
        title = info.get("title")
        return f"{title}\n\n{text}" if self.with_title and title and isinstance(text, str) and text.strip() else text

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if self.length_ratio is not None and self.length_ratio < 1:
            yield f"length_ratio is {self.length_ratio}; it must be at least 1."


def _choice(value: Any) -> int:
    if value is None or value == -1:
        raise BrokenError("unrated", "'choice' is missing: nobody compared the two.")
    if isinstance(value, bool) or value not in (0, 1):
        raise BrokenError("wrong-type", f"'choice' must be 0 or 1, found {value!r:.60}.")
    return int(value)


def _two(given: Sequence[Any], chosen: int) -> tuple[tuple[Summary, ...], int]:
    if len(given) != 2 or not all(isinstance(one, Mapping) for one in given):
        raise BrokenError("wrong-type", f"'summaries' must be two objects with a text, found {len(given)}.")
    read = [summary(one.get("text"), {"votes": float(n == chosen)}, one.get("policy")) for n, one in enumerate(given)]
    return tuple(one for one, _ in read), sum(lost for _, lost in read)


def _added(known: Article, other: Article) -> Article:
    """The votes of two rows on the same two summaries together."""
    votes = {one.key: _votes(one) for one in other.summaries}
    together = (replace(one, ratings={"votes": _votes(one) + votes[one.key]}) for one in known.summaries)
    return replace(known, summaries=tuple(together))


def _votes(one: Summary) -> float:
    return one.ratings["votes"]


def _ratio(first: Summary, second: Summary) -> float:
    words = sorted((count(first.text), count(second.text)))
    return words[1] / max(1, words[0])
