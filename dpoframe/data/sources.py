"""A source of preferences as a person names it on the command line: a file, a folder, a data set on the hub, or a recipe."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpoframe.data import json_rows, table_rows
from dpoframe.data.files import is_pattern, written
from dpoframe.data.inspection import Inspection
from dpoframe.data.loading import Section
from dpoframe.data.opening import open_dataset
from dpoframe.data.quarantine import quarantine_line
from dpoframe.errors import ConfigError, DataError
from dpoframe.modality import Modality
from dpoframe.plugins import PluginHost
from dpoframe.types import PreferencePair, RefusedRow

READERS: Mapping[str, tuple[str, ...]] = {
    "jsonl": json_rows.SUFFIXES,
    "parquet": table_rows.PARQUET_SUFFIXES,
    "csv": table_rows.CSV_SUFFIXES,
}
"""Data set by the ends of file names that it reads."""
HUB = "hub:"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True)
class Source:
    """A data set by name with its keys; `validation` is the held-out source, where there is one, `allow` as in `RowChecks`."""

    name: str
    options: Mapping[str, Any]
    limit: int | None = None
    validation: Source | None = None
    allow: tuple[str, ...] = ()

    @classmethod
    def of_section(cls, section: Section) -> Source:
        """The source of a recipe's data section; what the section allows holds for its validation source as well."""
        given, allow = section.validation, tuple(getattr(section, "allow", None) or ())
        held = None
        if isinstance(given, Mapping):
            options = {key: value for key, value in given.items() if key not in ("name", "limit")}
            held = cls(str(given.get("name")), options, given.get("limit"), allow=allow)
        return cls(section.name, section.options, section.limit, held, allow)

    @classmethod
    def named(cls, name: str, **options: Any) -> Source:
        """The source of a file, a folder or a pattern, read by what the names of its files end in, or of a data set on the hub.

        `hub:<id>` is the hub's always, `owner/name` where no file or folder is there. Options that are None are left out.

        Raises:
            DataError: nothing is there, or no file of a known kind, or several kinds.
        """
        given = {key: value for key, value in options.items() if value is not None}
        if on_hub := _hub_id(name):
            return cls("huggingface", {"path": on_hub, **given})
        return cls(_reader(Path(name).expanduser()), {"path": name, **given})

    @property
    def label(self) -> str:
        """The source in words."""
        return str(self.options.get("path") or f"data set {self.name!r}")

    def rows(self, host: PluginHost) -> Iterator[PreferencePair | RefusedRow]:
        """Its pairs and refused rows."""
        return open_dataset(self.name, self.options, host)


def _hub_id(name: str) -> str:
    """The id of a data set on the hub; empty where `name` is a path."""
    if name.startswith(HUB):
        return name.removeprefix(HUB)
    path = Path(name).expanduser()
    file = name.lower().endswith(tuple(end for ends in READERS.values() for end in ends))
    return name if _HUB_ID.fullmatch(name) and not file and not path.exists() else ""


def _reader(path: Path) -> str:
    if not path.exists() and not is_pattern(path):
        raise DataError(
            f"{path} is neither a file, nor a folder, nor a recipe (looked for from {Path.cwd()}). "
            f"A data set on the hub is named {HUB}OWNER/NAME."
        )
    if path.is_dir():
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            return "huggingface"
        files = [file.name.lower() for file in path.rglob("*") if file.is_file()]
        found = [name for name, ends in READERS.items() if any(file.endswith(ends) for file in files)]
    else:
        found = [name for name, ends in READERS.items() if path.name.lower().endswith(ends)]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{path} holds files for {', '.join(found)}. Name one file, or a folder with one kind.")
    known = ", ".join(end for ends in READERS.values() for end in ends)
    raise DataError(f"{path} is of no known kind. Names end in: {known}.")


def inspect_source(
    source: Source,
    host: PluginHost,
    modality: Modality | None = None,
    limit: int | None = None,
    quarantine: Path | None = None,
    keep: Callable[[Iterable[PreferencePair]], None] | None = None,
) -> Inspection:
    """Checks a source in one pass, holding no row; memory grows by some 30 to 50 bytes a row, for the digests that find repetition.

    Args:
        source: What to read. Where it has a validation source, that is read first, and a row with one of its prompts is
            refused as `leakage`.
        host: Where names are looked up.
        modality: Measures examples, where given.
        limit: Rows to read at most.
        quarantine: Where to write the refused rows, as JSON Lines.
        keep: Takes the rows that pass, such as a writer.

    Raises:
        DataError: the source cannot be read at all.
        ConfigError: the quarantine file would take the place of what is read, or be read the next time.
    """
    if quarantine is not None:
        _require_apart(quarantine, source)
    held: Collection[bytes] = ()
    if source.validation is not None:
        aside = inspect_source(source.validation, host, modality)
        aside.require_some()  # training would refuse to start without a validation pair
        held = aside.prompts
    result = Inspection(source.label, modality, held, source.allow)
    with ExitStack() as stack:
        log = stack.enter_context(stack.enter_context(written(quarantine)).open("w", encoding="ascii")) if quarantine else None
        rows = result.take(source.rows(host), rows=limit, pairs=source.limit)
        passing = _passing(rows, lambda row: log.write(quarantine_line(row)) if log else None)
        if keep is not None:
            keep(passing)
        # What `keep` left unread counts as well.
        for _ in passing:
            pass
    # Rows that were all refused are a result to show; no row at all is most likely a wrong path.
    if not result.rows:
        result.require_some()
    return result


def _require_apart(quarantine: Path, source: Source) -> None:
    """Raises `ConfigError` where the quarantine file is a file of the source, or lies in its folder."""
    place = quarantine.expanduser().resolve()
    given = [one.options.get("path") for one in (source, source.validation) if one is not None]
    paths = [path for one in given if one for path in ([one] if isinstance(one, str | Path) else one)]
    for path in paths:
        read = Path(path).expanduser().resolve()
        if read == place or (read.is_dir() and read in place.parents) or (is_pattern(read) and _fits(place, read)):
            raise ConfigError(f"The refused rows would be written to {quarantine}, but data is read from {path}. Name another.")


def _fits(file: Path, pattern: Path) -> bool:
    """Whether a pattern may mean a file."""
    return fnmatch.fnmatch(str(file), str(pattern)) if "**" in pattern.parts else file.match(str(pattern))


def _passing(rows: Iterable[PreferencePair | RefusedRow], refuse: Callable[[RefusedRow], object]) -> Iterator[PreferencePair]:
    for row in rows:
        if isinstance(row, RefusedRow):
            refuse(row)
        else:
            yield row


def exit_code(result: Inspection) -> int:
    """0: every row can be used and nothing is doubtful; 1: something was found; 2: no row can be used."""
    if not result.used:
        return 2
    return int(bool(result.refused) or any(finding.kind == "finding" for finding in result.findings()))


def parse_columns(items: Iterable[str]) -> dict[str, str] | None:
    """`prompt=question` items as a mapping; None where there are none.

    Raises:
        DataError: an item is not of this form.
    """
    pairs = [item.partition("=") for item in items]
    if bad := [name for name, sign, column in pairs if not (name and sign and column)]:
        raise DataError(f"--columns takes LAYOUT_COLUMN=FILE_COLUMN, such as prompt=question; found {json.dumps(bad)}.")
    return {name: column for name, _, column in pairs} or None
