"""Tensors on disk by name: one folder of safetensors shards, mapped into memory when they are read."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from dpoframe import MachineError

Entry: TypeAlias = Mapping[str, Tensor]
"""Tensors that are kept under one name."""

_Label: TypeAlias = tuple[int, list[str]]
"""An entry's checksum and the names of its tensors."""

# Shards that stay open. Each takes a map of memory, of which a process may hold only so many.
_OPEN = 64
_DAY = 86400.0
_FRESH = 2 * 10**9

log = logging.getLogger(__name__)


class Shelf:
    """Entries of one folder, each under a name that stands for its content: a name that is there is never written again.

    A shard is written aside, to the disk, and renamed, and never changed, so several processes may read and add at once, and
    be killed at any instant; they find what others have added. A shard that is damaged is removed with a word, and what was
    in it counts as missing.

    Args:
        folder: Where the shards lie; made at the first `put`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shards: dict[str, dict[str, _Label]] = {}
        self._places: dict[str, str] = {}  # the shard of each entry
        self._seen: set[str] = set()
        self._open: OrderedDict[str, Any] = OrderedDict()
        self._scanned = 0
        self._swept = False

    def has(self, keys: Iterable[str]) -> set[str]:
        """Those of `keys` that are on the shelf."""
        wanted = set(keys)
        if not wanted <= self._places.keys():
            self._scan()
        return wanted & self._places.keys()

    def get(self, key: str) -> dict[str, Tensor] | None:
        """The tensors under `key`, which are maps of the file: copy them before changing them. None where it has none."""
        while self.has([key]):
            shard = self._places[key]
            try:
                return self._read(shard, key)
            except _damages() as error:
                self._discard(shard, error)
        return None

    def put(self, entries: Mapping[str, Entry]) -> None:
        """Adds one shard of those entries that are not there yet.

        Raises:
            MachineError: the disk is full, or the folder may not be written.
        """
        there = self.has(entries)
        new = {key: {name: tensor.detach().cpu().contiguous() for name, tensor in entries[key].items()} for key in entries}
        new = {key: entry for key, entry in new.items() if key not in there}
        if not new:
            return
        name = f"shard-{uuid.uuid4().hex}.safetensors"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            self._write(name, new)
        except OSError as error:
            raise MachineError(
                f"Encoded pictures and prompts cannot be kept in {self.folder} ({error.strerror or error}). Make room there, "
                "set DPOFRAME_CACHE to a folder with room that may be written, or set cache: false."
            ) from error
        self._learn(name)

    def _write(self, name: str, entries: Mapping[str, Entry]) -> None:
        from safetensors.torch import save

        flat = {f"{key}/{part}": tensor for key, entry in entries.items() for part, tensor in entry.items()}
        labels = json.dumps({key: [_checksum(entry), list(entry)] for key, entry in entries.items()})
        aside = self.folder / f".{name}.aside"
        try:
            _write_through(aside, save(flat, {"format": "pt", "labels": labels}))
            aside.replace(self.folder / name)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)

    def _scan(self) -> None:
        """Learns of the shards that have come since, where the folder has changed."""
        with contextlib.suppress(OSError):
            changed = self.folder.stat().st_mtime_ns
            if changed == self._scanned:
                return
            # A date is good to some milliseconds: while it is fresh, more may come under the same one.
            self._scanned = changed if abs(time.time_ns() - changed) > _FRESH else 0
            for file in sorted(self.folder.glob("shard-*.safetensors")):
                if file.name not in self._seen:
                    self._learn(file.name)

    def _learn(self, name: str) -> None:
        self._seen.add(name)
        try:
            labels = json.loads(self._opened(name).metadata()["labels"])
            self._shards[name] = {key: (int(check), list(parts)) for key, (check, parts) in labels.items()}
        except _damages() as error:
            self._discard(name, error)
            return
        for key in self._shards[name]:
            self._places.setdefault(key, name)

    def _opened(self, name: str) -> Any:
        """An open shard, of which the ones used last are kept."""
        from safetensors import safe_open

        if name not in self._open:
            self._open[name] = safe_open(self.folder / name, "pt")
            if len(self._open) > _OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(name)
        return self._open[name]

    def _read(self, name: str, key: str) -> dict[str, Tensor]:
        shard = self._opened(name)
        check, parts = self._shards[name][key]
        entry = {part: shard.get_tensor(f"{key}/{part}") for part in parts}
        if _checksum(entry) != check:
            raise ValueError(f"the checksum of {key} is another")
        return entry

    def _discard(self, name: str, error: Exception) -> None:
        """Forgets a shard. Its file is removed where its content is at fault, and not where it cannot be opened."""
        file = self.folder / name
        told = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, OSError):
            log.warning("The cache file %s cannot be read (%s). What was in it is made again.", file, told)
        else:
            log.warning("The cache file %s is damaged (%s). It is removed; what was in it is made again.", file, told)
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
        self._open.pop(name, None)
        self._shards.pop(name, None)
        self._places = {key: shard for key, shard in self._places.items() if shard != name}
        # What another shard holds as well is found again.
        for other, labels in self._shards.items():
            for key in labels:
                self._places.setdefault(key, other)

    def _sweep(self) -> None:
        """Removes what processes left half-written that were killed: a file that has not grown for a day."""
        if self._swept:
            return
        self._swept = True
        for left in self.folder.glob(".shard-*.aside"):
            with contextlib.suppress(OSError):
                if left.stat().st_mtime < time.time() - _DAY:
                    left.unlink()


def _write_through(file: Path, content: bytes) -> None:
    """Writes a file to the disk itself: a power cut after the rename that follows must not leave an empty one under its name."""
    with file.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def _damages() -> tuple[type[Exception], ...]:
    """What is raised on a file that is no whole shard of ours."""
    from safetensors import SafetensorError

    return (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError)


def _checksum(entry: Entry) -> int:
    """CRC-32 of names, types, shapes and bytes. Keeps up with a disk, unlike a cryptographic digest."""
    total = 0
    for name in sorted(entry):
        tensor = entry[name].contiguous()
        total = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, total)
    return total
