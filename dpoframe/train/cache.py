"""Reference scores on disk: a table of scores, one folder for each digest of everything that made them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from dpoframe.digests import tensors_digest
from dpoframe.errors import CheckpointError, MachineError, TrainingError
from dpoframe.modality import Modality
from dpoframe.train.adapters import starting_state
from dpoframe.types import Scores


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
    """One part of a store; CheckpointError where it is damaged."""
    try:
        return pq.read_table(file)
    except pa.ArrowInvalid as error:
        told = str(error).splitlines()[0]
        raise CheckpointError(f"The cached scores in {file} are damaged ({told}). Remove the file; they are made again.") from error


class ScoreStore:
    """The scores of one folder. Parts are added as whole files, each written aside and renamed, so readers see no half."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, int] = {}
        self.scores = Scores(torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.int64))

    def read(self) -> ScoreStore:
        """Loads every part."""
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
        target = self.folder / f"part-{uuid.uuid4().hex}.parquet"
        aside = target.with_suffix(".tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows), aside)
            aside.replace(target)
        except OSError as error:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise MachineError(
                f"Reference scores cannot be written to {self.folder}: {error}. Set DPOFRAME_CACHE to a folder with room."
            ) from error
