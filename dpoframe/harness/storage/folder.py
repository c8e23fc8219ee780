"""The folder of one evaluation as its readers know it: the exports, written from the store when everything is there.

manifest.json    what was evaluated: suite, model, digests, versions
samples.jsonl    answers, in the order of the suite;  samples.parquet the same as a table
pairs.jsonl      held-out pairs with the scores the model gave them
scores.jsonl     every evaluator's metrics of every sample, or why there are none
results.json     the figures; written last, so a folder without it is no finished evaluation
blobs/           pictures and sounds, named by their content
store/           what the evaluation goes on from; read by nobody else
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpoframe.checkpoint.durable import ASIDE, durable
from dpoframe.errors import DataError
from dpoframe.harness.storage.media import Blobs
from dpoframe.harness.storage.texts import all_well_formed
from dpoframe.types import Sample, as_text

# JSON's own escapes keep U+2028 and the like from being taken for line ends.
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=True, allow_nan=False)

_COLUMNS = ["id", "prompt", "response", "finished", "detail", "meta"]

NOT_APPLICABLE = "not applicable"
"""Why a sample is unscored where its evaluator returned None: it has nothing to say of it."""

AGAIN = "(asked again in the next run)"
"""How the reason ends where the trouble was not the sample's own: time, or a service that did not answer."""


@dataclass(frozen=True)
class Row:
    """A sample as it lies in a file: `key` is a digest of everything that made it.

    Media in `prompt`, `response` and `meta` are `Media` when read, and names of files in `blobs/` when written.
    """

    key: str
    id: str
    prompt: Any
    response: Any
    finished: bool = True
    detail: Mapping[str, float] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sample(self) -> Sample:
        """What evaluators read."""
        return Sample(self.id, self.prompt, self.response, self.finished, self.detail, self.meta)


@dataclass(frozen=True)
class Score:
    """One evaluator's metrics of one sample; `values` is None where it is unscored, for `reason`.

    Samples of one `cluster` (a digest of the prompt) are not independent of each other.
    """

    evaluator: str
    id: str
    values: Mapping[str, float] | None
    reason: str = ""
    cluster: str = ""


@dataclass(frozen=True)
class EvalFolder:
    """Reads and writes the exports of one evaluation. Whole files are written beside and renamed."""

    path: Path

    def samples(self) -> list[Row]:
        """The answers in the order of the suite."""
        return list(self._rows("samples.jsonl"))

    def pairs(self) -> list[Row]:
        """The held-out pairs, `response` being the chosen one."""
        return list(self._rows("pairs.jsonl"))

    def scores(self) -> list[Score]:
        """Every evaluator's verdicts."""
        return [Score(**row) for row in _lines(self.path / "scores.jsonl")]

    def document(self, name: str) -> dict[str, Any]:
        """manifest.json or results.json; DataError where it is missing or not JSON."""
        file = self.path / name
        try:
            return dict(json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise DataError(f"{self.path} holds no {name}, so it is no finished evaluation. Run the suite again.") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file} is not JSON: {error}. Run the suite again.") from error
        except TypeError as error:
            raise DataError(f"{file} is no JSON object: it is no document of an evaluation. Evaluate again.") from error

    @property
    def blobs(self) -> Blobs:
        """The media that rows name."""
        return Blobs(self.path)

    def row(self, found: Mapping[str, Any]) -> Row:
        """The row of one line's object, with its media; DataError where it is no row of an evaluation."""
        try:
            return Row(**{**found, **{name: self.blobs.restored(found[name]) for name in ("prompt", "response", "meta")}})
        except (TypeError, KeyError, RecursionError) as error:
            raise DataError(f"{self.path} holds a line that is no sample ({error!r:.200}). Run the suite again.") from error

    def write_lines(self, name: str, lines: Iterable[str]) -> None:
        """Writes a whole file of lines, each of which ends in a line end."""
        with self._whole(name) as file:
            for line in lines:
                file.write(line.encode())

    def write_document(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a whole JSON document; a number that is not finite becomes null."""
        with self._whole(name) as file:
            text = json.dumps(finite(content), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
            file.write(text.encode("utf-8", "backslashreplace"))  # JSON's own escape of half a character

    def write_table(self, lines: Iterable[str]) -> None:
        """Writes samples.parquet from lines of rows: id, prompt, response, finished, and `detail` and `meta` as JSON text."""
        import pyarrow
        from pyarrow import parquet

        fields = pyarrow.schema([(name, pyarrow.bool_() if name == "finished" else pyarrow.string()) for name in _COLUMNS])
        self.path.mkdir(parents=True, exist_ok=True)
        aside = self.path / f".samples.parquet.{os.getpid()}{ASIDE}"
        with parquet.ParquetWriter(aside, fields) as writer:
            for some in _portions(lines, 4096):
                rows = [_cells(all_well_formed(json.loads(line))) for line in some]
                writer.write_table(
                    pyarrow.table([_column([row[name] for row in rows]) for name in _COLUMNS], _COLUMNS).cast(fields)
                )
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())
        aside.replace(self.path / "samples.parquet")

    def withdraw(self) -> None:
        """Removes the documents that say the evaluation is finished, before its files are written anew."""
        for name in ("results.json", "manifest.json"):
            (self.path / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Removes what broken-off writes left."""
        for left in (*self.path.glob(f".*{ASIDE}"), *(self.path / "blobs").glob(f".*{ASIDE}")):
            with contextlib.suppress(OSError):
                left.unlink()

    def _rows(self, name: str) -> Iterator[Row]:
        yield from map(self.row, _lines(self.path / name))

    @contextlib.contextmanager
    def _whole(self, name: str) -> Iterator[Any]:
        self.path.mkdir(parents=True, exist_ok=True)
        with durable(self.path / name) as file:
            yield file


def line(row: Row | Score) -> str:
    """A row or verdict as a line of its file."""
    try:
        return _ENCODER.encode(vars(row)) + "\n"
    except ValueError:
        return _ENCODER.encode(finite(vars(row))) + "\n"


def finite(value: Any) -> Any:
    """Plain values for JSON: a number that is not finite becomes null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    if not file.is_file():
        return
    with file.open(encoding="utf-8", errors="replace") as stream:
        for text in stream:
            with contextlib.suppress(json.JSONDecodeError, RecursionError):
                yield json.loads(text)


def _column(texts: list[str]) -> Any:
    """A column of texts. `pyarrow.array` would do, but imports pandas where that is installed: 90 MB."""
    import pyarrow

    made = pyarrow.lib.StringBuilder()
    made.append_values(texts)
    return made.finish()


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "id": row["id"],
        "prompt": _text(row["prompt"]),
        "response": _text(row["response"]),
        "finished": "true" if row["finished"] else "false",
        "detail": json.dumps(row["detail"], sort_keys=True),
        "meta": json.dumps(row["meta"], sort_keys=True, ensure_ascii=False),
    }


def _text(content: Any) -> str:
    """A stored content as text: media by kind and name of the blob."""
    return f"[{content['media']} {content['path']}]" if isinstance(content, Mapping) else as_text(content)


def _portions(items: Iterable[str], size: int) -> Iterator[list[str]]:
    there = iter(items)
    while some := list(itertools.islice(there, size)):
        yield some
