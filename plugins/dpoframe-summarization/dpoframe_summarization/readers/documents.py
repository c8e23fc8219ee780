"""Documents with a published summary and no ratings: SciTLDR, CNN/DailyMail, XSum, and files of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from dpoframe import RawRow, RefusedRow
from dpoframe_summarization.articles import Article, BrokenError
from dpoframe_summarization.readers.columns import article, gathered, rating, summary
from dpoframe_summarization.readers.pairing import PairedSource, Way

_EXAMPLES = Path(__file__).parent / "examples"


@dataclass(frozen=True)
class Documents(PairedSource):
    """A document and its summary in each row; subclasses say in which columns."""

    columns_of: ClassVar[tuple[str, str, str]]

    pairs: Way = "corrupted"
    per_article: int = 1

    def articles(self) -> Iterator[Article | RefusedRow]:
        """Documents with their published summaries."""
        for row in self.rows():
            yield row if isinstance(row, RefusedRow) else self._article(row)

    def _article(self, row: RawRow) -> Article | RefusedRow:
        source, target, name = self.columns_of
        if missing := [column for column in (source, target) if column not in row.values]:
            return row.refuse("wrong-type", f"The row has no column {missing[0]!r}. It has {', '.join(map(str, row.values))}.")
        try:
            return article(row, row.values.get(name), row.values[source], self.targets(row.values[target]))
        except BrokenError as fault:
            return row.refuse(fault.code, str(fault))

    def targets(self, value: Any) -> list[Any]:
        """The published summaries of a row, the best known first."""
        return [value] if value else []


@dataclass(frozen=True)
class SciTldr(Documents):
    """SciTLDR (Cachola et al. 2020, arXiv 2004.15011): papers, the source a list of sentences, with TLDRs of one sentence.

    The first of several TLDRs is the published summary. `pairs` is `corrupted` or `lead`: the TLDR over the abstract's first
    sentences, which teaches to be concise.
    """

    get: ClassVar[str] = "SciTLDR is not part of this package: https://github.com/allenai/scitldr, folder SciTLDR-Data."
    example_options: ClassVar[Mapping[str, Any]] = {"path": str(_EXAMPLES / "scitldr.jsonl")}
    columns_of: ClassVar[tuple[str, str, str]] = ("source", "target", "paper_id")

    def targets(self, value: Any) -> list[Any]:
        """Several TLDRs are a list of texts."""
        return list(value) if isinstance(value, list | tuple) else super().targets(value)


@dataclass(frozen=True)
class CnnDm(Documents):
    """CNN/DailyMail (Hermann et al. 2015, See et al. 2017): `article`, `highlights`, `id`.

    The highlights, one a line, are joined to one text. `pairs` is `corrupted` or `lead`.
    """

    get: ClassVar[str] = "CNN/DailyMail is not part of this package: hub:abisee/cnn_dailymail with subset 3.0.0."
    example_options: ClassVar[Mapping[str, Any]] = {"path": str(_EXAMPLES / "cnn_dm.jsonl")}
    columns_of: ClassVar[tuple[str, str, str]] = ("article", "highlights", "id")

    def targets(self, value: Any) -> list[Any]:
        """The highlights as one text."""
        return [" ".join(line.strip() for line in value.splitlines())] if isinstance(value, str) and value.strip() else []


@dataclass(frozen=True)
class XSum(Documents):
    """XSum (Narayan et al. 2018, arXiv 1808.08745): `document`, `summary` of one sentence, `id`.

    `pairs` is `corrupted` or `lead`. XSum's summaries often say what the document does not: they are concise, not faithful.
    """

    get: ClassVar[str] = "XSum is not part of this package: hub:EdinburghNLP/xsum."
    example_options: ClassVar[Mapping[str, Any]] = {"path": str(_EXAMPLES / "xsum.jsonl")}
    columns_of: ClassVar[tuple[str, str, str]] = ("document", "summary", "id")


@dataclass(frozen=True)
class OwnSummaries(PairedSource):
    """Files of one's own: a row holds a document and a summary, and may hold ratings of it. Rows of one document belong together.

    Attributes:
        columns: The columns: `source`, `summary`, and where there are any `id` and `system`. Rows whose document has no `id`
            belong together by their text. Dots reach into objects.
        ratings: Columns that hold ratings of the summary, higher is better. Without them every summary counts as a good one.
    """

    get: ClassVar[str] = "Give a file with a document and a summary in each row."
    example_options: ClassVar[Mapping[str, Any]] = {"path": str(_EXAMPLES / "own.jsonl")}

    pairs: Way = "corrupted"
    columns: Mapping[str, str] | None = None
    ratings: tuple[str, ...] = ()

    def articles(self) -> Iterator[Article | RefusedRow]:
        """Documents with all their summaries."""
        return gathered(row if isinstance(row, RefusedRow) else self._part(row) for row in self.rows())

    def _part(self, row: RawRow) -> Article | RefusedRow:
        try:
            made = article(row, self._value(row, "id"), self._value(row, "source"))
            given = {name: _reached(row.values, name) for name in self.ratings}
            ratings = {key: value for name, one in given.items() for key, value in rating(one, name).items()}
            one, lost = summary(self._value(row, "summary"), ratings, self._value(row, "system"))
        except BrokenError as fault:
            return row.refuse(fault.code, str(fault))
        removed = made.removed + lost
        return replace(made, references=() if self.ratings else (one.text,), summaries=(one,), removed=removed)

    def _value(self, row: RawRow, name: str) -> Any:
        return _reached(row.values, (self.columns or {}).get(name, name))

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        known = ("source", "summary", "id", "system")
        if unknown := [name for name in self.columns or {} if name not in known]:
            yield f"columns maps {', '.join(unknown)}; it can map {', '.join(known)}."


@dataclass(frozen=True)
class RatedSummaries(OwnSummaries):
    """Files of one's own with rated summaries: better-rated over worse-rated ones of one document.

    `ratings` names the columns that hold ratings, `rating` the one that counts, or `mean`.
    """

    example_options: ClassVar[Mapping[str, Any]] = {"path": str(_EXAMPLES / "own.jsonl"), "ratings": ("stars",)}

    pairs: Way = "rated"
    ratings: tuple[str, ...] = ("rating",)


def _reached(values: Mapping[str, Any], name: str) -> Any:
    """A value by its column; dots reach into objects."""
    found: Any = values
    for key in [name] if name in values else name.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found
