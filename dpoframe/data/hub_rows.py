"""Rows of data sets that the library `datasets` loads."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dpoframe.data.ahead import Ahead
from dpoframe.data.rows import RawRow
from dpoframe.errors import DataError, MachineError, MissingExtraError

_BATCH_ROWS = 64


def hub_rows(
    path: str, subset: str | None, split: str, streaming: bool, revision: str | None, ahead: Ahead | None = None
) -> Iterator[RawRow]:
    """Rows of one split; `source` is `path[subset]/split`, rows count from 1. `datasets` passes over those `ahead`.

    Raises:
        MissingExtraError: `datasets` is not installed.
        DataError: the data set, subset or split does not exist, or breaks while it is read.
        MachineError: it is not in the cache, and the hub cannot be reached.
    """
    if importlib.util.find_spec("datasets") is None:
        raise MissingExtraError(f"Reading {path!r} as a data set of Hugging Face", "datasets", 'pip install "dpoframe[datasets]"')
    rows = _load(path, subset, split, streaming, revision)
    name = f"{path}[{subset}]/{split}" if subset else f"{path}/{split}"
    return _numbered(name, rows, ahead or Ahead())


def _load(path: str, subset: str | None, split: str, streaming: bool, revision: str | None) -> Any:
    import datasets

    folder, unreachable = Path(path).expanduser(), False
    try:
        if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
            found = datasets.load_from_disk(str(folder))
            return found[split] if isinstance(found, Mapping) else found
        given = str(folder) if folder.is_dir() else path
        unreachable = not (folder.is_dir() or hub_reachable())
        with own_files_alone(), offline() if unreachable else contextlib.nullcontext():
            return datasets.load_dataset(given, subset, split=split, streaming=streaming, revision=revision)
    except Exception as error:  # `datasets` raises errors of many libraries: network, hub, Arrow, its own
        if unreachable:
            told = f"The data set {path!r} is not on this machine, and the hub cannot be reached"
            raise MachineError(f"{told} ({_first_line(error)}) Connect to the network, or give a local folder.") from error
        raise DataError(
            f"The data set {path!r} (subset {subset!r}, split {split!r}) cannot be loaded: {type(error).__name__}: "
            f"{_first_line(error)} Check the id, the subset, the split and the network; "
            "a private data set needs `hf auth login`."
        ) from error


def _plain(rows: Any) -> Any:
    """The rows with pictures, sounds and films as their bytes, which `datasets` would decode one by one."""
    kinds = ("Image", "Audio", "Video")
    if not any(f"{kind}(" in repr(rows.features) for kind in kinds):
        return rows if hasattr(rows, "__len__") else _streamed(rows)
    tables = rows.with_format("arrow").iter(batch_size=_BATCH_ROWS)
    return (row for table in tables for row in table.to_pylist())


def _streamed(rows: Any) -> Iterator[dict[str, Any]]:
    """All rows of a stream, also in a data-loading worker: there `datasets` itself would give out some of the files only."""
    for batch in rows.iter(batch_size=_BATCH_ROWS):
        yield from (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))


def hub_reachable() -> bool:
    """Whether the hub's name resolves: its client would try for half a minute. Behind a proxy the client is left to find out."""
    import huggingface_hub

    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    try:
        socket.getaddrinfo(urlsplit(huggingface_hub.constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return not huggingface_hub.constants.HF_HUB_OFFLINE


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Context in which `datasets` looks into its cache alone."""
    import datasets
    import huggingface_hub

    switches: tuple[Any, ...] = (huggingface_hub.constants, datasets.config)
    before = [switch.HF_HUB_OFFLINE for switch in switches]
    for switch in switches:
        switch.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for switch, was in zip(switches, before, strict=True):
            switch.HF_HUB_OFFLINE = was


@contextlib.contextmanager
def own_files_alone() -> Iterator[None]:
    """Context in which a data set whose card names files elsewhere is refused, before any of them is looked for.

    `datasets` would fetch addresses, and read files of this machine, that the card of a folder or of the hub names.
    """
    from datasets.utils.metadata import MetadataConfigs

    name = "from_dataset_card_data"
    read, before = getattr(MetadataConfigs, name), vars(MetadataConfigs)[name]

    def checked(card: Any) -> Any:
        found = read(card)
        for file in _texts([{key: one.get(key) for key in ("data_files", "data_dir")} for one in found.values()]):
            if not file.startswith("hf://") and ("://" in file or Path(file).is_absolute() or ".." in Path(file).parts):
                raise ValueError(f"its card names {file!r:.200}, which is no file of its own; such data are not read")
        return found

    setattr(MetadataConfigs, name, checked)
    try:
        yield
    finally:
        setattr(MetadataConfigs, name, before)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(one)


def _numbered(name: str, rows: Any, ahead: Ahead) -> Iterator[RawRow]:
    number = 0
    try:
        reading = iter(_plain(rows))
        while True:
            if ahead.count:
                number, ahead.count = number + ahead.count, 0
                if hasattr(rows, "__len__") and number >= len(rows):  # a stream ends by itself
                    return
                reading = iter(_plain(rows.skip(number)))
            if (values := next(reading, None)) is None:
                return
            number += 1
            yield RawRow(name, number, values)
    except Exception as error:
        raise DataError(f"{name} breaks after row {number}: {type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    text = (str(error).strip().splitlines() or ["no message."])[0]
    return text if text.endswith((".", "!", "?")) else f"{text}."
