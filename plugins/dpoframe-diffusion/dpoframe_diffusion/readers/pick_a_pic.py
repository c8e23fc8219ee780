"""Pick-a-Pic: two pictures as bytes, and which of them a person took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpoframe import RawRow, read_rows
from dpoframe_diffusion.readers.pictures import Pictures
from dpoframe_diffusion.readers.rows import Pairs, RowFault, caption, pair, pairs_of


def pick_a_pic(
    path: str | Path | list[str | Path],
    split: str | None = None,
    full_check: bool = True,
    smallest: int = 2,
    unpack: str | Path | None = None,
    streaming: bool = False,
    revision: str | None = None,
) -> Pairs:
    """Preferences in the layout of Pick-a-Pic v1 and v2 (Kirstain et al. 2023, arXiv:2305.01569).

    A row has `caption`, `jpg_0`, `jpg_1` and `label_0`: 1 where the first picture was preferred, 0 where the second was, 0.5 for
    a tie, which is refused as `tie`.

    Args:
        path: Its Parquet files, their folder, or its id on the Hugging Face hub.
        split: The split of a folder (`train-00000-of-00645.parquet`, ...) or of the hub.
        full_check: Whether each picture is read to its end, so that truncated ones are refused; else its header alone.
        smallest: Fewest pixels of a side.
        unpack: Folder to write the pictures into, once each; without it training holds all bytes in memory.
        streaming: Read from the hub row by row, keeping nothing on disk.
        revision: A commit, branch or tag of the hub's repository.

    Raises:
        DataError: nothing is there, or it is laid out otherwise (such as the copy without pictures).
    """
    pictures = Pictures(path, full_check=full_check, smallest=smallest, unpack=unpack)

    def make(row: RawRow) -> Pairs:
        values = row.values
        first = _first_is_better(values.get("label_0"), values.get("label_1"), values.get("has_label"))
        prompt = caption(values, "caption")
        chosen, rejected = ("0", "1") if first else ("1", "0")
        media = [pictures.media(row, values.get(f"jpg_{side}"), f"jpg_{side}") for side in (chosen, rejected)]
        models = {f"{what}_source": values.get(f"model_{side}") for what, side in (("chosen", chosen), ("rejected", rejected))}
        yield pair(row, prompt, media, {"ranking_id": values.get("ranking_id"), **models})

    rows = read_rows(path, split, streaming=streaming, revision=revision)
    needs = [(name,) for name in ("caption", "jpg_0", "jpg_1", "label_0")]
    return pairs_of(rows, needs, "Pick-a-Pic with its pictures", make)


def _first_is_better(first: Any, second: Any, labelled: Any) -> bool:
    """Whether the first picture is the preferred one."""
    if labelled is False:
        raise RowFault("tie", "has_label is false: nobody chose between the two pictures.")
    if isinstance(first, bool) or first not in (0, 0.5, 1):
        raise RowFault("wrong-type", f"label_0 must be 0, 0.5 or 1, found {first!r}.")
    if first == 0.5:
        raise RowFault("tie", "label_0 is 0.5: neither picture was preferred.")
    if second is not None and second != 1 - first:
        raise RowFault("wrong-type", f"label_0 is {first:g} and label_1 {second!r}: they must add up to 1.")
    return bool(first == 1)
