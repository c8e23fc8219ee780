"""A suite's prompts, pairs and worked examples: inline, from files, or from a data set that a plugin supplies."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from dpoframe.config.assembly import Assembly
from dpoframe.config.document import KeyPath
from dpoframe.data.opening import open_dataset
from dpoframe.data.prompts import prompt_digest
from dpoframe.data.raw import ENDINGS, READERS, raw_rows
from dpoframe.data.rows import RawRow
from dpoframe.errors import Fault
from dpoframe.harness.storage.texts import is_well_formed
from dpoframe.harness.suites.framing import Example
from dpoframe.harness.suites.suite import Prompt
from dpoframe.types import Content, Media, PreferencePair, RefusedRow, as_text, content_digest

_ANSWERS = ("response", "reference", "chosen", "answer")
# Where a row stood on the machine that read it is no part of what it says.
_PLACE = ("origin", "row")
_HALF = ("holds half a character (a lone surrogate), which no file can hold.", "Mend the text.")


@dataclass(frozen=True)
class RowKeys:
    """The core's own keys of a source of rows; all others are the reader's arguments.

    Attributes:
        field: Column that holds the prompt.
        id: Column that holds the row's name.
        reference: Column that holds a good answer.
        response: For worked examples, the column that holds the answer.
        limit: Rows to take at most.
    """

    field: str = "prompt"
    id: str = "id"
    reference: str = "reference"
    response: str = ""
    limit: Annotated[int, Ge(1)] | None = None

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


_ROW_KEYS = [one.name for one in fields(RowKeys)]


@dataclass(frozen=True)
class PairKeys:
    """The core's own keys of a suite's `pairs`."""

    limit: Annotated[int, Ge(1)] | None = None

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


def read_prompts(build: Assembly, given: Any) -> tuple[Prompt, ...]:
    """The prompts; faults are noted in `build`. What is of the wrong type has been told already, and gives none."""
    if not isinstance(given, str | list | Mapping):
        return ()
    if isinstance(given, Mapping) and _is_pairs(given):
        made = _prompts_of_pairs(build, given)
    else:
        keys, rows = _rows(build, given, ("prompts",))
        made = [prompt for where, row in rows if (prompt := _prompt(build, where, row, keys)) is not None]
    seen: set[str] = set()
    for prompt in made:
        if prompt.id in seen:
            build.fault(("prompts",), f"holds two prompts with the id {prompt.id!r}.", "Give each its own id.")
        seen.add(prompt.id)
    if "prompts" in build.document.data and not made and not build.faults and not build.machine:
        build.fault(("prompts",), "holds no prompt.")
    return tuple(made)


def read_examples(build: Assembly, given: Any) -> tuple[Example, ...]:
    """Worked examples: rows with a prompt and a response (or a reference, a chosen answer)."""
    if not isinstance(given, str | list | Mapping):
        return ()
    keys, rows = _rows(build, given, ("few_shot", "examples"))
    made = []
    for where, row in rows:
        names = [keys.response] if keys.response else _ANSWERS
        answer: Any = next((row[name] for name in names if row.get(name)), None)
        content: Any = row.get(keys.field)
        if not _is_content(content) or not _is_content(answer):
            build.faults.append(Fault(where, f"an example needs a `{keys.field}` and a `{' or '.join(names)}`."))
            continue
        made.append(Example(content, answer_text(answer)))
    return tuple(made)


def read_pairs(build: Assembly, given: Any) -> tuple[PreferencePair, ...]:
    """Held-out pairs: a file, or a data set section as in a recipe."""
    if not isinstance(given, str | Mapping) or not given:
        return ()
    section = {"path": _path(build, given, ("pairs",))} if isinstance(given, str) else dict(given)
    return tuple(_pairs(build, section, ("pairs",), PairKeys))


def answer_text(answer: Content) -> str:
    """An answer that may be given as text or as the assistant's messages."""
    if isinstance(answer, str):
        return answer
    if isinstance(answer, Media):
        return as_text(answer)
    return "\n\n".join(str(message.get("content", "")) for message in answer)


def _is_pairs(given: Mapping[str, Any]) -> bool:
    """Whether a section names a data set of pairs, rather than rows to be read as they are."""
    return given.get("name", "jsonl") not in READERS or "layout" in given or "columns" in given


def _prompts_of_pairs(build: Assembly, given: Mapping[str, Any]) -> list[Prompt]:
    """The prompts of a data set's pairs, each once; the chosen answer becomes the `reference`."""
    found: dict[bytes, Prompt] = {}
    for pair in _pairs(build, dict(given), ("prompts",), PairKeys):
        meta = {key: value for key, value in pair.meta.items() if key not in _PLACE}
        meta["reference"] = answer_text(pair.chosen)
        found.setdefault(prompt_digest(pair.prompt), Prompt(pair.id, pair.prompt, meta))
    return list(found.values())


