"""Answers that may be paired: read from evaluations and from files of rows, brought together by prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpoframe.data.media import KINDS, is_media, media_of
from dpoframe.data.raw import ENDINGS, raw_rows
from dpoframe.data.rows import RawRow, RowError, shown
from dpoframe.errors import ConfigError, DataError
from dpoframe.harness.sharding import ALONE, Ranks
from dpoframe.harness.storage.folder import EvalFolder
from dpoframe.types import Content, Media, RefusedRow, Sample, content_digest

_OWN = ("key", "id", "sample", "prompt", "response", "responses", "finished", "detail", "meta", "reference", "source")

_NAMES = ("id", "task_id")
"""Columns that name what a row is about; the second is that of benchmarks."""


@dataclass(frozen=True)
class Candidate:
    """One answer to a prompt.

    Attributes:
        sample: The answer as an evaluator sees it.
        source: Who gave it: a model's name, or the file's.
        is_reference: Whether it is no model's answer but the right one that a row names.
    """

    sample: Sample
    source: str
    is_reference: bool = False


@dataclass
class Gathered:
    """Candidates by prompt. Of several processes the first holds all, each other one its share alone.

    Attributes:
        ranks: This process among those that share the work.
        together: Candidates in a row that fall to one process, because they are scored in one call.
        prompts: Digest of a prompt to the answers to it, in the order in which they were found; none of them twice.
        mine: Those that this process has scored, in the order in which they were found.
        rows: Answers found, right ones that rows hold not among them.
        repeated: Answers that had occurred for their prompt.
        refused: Rows that hold none, or an empty one, which no training can use: how many, by the reason's code.
        first: The first of them in words.
    """

    ranks: Ranks = ALONE
    together: int = 1
    prompts: dict[str, list[Candidate]] = field(default_factory=dict)
    mine: list[Candidate] = field(default_factory=list)
    rows: int = 0
    repeated: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    first: str = ""
    _seen: set[str] = field(default_factory=set)

    def take(self, found: Iterable[Candidate | RefusedRow]) -> Gathered:
        """Sorts what a source gives in."""
        for one in found:
            if isinstance(one, RefusedRow):
                self.refused[one.code] += 1
                self.first = self.first or f"{one.source}, row {one.row}: {one.reason}"
                continue
            self.rows += not one.is_reference
            if _is_blank(one.sample.response):
                self.refused["empty-response"] += 1
                self.first = self.first or f"{one.source}: the answer {one.sample.id} is empty."
                continue
            prompt = content_digest(one.sample.prompt)
            # A right answer stays one, also where a model gave the same; it comes again with each of its row's answers.
            answer = f"{one.is_reference} {content_digest(one.sample.prompt, one.sample.response)}"
            if answer in self._seen:
                self.repeated += not one.is_reference
                continue
            mine = self.ranks.has(len(self._seen), self.together)
            self._seen.add(answer)
            if mine:
                self.mine.append(one)
            if mine or self.ranks.first:
                self.prompts.setdefault(prompt, []).append(one)
        return self


def gather(
    sources: Sequence[Path],
    media: str | None = None,
    reference: str = "",
    response: str = "response",
    *,
    ranks: Ranks = ALONE,
    together: int = 1,
) -> Gathered:
    """The answers in all sources.

    Args:
        sources: Folders of evaluations, and files of rows.
        media: `image`, `audio` or `video` where a text in `response` or `responses` is the path of such a file.
        reference: Where a row holds a right answer, which is then a candidate as well; empty for none.
        response: Where a row of a file holds its one answer.
        ranks: This process among those that share the work. Each reads all sources.
        together: Candidates in a row that are scored in one call.

    Raises:
        ConfigError: `media` is no kind, or a source is named twice.
        DataError: a source is not there, is neither of the two kinds, or nothing in it can be used.
    """
    if media is not None and media not in KINDS:
        raise ConfigError(f"--media is {media!r}; it must be one of {', '.join(KINDS)}.")
    if len({source.resolve() for source in sources}) < len(sources):
        raise ConfigError("A source is named twice; each answer counts once anyway. Name each source once.")
    found = Gathered(ranks, together)
    for source in sources:
        found.take(_of_folder(source, reference) if source.is_dir() else _of_file(source, media, reference, response))
    if not found.rows:
        why = f" The first row that was refused: {found.first}" if found.first else ""
        raise DataError(f"No answer was found in {', '.join(map(str, sources))}.{why}")
    return found


def _of_folder(folder: Path, reference: str) -> Iterator[Candidate | RefusedRow]:
    """An evaluation's answers, under the name of the model that gave them."""
    if not (folder / "samples.jsonl").is_file():
        near = sorted(path.parent for path in folder.glob("eval/*/samples.jsonl"))
        hint = f" Name one of {', '.join(map(str, near[:5]))}." if near else ""
        raise DataError(f"{folder} is no folder of an evaluation: it holds no samples.jsonl.{hint}")
    evaluation = EvalFolder(folder)
    model = str(evaluation.document("manifest.json").get("model") or folder.name)
    for number, row in enumerate(evaluation.samples(), start=1):
        yield Candidate(row.sample, model)
        try:
            yield from _right(row.sample, row.meta, reference, folder, None)
        except RowError as fault:
            yield RefusedRow(str(folder / "samples.jsonl"), number, fault.code, fault.reason)


