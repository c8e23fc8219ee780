"""Rows of data sets that the library `datasets` loads."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dpoframe.data.rows import RawRow
from dpoframe.errors import DataError, MissingExtraError


def hub_rows(path: str, subset: str | None, split: str, streaming: bool, revision: str | None) -> Iterator[RawRow]:
    """Rows of one split; `source` is `path[subset]/split`, rows count from 1.

    Raises:
        MissingExtraError: `datasets` is not installed.
        DataError: the data set, subset or split does not exist, cannot be reached, or breaks while it is read.
    """
    if importlib.util.find_spec("datasets") is None:
        raise MissingExtraError("The data set 'huggingface'", "datasets", 'pip install "dpoframe[datasets]"')
    rows = _load(path, subset, split, streaming, revision)
    name = f"{path}[{subset}]/{split}" if subset else f"{path}/{split}"
    return _numbered(name, rows)


def _load(path: str, subset: str | None, split: str, streaming: bool, revision: str | None) -> Any:
    import datasets

    folder = Path(path).expanduser()
    try:
        if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
            found = datasets.load_from_disk(str(folder))
            return found[split] if isinstance(found, Mapping) else found
        given = str(folder) if folder.is_dir() else path
        return datasets.load_dataset(given, subset, split=split, streaming=streaming, revision=revision)
    except Exception as error:  # `datasets` raises errors of many libraries: network, hub, Arrow, its own
        raise DataError(
            f"The data set {path!r} (subset {subset!r}, split {split!r}) cannot be loaded: {type(error).__name__}: "
            f"{_first_line(error)} Check the id, the subset, the split and the network; "
            "a private data set needs `hf auth login`."
        ) from error


def _numbered(name: str, rows: Any) -> Iterator[RawRow]:
    number = 0
    try:
        for values in rows:
            number += 1
            yield RawRow(name, number, values)
    except Exception as error:
        raise DataError(f"{name} breaks after row {number}: {type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    text = (str(error).strip().splitlines() or ["no message."])[0]
    return text if text.endswith((".", "!", "?")) else f"{text}."
