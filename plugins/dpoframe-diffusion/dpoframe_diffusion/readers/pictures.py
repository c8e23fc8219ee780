"""From what a row says of a picture (a path, bytes, what Hugging Face makes of them) to a picture that was looked at."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpoframe import MachineError, Media, RawRow, is_inside
from dpoframe_diffusion.framing import same_shape
from dpoframe_diffusion.images import Header, PictureError, check, header, opened_mask
from dpoframe_diffusion.readers.rows import Paths, RowFault

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(//|\w+/)")


@dataclass(frozen=True)
class Pictures:
    """How the pictures of a data set are found and looked at.

    Attributes:
        path: Where the rows are.
        root: Folder that the paths in the rows start from and must not leave; None for the folder of the file with the rows.
        full_check: Whether each picture is read to its end, so that truncated ones are found; else its header alone.
        smallest: Fewest pixels of a side.
        unpack: Folder that pictures given as bytes are written into, once each; None keeps the bytes in memory.
    """

    path: Paths
    root: str | Path | None = None
    full_check: bool = True
    smallest: int = 2
    unpack: str | Path | None = None

    def media(self, row: RawRow, value: Any, what: str, mask: Any = None) -> Media:
        """The picture that `value` gives, with its mask where there is one.

        Args:
            row: The row that holds the value.
            value: A path, bytes, `{"bytes", "path"}` as Hugging Face has it, `{"media", "path", "mask"}` as `dpoframe data build`
                writes it, or a `data:` address that holds the picture itself.
            what: What the messages call it, such as the name of its column.
            mask: The same for its mask; None for none.

        Raises:
            RowFault: it cannot be used; the code says why.
        """
        found, head = self._looked_at(self._found(row, value, what), what)
        if mask is None and isinstance(value, Mapping):
            mask = value.get("mask")
        if mask is None:
            return found
        covering, size = self._looked_at(self._found(row, mask, f"mask of {what}"), f"mask of {what}", smallest=1)
        if not same_shape((size.width, size.height), (head.width, head.height)):
            raise RowFault(
                "wrong-type",
                f"The mask of {what} has {size.width} x {size.height} pixels, the picture {head.width} x {head.height}: "
                "they must be of one shape.",
            )
        if self.full_check:
            _require_light(covering, what)
        return replace(found, mask=covering)

    def _found(self, row: RawRow, value: Any, what: str) -> Media:
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes | bytearray | memoryview):
            return Media("image", data=bytes(value))
        if value is None or value == "":
            raise RowFault("media-missing", f"{what} is empty: there is no picture.")
        if not isinstance(value, str):
            raise RowFault("wrong-type", f"{what} must be a path or bytes of a picture, found {type(value).__name__}.")
        if value.startswith("data:"):
            return Media("image", data=_inline(value, what))
        if _ADDRESS.match(value):
            raise RowFault(
                "media-outside", f"{what} is the address {value[:80]!r}; pictures are not fetched. Download it, and give its path."
            )
        return Media("image", path=self._path(row, value, what))

    def _path(self, row: RawRow, value: str, what: str) -> Path:
        """The file of a path: from the root, beside the rows, or in the folder that is named like the file of the rows."""
        if "\0" in value:
            raise RowFault("control-character", f"{what} is a path with a NUL character.")
        places, bounds = self._places(row)
        if not places:
            raise RowFault("media-outside", f"{what} is the path {value!r}; give `root`, the folder that such paths start from.")
        paths = [Path(os.path.normpath(place / value)) for place in places]
        inside = [path for path in paths if path.is_relative_to(bounds)]
        if not inside:
            raise RowFault(
                "media-outside",
                f"{what} is the path {value!r}, which leaves the folder {bounds}. Give `root`, a folder that holds all pictures.",
            )
        found = next((path for path in inside if path.is_file()), inside[0])
        if not is_inside(found, bounds):
            raise RowFault(
                "media-outside",
                f"{what} is the path {value!r}, a link that leaves the folder {bounds}. If it is meant, name where it leads: "
                "DPOFRAME_MEDIA_ROOTS=FOLDER.",
            )
        return found

    def _places(self, row: RawRow) -> tuple[list[Path], Path]:
        """Folders that a row's paths start from, and the folder that they must not leave."""
        if self.root is not None:
            root = Path(os.path.normpath(Path(self.root).expanduser().absolute()))
            return [root], root
        source = Path(os.path.normpath(Path(row.source).expanduser().absolute()))
        if source.is_dir():
            return [source], source
        if not source.is_file():  # a data set of the hub
            return [], source
        given = Path(os.path.normpath(Path(self.path).expanduser().absolute())) if isinstance(self.path, str | Path) else source
        folder = source.parent
        named_like_it = folder / source.name.split(".")[0]
        return [folder, *([named_like_it] if named_like_it.is_dir() else [])], given if given.is_dir() else folder

    def _looked_at(self, media: Media, what: str, smallest: int | None = None) -> tuple[Media, Header]:
        least = self.smallest if smallest is None else smallest
        try:
            head = check(media) if self.full_check else header(media)
        except PictureError as error:
            hint = " Give `root` if the pictures lie elsewhere." if error.code == "media-missing" and self.root is None else ""
            raise RowFault(error.code, f"{what}: {error}{hint}") from error
        if min(head.width, head.height) < least:
            raise RowFault("media-too-small", f"{what} has {head.width} x {head.height} pixels, fewer than {least} on a side.")
        return (self._unpacked(media, head) if self.unpack is not None and media.data is not None else media), head

    def _unpacked(self, media: Media, head: Header) -> Media:
        """The picture as a file named by its digest, written unless it is there."""
        path = Path(str(self.unpack)).expanduser() / f"{media.digest()}.{head.format.lower()}"
        if not path.is_file():
            with _whole(path) as temporary:
                temporary.write_bytes(media.data or b"")
        return Media("image", path=path)


def _require_light(mask: Media, what: str) -> None:
    """RowFault where a mask is black all over."""
    try:
        black = opened_mask(mask).getbbox() is None
    except PictureError as error:
        raise RowFault(error.code, f"mask of {what}: {error}") from error
    if black:
        raise RowFault("unsuited", f"The mask of {what} is black all over, so that nothing of the picture would count.")


def _inline(address: str, what: str) -> bytes:
    head, comma, body = address.partition(",")
    try:
        if not (comma and head.endswith(";base64")):
            raise ValueError("it is not base64")
        return base64.b64decode(body, validate=True)
    except (ValueError, binascii.Error) as error:
        raise RowFault("media-damaged", f"{what} is a data: address that cannot be read ({error}).") from error


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it at the end: other processes never see half a picture."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise MachineError(
            f"The picture {path} cannot be written: {error.strerror or error}. Give `unpack` another folder, or free some space."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