def _of_file(file: Path, media: str | None, reference: str, response: str) -> Iterator[Candidate | RefusedRow]:
    reader = next((name for end, name in ENDINGS.items() if file.name.lower().endswith(end) and name != "text"), "")
    if not reader:
        known = ", ".join(end for end, name in ENDINGS.items() if name != "text")
        raise DataError(f"{file} is neither the folder of an evaluation nor a file whose name ends in {known}.")
    before: Counter[str] = Counter()
    for row in raw_rows(reader, {"path": str(file)}):
        if isinstance(row, RefusedRow):
            yield row
            continue
        try:
            yield from _of_row(row, media, reference, response, before)
        except RowError as fault:
            yield row.refuse(fault.code, fault.reason)


def _of_row(row: RawRow, media: str | None, reference: str, response: str, before: Counter[str]) -> list[Candidate]:
    """The answers of a row: `responses` has several, `response` one. `before` counts those under a name in earlier rows."""
    values, folder = row.values, Path(row.source).parent
    prompt = _content(values.get("prompt"), folder, None, "prompt")
    if values.get("responses") is not None:
        given = values["responses"]
        if not isinstance(given, list) or not given:
            raise RowError("wrong-type", f"'responses' must be a list of answers, found {shown(given)}.")
        one = False
    else:
        given, one = [values.get(response)], True
    answers = [_content(answer, folder, media, response) for answer in given]
    name = next((str(values[key]) for key in _NAMES if values.get(key)), f"row {row.row}")
    source = str(values.get("source") or Path(row.source).stem)
    meta = {**{key: value for key, value in values.items() if key not in (*_OWN, response)}, **_mapping(values.get("meta"))}
    if values.get("reference"):
        meta["reference"] = values["reference"]
    detail, finished = _mapping(values.get("detail")) if one else {}, values.get("finished", True) is not False
    first = _number(values, before[name])
    before[name] = max(before[name], first + len(answers))
    samples = [Sample(f"{name}#{number}", prompt, answer, finished, detail, meta) for number, answer in enumerate(answers, first)]
    return [*(Candidate(sample, source) for sample in samples), *_right(samples[0], values, reference, folder, media)]


def _is_blank(answer: Content) -> bool:
    return isinstance(answer, str) and not answer.strip()


def _number(values: Mapping[str, Any], following: int) -> int:
    """The number of a row's first answer among those under its name, as the row says, else the one that follows."""
    number = values.get("sample")
    return number if type(number) is int else following


def right_answer(row: Mapping[str, Any], key: str, folder: Path, media: str | None = None) -> Content | None:
    """The right answer that a row holds under `key`, if it does; RowError where that is no answer."""
    given = row.get(key)
    if given is None or given in ("", []):
        return None
    return given if isinstance(given, Media) else _content(given, folder, media, key)


def _right(sample: Sample, row: Mapping[str, Any], key: str, folder: Path, media: str | None) -> Iterator[Candidate]:
    """The right answer of a row as a candidate beside the sample."""
    if key and (answer := right_answer(row, key, folder, media)) is not None:
        made = Sample(f"{sample.id.rpartition('#')[0] or sample.id}#reference", sample.prompt, answer, meta=sample.meta)
        yield Candidate(made, "reference", is_reference=True)


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _content(value: Any, folder: Path, media: str | None, meaning: str) -> Content:
    """A prompt or answer as a row has it: text, chat messages, or a file; with `media`, a text is a file's path."""
    if value is None:
        raise RowError("prompt-missing" if meaning == "prompt" else "wrong-type", f"There is no {meaning!r}.")
    if is_media(value):
        return media_of(value, folder)
    if isinstance(value, str):
        return value if media is None else media_of({"media": media, "path": value}, folder)
    if isinstance(value, list) and value and all(isinstance(item, Mapping) and "role" in item for item in value):
        messages: Sequence[Mapping[str, Any]] = value
        return messages
    raise RowError("wrong-type", f"{meaning!r} must be text, chat messages or a file, found {shown(value)}.")
