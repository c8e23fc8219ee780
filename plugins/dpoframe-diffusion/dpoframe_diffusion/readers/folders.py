"""Two folders of pictures that go by the same names, and their captions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dpoframe import DataError, RawRow, RefusedRow, read_rows
from dpoframe_diffusion.readers.pictures import Pictures
from dpoframe_diffusion.readers.rows import Pairs, RowFault, caption, first_of, pair

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".jp2")
"""Ends of names that are pictures; other files are passed over."""

_FILE_COLUMNS = ("file_name", "file", "image", "name", "path")
_CAPTION_COLUMNS = ("caption", "prompt", "text")
_CAPTION_FILES = tuple(
    f"{name}{end}" for name in ("captions", "metadata") for end in (".jsonl", ".json", ".csv", ".tsv", ".parquet")
)


def image_folders(
    path: str | Path,
    chosen: str = "chosen",
    rejected: str = "rejected",
    masks: str = "masks",
    captions: str = "auto",
    full_check: bool = True,
    smallest: int = 2,
) -> Pairs:
    """Preferences as two folders: `chosen/cat.png` was preferred over `rejected/cat.png` (the ends of the names may differ).

    Pairs come in the order of their names. A picture without a partner is refused.

    Args:
        path: The folder that holds the two.
        chosen: Name of the folder of preferred pictures.
        rejected: Name of the folder of the others.
        masks: Name of a folder of grey pictures of the same names, white where the preference counts; it need not be there.
        captions: `files`: `cat.txt` beside one of the pictures, or in `path` or its folder `captions/`. `name`: the picture's
            name, its lines and underscores read as spaces, without the number at its end. A file in `path`: rows with `file_name`
            and `caption`, or one JSON object of name to caption. `auto`: a file called `captions` or `metadata` (.jsonl, .json,
            .csv, .parquet), else text files, else the name.
        full_check: Whether each picture is read to its end, so that truncated ones are refused; else its header alone.
        smallest: Fewest pixels of a side.

    Raises:
        DataError: a folder is not there or holds no picture, or the captions cannot be read.
    """
    root = Path(path).expanduser()
    sides = {name: _pictures(root, name) for name in (chosen, rejected)}
    covers = _pictures(root, masks) if (root / masks).is_dir() else {}
    told = _Captions(root, captions, [chosen, rejected])
    return _pairs(root, sides, covers, told, Pictures(root, root, full_check, smallest))


def _pairs(
    root: Path, sides: Mapping[str, Mapping[str, Path]], covers: Mapping[str, Path], told: _Captions, pictures: Pictures
) -> Pairs:
    better, worse = sides.values()
    for number, name in enumerate(sorted({*better, *worse}), start=1):
        row = RawRow(str(root), number, {})
        try:
            if missing := [side for side, files in sides.items() if name not in files]:
                raise RowFault(
                    "media-missing", f"{missing[0]}/{name} is not there, its partner is. Names must be the same on both sides."
                )
            cover = str(covers[name].relative_to(root)) if name in covers else None
            media = [
                pictures.media(row, str(files[name].relative_to(root)), f"{side}/{name}", cover) for side, files in sides.items()
            ]
            yield pair(row, told.of(name), media, {"name": name})
        except RowFault as fault:
            yield row.refuse(fault.code, fault.reason)


def _pictures(root: Path, side: str) -> dict[str, Path]:
    """The pictures of a folder by their place in it, without the end of the name."""
    folder = root / side
    if not folder.is_dir():
        there = ", ".join(sorted(item.name for item in root.iterdir())[:8]) if root.is_dir() else ""
        raise DataError(f"{folder} is not a folder. {f'{root} holds: {there}.' if there else f'{root} is not there or empty.'}")
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in SUFFIXES and file.is_file():
            name = file.relative_to(folder).with_suffix("").as_posix()
            if name in found:
                raise DataError(f"{found[name]} and {file} go by one name: {name}. Keep one of them.")
            found[name] = file
    if not found:
        raise DataError(f"{folder} holds no picture. Names end in {', '.join(SUFFIXES)}.")
    return found


class _Captions:
    """Where the captions of pictures are, found out once."""

    def __init__(self, root: Path, kind: str, sides: list[str]) -> None:
        self._places = [root / side for side in sides] + [root, root / "captions"]
        self._rows: dict[str, Any] = {}
        listed = next((root / name for name in _CAPTION_FILES if (root / name).is_file()), None) if kind == "auto" else root / kind
        self._kind = kind
        if kind == "auto":
            texts = any(next(place.glob("**/*.txt"), None) for place in self._places if place.is_dir())
            self._kind = "rows" if listed else "files" if texts else "name"
        elif kind not in ("files", "name"):
            self._kind = "rows"
        if self._kind == "rows" and listed is not None:
            self._rows = _listed(listed)

    def of(self, name: str) -> str:
        """The caption of a picture.

        Raises:
            RowFault: there is none, or it cannot be read.
        """
        if self._kind == "name":
            return _from_name(name)
        if self._kind == "rows":
            value = self._rows.get(name, self._rows.get(Path(name).name))
            return caption({"caption": value.strip() if isinstance(value, str) else value}, "caption")
        file = next((place / f"{name}.txt" for place in self._places if (place / f"{name}.txt").is_file()), None)
        if file is None:
            raise RowFault("prompt-missing", f"There is no {name}.txt beside one of the pictures.")
        return caption({"text": file.read_bytes()}, "text").strip()


def _from_name(name: str) -> str:
    words = re.sub(r"[\s_-]*\d*$", "", re.sub(r"[_-]+", " ", Path(name).name)).strip()
    if not words:
        raise RowFault(
            "prompt-missing", f"The name {name!r} holds no words, and there is neither a text file nor a file of captions."
        )
    return words


def _listed(file: Path) -> dict[str, Any]:
    """Captions by the picture's name, without its end and the folder of its side."""
    found: dict[str, Any] = {}
    for row in read_rows(file):
        if isinstance(row, RefusedRow):
            raise DataError(f"The captions in {file} cannot be read, at row {row.row}: {row.reason}")
        found.update(_entries(row, file))
    return found


def _entries(row: RawRow, file: Path) -> Iterator[tuple[str, Any]]:
    name = first_of(row.values, *_FILE_COLUMNS)
    if isinstance(name, str) and any(column in row.values for column in _CAPTION_COLUMNS):
        yield _plain(name), first_of(row.values, *_CAPTION_COLUMNS)
    elif row.values and all(isinstance(value, str) for value in row.values.values()) and file.suffix == ".json":
        yield from ((_plain(key), value) for key, value in row.values.items())
    else:
        raise DataError(
            f"Row {row.row} of {file} has the columns {', '.join(row.values)}; "
            f"needed are one of {', '.join(_FILE_COLUMNS)} and one of {', '.join(_CAPTION_COLUMNS)}."
        )


def _plain(name: str) -> str:
    path = Path(name)
    return (path.with_suffix("") if path.suffix.lower() in SUFFIXES else path).as_posix()
