"""Human Preference Dataset v2: pairs with a choice (train), and rankings of nine pictures (test)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from dpoframe import RawRow, read_rows
from dpoframe_diffusion.readers.pictures import Pictures
from dpoframe_diffusion.readers.ranking import ranked_pairs
from dpoframe_diffusion.readers.rows import Pairs, RowFault, caption, first_of, pairs_of


def hpd(
    path: str | Path | list[str | Path],
    root: str | Path | None = None,
    split: str | None = None,
    pairs: Literal["all", "best-worst"] = "all",
    full_check: bool = True,
    smallest: int = 2,
    unpack: str | Path | None = None,
    streaming: bool = False,
    revision: str | None = None,
) -> Pairs:
    """Preferences in the layout of HPD v2 (Wu et al. 2023, arXiv:2306.09341).

    A row has `prompt`, the pictures (`file_path`, `image_path`, or on the hub `image`), and either `human_preference` (1 for the
    preferred picture, 0 for the other) or `rank` (one a picture, the best has the lowest).

    Args:
        path: `train.json` or `test.json`, their folder (then give `split`), or an id on the Hugging Face hub.
        root: Folder that the pictures' names start from. Without it they are looked for beside the file, and in the folder that
            is named like it (`train/`).
        split: `train` or `test`, where `path` is a folder or on the hub.
        pairs: Of a ranking `all` pairs of unequal rank, or `best-worst`: the best against the worst.
        full_check: Whether each picture is read to its end, so that truncated ones are refused; else its header alone.
        smallest: Fewest pixels of a side.
        unpack: Folder to write pictures into that come as bytes, once each; without it they are held in memory.
        streaming: Read from the hub row by row, keeping nothing on disk.
        revision: A commit, branch or tag of the hub's repository.

    Raises:
        DataError: nothing is there, or it is laid out otherwise.
    """
    pictures = Pictures(path, root, full_check, smallest, unpack)

    def make(row: RawRow) -> Pairs:
        values = row.values
        prompt, shown = caption(values, "prompt"), first_of(values, "image", "file_path", "image_path")
        yield from ranked_pairs(row, prompt, shown, _ranks(values), pictures, pairs, {"user": values.get("user_hash")})

    rows = read_rows(path, split, streaming=streaming, revision=revision)
    needs = [("prompt",), ("image", "file_path", "image_path"), ("human_preference", "rank")]
    return pairs_of(rows, needs, "HPD v2", make)


def _ranks(values: Any) -> Any:
    """The best picture has the lowest; on the hub a row has both columns, one of them empty."""
    choice = values.get("human_preference")
    if not choice:
        return values.get("rank")
    if not isinstance(choice, list) or set(choice) - {0, 1}:
        raise RowFault("wrong-type", f"human_preference must be a list of 0 and 1, found {str(choice)[:80]}.")
    return [1 - number for number in choice]
