"""ImageRewardDB: rankings of pictures by experts, a row a ranking or a row a picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from dpoframe import RawRow, RefusedRow, read_rows
from dpoframe_diffusion.readers.pictures import Pictures
from dpoframe_diffusion.readers.ranking import ranked_pairs
from dpoframe_diffusion.readers.rows import Pairs, caption, first_of, pair, pairs_of

_PICTURES = ("generations", "image", "image_path", "img_better")
_RANKS = ("ranking", "rank", "img_worse")


def image_reward(
    path: str | Path | list[str | Path],
    root: str | Path | None = None,
    split: str | None = None,
    pairs: Literal["all", "best-worst"] = "all",
    full_check: bool = True,
    smallest: int = 2,
    unpack: str | Path | None = None,
    subset: str | None = None,
    streaming: bool = False,
    revision: str | None = None,
) -> Pairs:
    """Preferences in the layouts of ImageReward (Xu et al. 2023, arXiv:2304.05977), told row by row.

    Three are known: `prompt`, `generations` and `ranking` (lists; the best has the lowest rank); a row a picture with `prompt_id`,
    `prompt`, `image` or `image_path`, and `rank`, which are put together by `prompt_id`; and `prompt`, `img_better`, `img_worse`.

    Args:
        path: A file, a folder, or an id on the Hugging Face hub.
        root: Folder that the pictures' names start from. Without it they are looked for beside the file, and in the folder that
            is named like it.
        split: The split of a folder or of the hub.
        pairs: Of a ranking `all` pairs of unequal rank, or `best-worst`: the best against the worst.
        full_check: Whether each picture is read to its end, so that truncated ones are refused; else its header alone.
        smallest: Fewest pixels of a side.
        unpack: Folder to write pictures into that come as bytes, once each; without it they are held in memory.
        subset: The data set's configuration on the hub, such as `4k` or `4k_pair`.
        streaming: Read from the hub row by row, keeping nothing on disk.
        revision: A commit, branch or tag of the hub's repository.

    Raises:
        DataError: nothing is there, or it is laid out otherwise; rows with `text` and `image` alone (for ReFL) hold no preference.
    """
    pictures = Pictures(path, root, full_check, smallest, unpack)

    def make(row: RawRow) -> Pairs:
        values = row.values
        prompt, name = caption(values, "prompt"), values.get("prompt_id") or values.get("id")
        if values.get("img_better") is not None or values.get("img_worse") is not None:
            media = [pictures.media(row, values.get(column), column) for column in ("img_better", "img_worse")]
            yield pair(row, prompt, media, {"prompt_id": name})
            return
        yield from ranked_pairs(row, prompt, values.get("generations"), values.get("ranking"), pictures, pairs, {"prompt_id": name})

    rows = read_rows(path, split, subset=subset, streaming=streaming, revision=revision)
    needs = [("prompt",), _PICTURES, _RANKS]
    return pairs_of(_rankings(rows), needs, "ImageReward's preferences", make)


def _rankings(rows: Iterable[RawRow | RefusedRow]) -> Iterator[RawRow | RefusedRow]:
    """The rows, those of one picture put together to a ranking: as soon as it is whole, else at the end."""
    open_ones: dict[Any, list[RawRow]] = {}
    for row in rows:
        if isinstance(row, RefusedRow) or not _is_picture(row):
            yield row
            continue
        key = first_of(row.values, "prompt_id", "prompt")
        group = open_ones.setdefault(key, [])
        group.append(row)
        if len(group) == row.values.get("image_amount_in_total"):
            yield _ranking(open_ones.pop(key))
    for group in open_ones.values():
        yield _ranking(group)


def _is_picture(row: RawRow) -> bool:
    shown, rank = first_of(row.values, "image", "image_path"), row.values.get("rank")
    return shown is not None and not isinstance(shown, list) and rank is not None and not isinstance(rank, list)


def _ranking(group: list[RawRow]) -> RawRow:
    """One row of a ranking, numbered as its first picture's."""
    first = group[0]
    lists = {
        "generations": [first_of(row.values, "image", "image_path") for row in group],
        "ranking": [row.values["rank"] for row in group],
    }
    kept = {name: value for name, value in first.values.items() if name not in ("image", "image_path", "rank")}
    return RawRow(first.source, first.row, {**kept, **lists})
