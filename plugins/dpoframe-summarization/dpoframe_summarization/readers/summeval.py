"""SummEval: 100 articles of CNN/DailyMail with summaries by 16 systems that experts rated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, Literal

from dpoframe import RawRow, RefusedRow
from dpoframe_summarization.articles import Article, BrokenError, Summary
from dpoframe_summarization.readers.columns import article, gathered, listed, rating, summary
from dpoframe_summarization.readers.pairing import PairedSource

DIMENSIONS = ("coherence", "consistency", "fluency", "relevance")


@dataclass(frozen=True)
class SummEval(PairedSource):
    """SummEval (Fabbri et al. 2021, arXiv 2007.12626), in each layout in which it is published.

    Read are the authors' `model_annotations.aligned.paired.jsonl` (one row a summary, the ratings of each annotator), the
    layout of `mteb/summeval` and its translations (one row an article, lists of summaries and of mean ratings), and one row an
    article with `outputs`, each with its system, summary and ratings. `rating` is `coherence`, `consistency`, `fluency`,
    `relevance` or `mean`.

    Attributes:
        annotators: Whose ratings count where the file has each one's: `expert` (three a summary), `turker` (five), or `both`.
    """

    get: ClassVar[str] = (
        "SummEval is not part of this package. With articles it is hub:mteb/summeval (split test), or what the authors' "
        "pair_data.py makes: https://github.com/Yale-LILY/SummEval."
    )
    example_options: ClassVar[Mapping[str, Any]] = {"path": str(Path(__file__).parent / "examples" / "summeval.jsonl")}

    annotators: Literal["expert", "turker", "both"] = "expert"

    def articles(self) -> Iterator[Article | RefusedRow]:
        """Articles with their rated summaries."""
        return gathered(self._parts())

    def _parts(self) -> Iterator[Article | RefusedRow]:
        for row in self.rows():
            if isinstance(row, RefusedRow):
                yield row
                continue
            try:
                made, given = self._read(row)
            except BrokenError as fault:
                yield row.refuse(fault.code, str(fault))
                continue
            yield from _with_summaries(row, made, given)

    def _read(self, row: RawRow) -> tuple[Article, Sequence[Given]]:
        values = row.values
        if "decoded" in values:
            made = article(row, values.get("id"), _text(values), values.get("references") or ())
            return made, [Given(values["decoded"], values.get("model_id"), lambda: self._annotated(values))]
        if "machine_summaries" in values:
            people = listed(values.get("human_summaries") or [], "human_summaries")
            made = article(row, values.get("id"), values.get("text"), people)
            return made, _parallel(values)
        if "outputs" in values:
            made = article(row, values.get("doc_id"), values.get("source"), listed(values.get("references") or [], "references"))
            return made, [_output(one) for one in listed(values["outputs"], "outputs")]
        raise BrokenError(
            "wrong-type", f"The row has none of 'decoded', 'machine_summaries', 'outputs'. It has {', '.join(map(str, values))}."
        )

    def _annotated(self, values: Mapping[str, Any]) -> dict[str, float]:
        """The mean over annotators of each question."""
        wanted = {"expert": ["expert"], "turker": ["turker"], "both": ["expert", "turker"]}[self.annotators]
        given = [one for who in wanted for one in values.get(f"{who}_annotations") or []]
        found = [(name, rating(one.get(name), name).get(name)) for one in given for name in DIMENSIONS]
        known = {name: [value for key, value in found if key == name and value is not None] for name in DIMENSIONS}
        return {name: fmean(ratings) for name, ratings in known.items() if ratings}


@dataclass(frozen=True)
class Given:
    """A summary as a row gives it; its ratings are read last, so that a broken one spoils no other."""

    text: Any
    system: Any
    ratings: Callable[[], Mapping[str, float]]


def _with_summaries(row: RawRow, made: Article, given: Sequence[Given]) -> Iterator[Article | RefusedRow]:
    kept: list[Summary] = []
    removed = made.removed
    for one in given:
        try:
            each, lost = summary(one.text, one.ratings(), one.system)
        except BrokenError as fault:
            yield row.refuse(fault.code, str(fault))
            continue
        kept.append(each)
        removed += lost
    yield replace(made, summaries=tuple(kept), removed=removed)


def _text(values: Mapping[str, Any]) -> Any:
    if values.get("text") is None:
        raise BrokenError("empty-source", "The row has no 'text': put the articles to the annotations first, by pair_data.py.")
    return values["text"]


def _parallel(values: Mapping[str, Any]) -> list[Given]:
    texts = listed(values["machine_summaries"], "machine_summaries")
    columns = {name: listed(values[name], name) for name in DIMENSIONS if values.get(name) is not None}
    if wrong := [name for name, column in columns.items() if len(column) != len(texts)]:
        raise BrokenError("wrong-type", f"{len(texts)} summaries and {len(columns[wrong[0]])} ratings '{wrong[0]}'.")
    rows = [{name: column[number] for name, column in columns.items()} for number in range(len(texts))]
    return [Given(text, f"system {number}", _numbers(one)) for number, (text, one) in enumerate(zip(texts, rows, strict=True))]


def _output(one: Any) -> Given:
    if not isinstance(one, Mapping):
        raise BrokenError("wrong-type", f"Each of 'outputs' must be an object, found {type(one).__name__}.")
    return Given(one.get("summary"), one.get("system"), _numbers(one))


def _numbers(one: Mapping[str, Any]) -> Callable[[], Mapping[str, float]]:
    def read() -> dict[str, float]:
        return {key: value for name in DIMENSIONS for key, value in rating(one.get(name), name).items()}

    return read
