"""Writing pairs in the plain layout: the columns prompt, chosen and rejected."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from dpoframe.data.files import written
from dpoframe.errors import DataError
from dpoframe.types import Content, Media, PreferencePair

_BATCH_ROWS = 1000
_NUMBERS = ("score_chosen", "score_rejected")
_TEXTS = ("chosen_source", "rejected_source")
_PLACE = ("origin", "row")


def write_pairs(pairs: Iterable[PreferencePair], path: Path, form: Literal["jsonl", "parquet"]) -> None:
    """Writes pairs whole or not at all, a thousand in memory at a time.

    Texts stay texts, chat messages become lists of objects with role and content. JSON Lines keep the other short columns
    of the rows; Parquet keeps scores, sources and weights.

    Raises:
        DataError: there is no pair, a pair holds media, or Parquet cannot hold a row (its columns have one type each).
        MachineError: the file cannot be written.
    """
    stream = iter(pairs)
    first = next(stream, None)
    if first is None:
        raise DataError(f"No row can be used, so {path} is not written. `dpoframe data check` tells why.")
    with written(path) as temporary:
        (_write_parquet if form == "parquet" else _write_jsonl)(itertools.chain([first], stream), temporary)


def _write_jsonl(pairs: Iterable[PreferencePair], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for pair in pairs:
            file.write(json.dumps({**_meta(pair), **_columns(pair)}, ensure_ascii=False, allow_nan=False) + "\n")


def _columns(pair: PreferencePair) -> dict[str, Any]:
    parts = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
    return {name: _plain(content) for name, content in parts.items()} | ({"weight": pair.weight} if pair.weight != 1 else {})


def _plain(content: Content) -> Any:
    if isinstance(content, Media):
        raise DataError("A pair holds media, which the plain layout cannot. Convert texts and chat messages only.")
    return content if isinstance(content, str) else [dict(message) for message in content]


def _meta(pair: PreferencePair) -> Mapping[str, Any]:
    kept = {key: value for key, value in pair.meta.items() if key not in _PLACE}
    return {key: value for key, value in kept.items() if not isinstance(value, float) or math.isfinite(value)}


def _write_parquet(pairs: Iterable[PreferencePair], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = iter(pairs)
    first = next(stream)
    schema = _schema(first)
    with pq.ParquetWriter(path, schema) as writer:
        pairs = itertools.chain([first], stream)
        while batch := list(itertools.islice(pairs, _BATCH_ROWS)):
            rows = [_record(pair) for pair in batch]
            try:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            except (pa.ArrowException, TypeError) as error:
                reason = str(error).splitlines()[0]
                raise DataError(f"Parquet needs one type a column, and a row differs ({reason}). Take --to jsonl.") from error


def _record(pair: PreferencePair) -> dict[str, Any]:
    columns = _columns(pair)
    for content in columns.values():
        for message in content if isinstance(content, list) else ():
            if set(message) != {"role", "content"} or not isinstance(message["content"], str):
                raise DataError("A chat message holds more than a role and a text (tool calls or parts). Take --to jsonl.")
    numbers = {name: pair.meta[name] for name in _NUMBERS if isinstance(pair.meta.get(name), int | float)}
    texts = {name: str(pair.meta[name]) for name in _TEXTS if name in pair.meta}
    return {**columns, **numbers, **texts, "weight": pair.weight}


def _schema(pair: PreferencePair) -> Any:
    import pyarrow as pa

    messages = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    parts = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
    fields = [(name, pa.string() if isinstance(content, str) else messages) for name, content in parts.items()]
    kept = [(name, pa.float64()) for name in _NUMBERS if name in pair.meta] + [
        (name, pa.string()) for name in _TEXTS if name in pair.meta
    ]
    return pa.schema([*fields, *kept, ("weight", pa.float64())])
