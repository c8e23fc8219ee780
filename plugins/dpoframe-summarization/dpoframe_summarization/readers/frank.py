"""FRANK: summaries by nine systems of CNN/DailyMail and XSum, with people's judgements of their facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, Literal

from dpoframe import RawRow, RefusedRow
from dpoframe_summarization.articles import Article, BrokenError
from dpoframe_summarization.readers.columns import article, gathered, rating, summary
from dpoframe_summarization.readers.pairing import PairedSource

_CONTENT = ("hash", "model_name", "split", "article", "summary", "reference", "dataset", "summary_sentences")
_NO_ERROR = "NoE"


@dataclass(frozen=True)
class Frank(PairedSource):
    """FRANK (Pagnoni et al. 2021, arXiv 2104.13346).

    `path` names two of its files, `[benchmark_data.json, human_annotations.json]` (texts and judgements), which belong together
    by `hash` and `model_name`; or `human_annotations_sentence.json` alone, in which a sentence without a fault is one in
    which most annotators found none. `rating` is `Factuality`, the share of such sentences, or any other number of
    `human_annotations.json`, such as `EntE`.

    Attributes:
        published: FRANK's own parts: `valid` for development, `test` for results, `all`.
    """

    get: ClassVar[str] = "FRANK is not part of this package: https://github.com/artidoro/frank, folder data."
    example_options: ClassVar[Mapping[str, Any]] = {"path": str(Path(__file__).parent / "examples" / "frank.jsonl")}

    rating: str = "Factuality"
    threshold: float = 0.3
    published: Literal["all", "valid", "test"] = "all"

    def articles(self) -> Iterator[Article | RefusedRow]:
        """Articles with their judged summaries."""
        return gathered(self._parts())

    def _parts(self) -> Iterator[Article | RefusedRow]:
        joined: dict[tuple[str, str], RawRow] = {}
        for row in self.rows():
            if isinstance(row, RefusedRow):
                yield row
            elif not {"hash", "model_name"} <= row.values.keys():
                yield row.refuse("wrong-type", f"The row needs 'hash' and 'model_name'; it has {', '.join(map(str, row.values))}.")
            else:
                key = str(row.values["hash"]), str(row.values["model_name"])
                known = joined.get(key)
                joined[key] = row if known is None else replace(known, values={**known.values, **row.values})
        for row in joined.values():
            if self.published in ("all", row.values.get("split")):
                yield _part(row)


def _part(row: RawRow) -> Article | RefusedRow:
    """The article of a row with its one summary."""
    values = row.values
    try:
        if "article" not in values:
            raise BrokenError("empty-source", "No file has the article of this row: add benchmark_data.json to the path.")
        made = article(row, values["hash"], values["article"], [values.get("reference")])
        one, lost = summary(values.get("summary"), _ratings(values), values["model_name"])
    except BrokenError as fault:
        return row.refuse(fault.code, str(fault))
    return replace(made, summaries=(one,), removed=made.removed + lost)


def _ratings(values: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in values.items():
        if name not in _CONTENT and isinstance(value, int | float) and not isinstance(value, bool):
            found |= rating(value, name)
    sentences = values.get("summary_sentences_annotations")
    if "Factuality" not in found and isinstance(sentences, list) and sentences:
        found["Factuality"] = fmean(float(_is_right(one)) for one in sentences)
    return found


def _is_right(sentence: Any) -> bool:
    """Whether most annotators of a sentence found no fault in it."""
    if not isinstance(sentence, Mapping) or not sentence:
        raise BrokenError("wrong-type", "'summary_sentences_annotations' must have an object of annotators for each sentence.")
    votes: list[Sequence[str]] = [errors or () for errors in sentence.values()]
    return sum(_NO_ERROR in errors for errors in votes) * 2 > len(votes)
