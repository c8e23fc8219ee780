"""The folder of one evaluation: what each phase leaves for the next, and for whoever reads the run later.

manifest.json    what was evaluated: suite, model, digests, versions
samples.jsonl    answers, in the order of the suite;  samples.parquet the same as a table
pairs.jsonl      held-out pairs with the scores the model gave them
scores.jsonl     every evaluator's metrics of every sample, or why there are none
results.json     the figures
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dpoframe.errors import DataError
from dpoframe.types import Content, Sample, as_text

NOT_APPLICABLE = "not applicable"
"""Why a sample is unscored where its evaluator returned None: it has nothing to say of it."""


@dataclass(frozen=True)
class Row:
    """A sample as it lies in a file: `key` is a digest of everything that made it."""

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
    """Reads and writes the files of one evaluation. Whole files are written beside and renamed."""

    path: Path

    def samples(self) -> list[Row]:
        """The answers kept so far; a last line cut short by a kill is left out."""
        return [Row(**row) for row in _lines(self.path / "samples.jsonl")]

    def pairs(self) -> list[Row]:
        """The held-out pairs, `response` being the chosen one."""
        return [Row(**row) for row in _lines(self.path / "pairs.jsonl")]

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
        except ValueError as error:
            raise DataError(f"{file} is not JSON: {error}. Run the suite again.") from error

    def append(self, row: Row) -> None:
        """Adds one answer and hands it to the system at once, so that a kill loses none."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "samples.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(_line(asdict(row)))

    def write_rows(self, name: str, rows: Iterable[Row | Score]) -> None:
        """Writes a whole file of lines."""
        self._replace(name, "".join(_line(asdict(row)) for row in rows).encode())

    def write_document(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a whole JSON document; a number that is not finite becomes null."""
        text = json.dumps(_finite(content), indent=2, sort_keys=True, ensure_ascii=False)
        self._replace(name, (text + "\n").encode())

    def write_table(self, rows: Sequence[Row]) -> None:
        """Writes samples.parquet: id, prompt, response, finished, and `detail` and `meta` as JSON text."""
        import pyarrow
        from pyarrow import parquet

        columns = {
            "id": [row.id for row in rows],
            "prompt": [as_text(row.prompt) for row in rows],
            "response": [as_text(row.response) for row in rows],
            "finished": [row.finished for row in rows],
            "detail": [json.dumps(dict(row.detail), sort_keys=True) for row in rows],
            "meta": [json.dumps(dict(row.meta), sort_keys=True, ensure_ascii=False) for row in rows],
        }
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self.path / ".samples.parquet.partial"
        parquet.write_table(pyarrow.table(columns), partial)
        partial.replace(self.path / "samples.parquet")

    def _replace(self, name: str, content: bytes) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self.path / f".{name}.partial"
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(self.path / name)


def storable(content: Content) -> Any:
    """A prompt or response as JSON can hold it: text and chat messages as they are, media by kind and digest."""
    if isinstance(content, list | tuple):
        return [dict(part) for part in content]
    return as_text(content)


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    if not file.is_file():
        return
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def _line(row: Mapping[str, Any]) -> str:
    # JSON's own escapes keep U+2028 and the like from being taken for line ends.
    return json.dumps(_finite(row), sort_keys=True, ensure_ascii=True) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
