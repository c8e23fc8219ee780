"""Rows with named columns: a caption, two pictures, and masks where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpoframe import ConfigError, Fault, RawRow, read_rows
from dpoframe_diffusion.readers.pictures import Pictures
from dpoframe_diffusion.readers.rows import Pairs, caption, pair, pairs_of, short, weight_of

_COLUMNS = ("prompt", "chosen", "rejected", "mask", "chosen_mask", "rejected_mask")


def image_rows(
    path: str | Path | list[str | Path],
    columns: Mapping[str, str] | None = None,
    root: str | Path | None = None,
    split: str | None = None,
    full_check: bool = True,
    smallest: int = 2,
    unpack: str | Path | None = None,
    subset: str | None = None,
    streaming: bool = False,
    revision: str | None = None,
) -> Pairs:
    """Preferences in JSON Lines, JSON, CSV, Parquet or a data set of Hugging Face, a row a pair.

    A row has `prompt`, `chosen` and `rejected`: paths, or bytes where the format has them. It may have `mask` (for both pictures),
    or `chosen_mask` and `rejected_mask`: grey pictures, white where the preference counts. `weight` multiplies the
    pair's loss, other short columns go to its `meta`.

    Args:
        path: A file, a list of files, a folder, or an id on the Hugging Face hub.
        columns: This data set's column name to the file's own, such as `{prompt: caption, chosen: good_image}`.
        root: Folder that paths start from and must not leave; that of the file without it.
        split: The split of a folder or of the hub.
        full_check: Whether each picture is read to its end, so that truncated ones are refused; else its header alone.
        smallest: Fewest pixels of a side.
        unpack: Folder to write pictures into that come as bytes, once each; without it they are held in memory.
        subset: The data set's configuration on the hub.
        streaming: Read from the hub row by row, keeping nothing on disk.
        revision: A commit, branch or tag of the hub's repository.

    Raises:
        ConfigError: `columns` names a column that there is not.
        DataError: nothing is there, or a column is not.
    """
    names = {name: name for name in _COLUMNS} | dict(columns or {})
    if unknown := sorted(set(names) - set(_COLUMNS)):
        faults = [
            Fault(f"data.columns.{name}", "there is no such column.", f"Known are {', '.join(_COLUMNS)}.") for name in unknown
        ]
        raise ConfigError("The columns of the data set 'image_rows' are wrong:", faults)
    pictures = Pictures(path, root, full_check, smallest, unpack)

    def make(row: RawRow) -> Pairs:
        values = row.values
        prompt = caption(values, names["prompt"])
        media = [
            pictures.media(row, values.get(names[side]), names[side], _mask(values, names, side)) for side in ("chosen", "rejected")
        ]
        rest = short(values, [*names.values(), "weight"])
        yield pair(row, prompt, media, rest, weight_of(values))

    rows = read_rows(path, split, subset=subset, streaming=streaming, revision=revision)
    needs = [(names[name],) for name in ("prompt", "chosen", "rejected", *(columns or {}))]
    return pairs_of(
        rows, needs, "rows of a caption and two pictures", make, "Map them with `columns`, such as `columns: {prompt: caption}`."
    )


def _mask(values: Mapping[str, Any], names: Mapping[str, str], side: str) -> Any:
    own = values.get(names[f"{side}_mask"])
    return own if own is not None else values.get(names["mask"])
