"""Reference scores on disk: a table of scores, one folder for each digest of everything that made them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from dpoframe.checkpoint.durable import ASIDE, durable, reason, sync_folder
from dpoframe.digests import tensors_digest
from dpoframe.errors import CheckpointError, MachineError, TrainingError
from dpoframe.modality import Modality
from dpoframe.train.adapters import starting_state
from dpoframe.types import Scores

STALE = 3600.0
"""Seconds after which a part that is still aside was given up: writing one takes seconds."""


def cache_folder() -> Path:
    """Where reference scores are kept: `DPOFRAME_CACHE`, else the user's cache folder. All run folders share it."""
    base = os.environ.get("DPOFRAME_CACHE") or platformdirs.user_cache_dir("dpoframe")
    return Path(base) / "reference"


def weights_digest(model: nn.Module) -> str:
    """Digest of the tensors that decide a model's scores before it is trained: names, types and bytes."""
    return tensors_digest(starting_state(model))


def store_digest(modality: Modality, model: nn.Module, details: Collection[str], precision: str) -> str:
    """Digest of what makes a score besides the example itself, which each row's name stands for.

    That is the weights, the modality's fingerprint, the precision and which details are recorded; nothing else: not the
    loss's settings, not the run folder, not adapters that do nothing yet.
    """
    made = {
        "weights": weights_digest(model),
        "modality": type(modality).__qualname__,
        "fingerprint": modality.fingerprint(),
        "details": sorted(details),
        "precision": precision,
    }
    return hashlib.blake2b(json.dumps(made, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def _part(file: Path) -> pa.Table:
    """One part of a store; CheckpointError where it is damaged, MachineError where it may not be read."""
    try:
        data, digest = file.read_bytes(), file.stem.removeprefix("part-")
        # A part of an earlier version has a name that says nothing.
        if len(digest) == 64 and hashlib.sha256(data).hexdigest() != digest:
            raise ValueError("its SHA-256 is not the one in its name")
        table = pq.read_table(pa.BufferReader(data))
        if lost := {"key", "value", "length"}.difference(table.column_names):
            raise ValueError(f"it has no column {', '.join(sorted(lost))}")
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # not one of Arrow's own
            raise MachineError(f"The cached scores in {file} cannot be read ({reason(error)}).") from error
        told = str(error).splitlines()[0]
        raise CheckpointError(f"The cached scores in {file} are damaged ({told}). Remove the file; they are made again.") from error
    return table


class ScoreStore:
    """The scores of one folder.

    Parts are added as whole files, named by their digests; each is written aside, flushed and renamed, so readers see no half.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, int] = {}
        self.scores = Scores(torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.int64))

    def read(self) -> ScoreStore:
        """Loads every part, and removes what broken-off writes left."""
        self._sweep()
        files = sorted(self.folder.glob("part-*.parquet"))
        if files:
            table = pa.concat_tables([_part(file) for file in files])
            names = [name for name in table.column_names if name not in ("key", "value", "length")]
            columns = {name: torch.from_numpy(table[name].to_numpy().copy()) for name in ("value", "length", *names)}
            self.rows = {key: row for row, key in enumerate(table["key"].to_pylist())}
            self.scores = Scores(columns["value"], columns["length"], {name: columns[name] for name in names})
        return self

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Those of `keys` that are not in the store."""
        return [key for key in keys if key not in self.rows]

    def lookup(self, keys: Sequence[str]) -> Scores:
        """Scores of the named examples, in that order."""
        if lost := self.missing(keys):
            raise TrainingError(
                f"The cached reference in {self.folder} lacks {len(lost)} of {len(keys)} scores of this batch. "
                "The data set or the modality's measure() is not deterministic; take reference kind 'copy' or 'adapter'."
            )
        rows = torch.tensor([self.rows[key] for key in keys])
        detail = {name: column[rows] for name, column in self.scores.detail.items()}
        return Scores(self.scores.value[rows], self.scores.length[rows], detail)

    def append(self, scored: Mapping[str, Mapping[str, float]]) -> None:
        """Adds one part: name of each example to its columns (`value`, `length`, details)."""
        if not scored:
            return
        rows: list[dict[str, Any]] = [{"key": key, **columns} for key, columns in scored.items()]
        written = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows), written)
        data = written.getvalue().to_pybytes()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            sync_folder(self.folder.parent)
            with durable(self.folder / f"part-{hashlib.sha256(data).hexdigest()}.parquet") as file:
                file.write(data)
        except (OSError, MachineError) as error:
            told = error.__cause__ or error
            raise MachineError(
                f"Reference scores cannot be written to {self.folder}: {told}. Set DPOFRAME_CACHE to a folder with room."
            ) from error

    def _sweep(self) -> None:
        """Removes parts that were set aside long ago. By their age: the process that writes one may be of another machine."""
        for left in (*self.folder.glob(f".part-*{ASIDE}"), *self.folder.glob("part-*.tmp")):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > STALE:
                    left.unlink()