def _pairs(build: Assembly, section: dict[str, Any], place: KeyPath, kind: type[PairKeys]) -> Iterator[PreferencePair]:
    own = build.filled(kind, {"limit": section.pop("limit")} if "limit" in section else {}, place)
    section.setdefault("name", _reader(section.get("path")))
    found = build.source(section, place, ["name", "limit"])
    if found is None or own is None:
        return
    count = 0
    for row in _guarded(build, place, lambda: open_dataset(found[0], found[1], build.host)):
        if isinstance(row, RefusedRow):
            build.faults.append(Fault(f"{row.source}:{row.row}", row.reason))
        elif not is_well_formed([row.prompt, row.chosen, row.rejected, dict(row.meta)]):
            build.faults.append(Fault(f"{row.meta.get('origin', found[0])}:{row.meta.get('row', row.id)}", *_HALF))
        elif own.limit is None or count < own.limit:
            count += 1
            yield row
        else:
            return


def _rows(
    build: Assembly, given: str | Sequence[Any] | Mapping[str, Any], place: KeyPath
) -> tuple[RowKeys, Iterable[tuple[str, Mapping[str, Any]]]]:
    """The rows of a source with where each stands, and the keys by which to read them."""
    if not isinstance(given, str | Mapping):
        return RowKeys(), _inline(build, given, place)
    section = {"path": _path(build, given, place)} if isinstance(given, str) else dict(given)
    own = {key: section.pop(key) for key in list(section) if key in _ROW_KEYS}
    keys = build.filled(RowKeys, own, place, ["name", "path"])
    name = str(section.pop("name", "") or _reader(section.get("path")))
    known = list(inspect.signature(READERS[name]).parameters)
    for key in [key for key in section if key not in known]:
        build.fault((*place, key), "is no key here.", f"Keys: {', '.join([*_ROW_KEYS, 'name', *known])}.")
        del section[key]
    if not isinstance(section.get("path"), str | list):
        build.fault((*place, "path"), "is required.", "Give a file, or name a data set: {name: ...}")
        return RowKeys(), ()
    if keys is None:
        return RowKeys(), ()
    return keys, _taken(build, place, lambda: raw_rows(name, section), keys.limit)


def _inline(build: Assembly, given: Iterable[Any], place: KeyPath) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, row in enumerate(given):
        where = build.document.where((*place, number))
        if isinstance(row, str) or (isinstance(row, list) and _is_content(row)):
            yield where, {"prompt": row}
        elif isinstance(row, Mapping):
            yield where, row
        else:
            build.faults.append(
                Fault(where, f"is {row!r:.80}, but should be text, a list of chat messages, or a mapping with a prompt.")
            )


def _taken(
    build: Assembly, place: KeyPath, rows: Callable[[], Iterator[RawRow | RefusedRow]], limit: int | None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    count = 0
    for row in _guarded(build, place, rows):
        if isinstance(row, RefusedRow):
            build.faults.append(Fault(f"{row.source}:{row.row}", row.reason))
        elif limit is None or count < limit:
            count += 1
            yield f"{row.source}:{row.row}", row.values
        else:
            return


def _guarded(build: Assembly, place: KeyPath, rows: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """The rows until one cannot be had; why not is noted."""
    found = build.attempt(place, rows)
    while found is not None and (row := build.attempt(place, lambda: next(found, None))) is not None:
        yield row


def _prompt(build: Assembly, where: str, row: Mapping[str, Any], keys: RowKeys) -> Prompt | None:
    content: Any = row.get(keys.field)
    if not is_well_formed(row):
        build.faults.append(Fault(where, *_HALF))
        return None
    if not _is_content(content):
        there = ", ".join(map(str, row)) or "nothing"
        said = f"a prompt row needs a key `{keys.field}` with text or chat messages; it has {there}."
        build.faults.append(Fault(where, said, "" if keys.field in row else "Name the column: prompts: {path: ..., field: ...}"))
        return None
    rest = {key: value for key, value in row.items() if key not in (keys.id, keys.field) and _is_plain(value)}
    if keys.reference != "reference" and keys.reference in row:
        rest["reference"] = answer_text(row[keys.reference] or "")
    name = row.get(keys.id)
    return Prompt(content_digest(content)[:12] if name is None or name == "" else str(name), content, rest)


def _is_content(value: Any) -> bool:
    """Whether a value is text, or chat messages with roles."""
    if isinstance(value, str):
        return bool(value.strip())
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) and "role" in one for one in value)


def _is_plain(value: Any) -> bool:
    """Whether JSON can hold a value; tables also hold bytes and dates."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bool | int | float)


def _reader(path: Any) -> str:
    """The data set that reads a file, by the file's ending; JSON Lines where it does not say."""
    name = str(path[0] if isinstance(path, list) and path else path).lower()
    return next((reader for ending, reader in ENDINGS.items() if name.endswith(ending)), "jsonl")


def _path(build: Assembly, given: str, place: KeyPath) -> str:
    """A file that stands as a bare name, beside the suite."""
    return str(build.document.folder(place) / Path(given).expanduser())
