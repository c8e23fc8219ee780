"""From a recipe's data section to the pairs of a run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from dpoframe.data.codes import CODES
from dpoframe.data.files import written
from dpoframe.data.inspection import Inspection, plain
from dpoframe.data.opening import open_dataset
from dpoframe.data.quarantine import write_quarantine
from dpoframe.data.splitting import split_by_prompt
from dpoframe.data.windowed_pairs import WindowedPairs, read_windowed
from dpoframe.errors import ConfigError, DataError
from dpoframe.modality import Modality
from dpoframe.plugins import PluginHost
from dpoframe.types import PreferencePair, RefusedRow

SUMMARY = Path("data", "summary.json")


class Section(Protocol):
    """What a recipe says of its data: see `load_pairs`."""

    @property
    def name(self) -> str:
        """Name of the data set."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Its keys."""

    @property
    def validation(self) -> float | Mapping[str, Any] | None:
        """A share, a number of pairs, or a source of its own."""

    @property
    def limit(self) -> int | None:
        """Pairs to use at most."""


@dataclass(frozen=True)
class LoadedPairs:
    """The pairs of a run. Every row read is in exactly one of `train`, `validation` and `refused`.

    Attributes:
        train: Pairs to train on, in the order of the source.
        validation: Pairs to validate on; no prompt of theirs is in `train`.
        refused: Rows that are not used.
        summary: Counts, findings and first refused rows, as plain values: the content of summary.json.
    """

    train: list[PreferencePair]
    validation: list[PreferencePair]
    refused: list[RefusedRow]
    summary: Mapping[str, Any]

    @property
    def count(self) -> int:
        """Training pairs."""
        return len(self.train)

    @property
    def known(self) -> int:
        """Training pairs read so far: all."""
        return len(self.train)

    def conclude(self, run: Path) -> None:
        """Called when the run ends; everything is written already."""

    @property
    def rows(self) -> int:
        """Rows read: used and refused."""
        return len(self.train) + len(self.validation) + len(self.refused)

    @property
    def counts(self) -> Mapping[str, int]:
        """`rows`, `train`, `validation`, `quarantined`, and the refused rows of each code."""
        head = {"rows": self.rows, "train": len(self.train), "validation": len(self.validation), "quarantined": len(self.refused)}
        return {**head, **self.summary["by_code"]}

    @property
    def warnings(self) -> list[str]:
        """What a person should know before training: findings, and how many rows are refused; empty for a clean set."""
        told = [f"{one['message']} {CODES[one['code']].fix}" for one in self.summary["findings"] if one["kind"] == "finding"]
        if not self.refused:
            return told
        codes = ", ".join(f"{code} {count:,}" for code, count in self.summary["by_code"].items())
        return [f"{len(self.refused):,} of {self.rows:,} rows are refused ({codes}); see data/quarantine.jsonl.", *told]

    def require_same(self, run: Path, allowed: bool = False) -> list[str]:
        """Raises `DataError` where the run in the folder `run` began with other pairs, or the same in another order.

        The digests in its summary.json say so; a folder that has none is not checked. Where it is `allowed`, how the sources
        differ is returned.
        """
        changes = [_change(then, now) for then, now in zip(_sources(run), self.summary["sources"], strict=False)]
        changed = [change for change in changes if change]
        if changed and not allowed:
            told = "\n".join(f"  - {change}" for change in changed)
            raise DataError(
                f"The preference data is not what the run in {run} began with, so it cannot go on:\n{told}\n"
                "Put the data back as it was, start a new run with another --out, or go on with --allow-change data."
            )
        return changed

    def write(self, run: Path) -> None:
        """Writes `run`/data/quarantine.jsonl and `run`/data/summary.json, each whole or not at all."""
        write_quarantine(self.refused, run / "data" / "quarantine.jsonl")
        with written(run / SUMMARY) as file:
            file.write_text(json.dumps(self.summary, indent=2, ensure_ascii=True) + "\n", encoding="utf-8")


def _sources(run: Path) -> list[dict[str, Any]]:
    """What a run folder says of the sources its run began with; nothing where it cannot be read."""
    try:
        found: list[dict[str, Any]] = json.loads((run / SUMMARY).read_text(encoding="utf-8"))["sources"]
        return found if all({"digest", "used"} <= one.keys() for one in found) else []
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []


def _change(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How a source differs from what it was, in words; empty where its pairs are the same."""
    if then["digest"] == now["digest"]:
        return ""
    if then["used"] != now["used"]:
        return f"{now['source']} had {then['used']:,} usable pairs, and has {now['used']:,} now."
    return f"{now['source']} has {now['used']:,} usable pairs as before, but not the same ones, or in another order."


def load_pairs(
    section: Section, host: PluginHost, modality: Modality | None = None, *, seed: int = 0, allow: Iterable[str] = ()
) -> LoadedPairs | WindowedPairs:
    """Reads, checks and splits the preference pairs of a recipe: all of them into memory, or window by window.

    Args:
        section: `name` and `options` of the data set; reading ends after `limit` usable pairs; `validation` is a share of the pairs
            (float below 1), a number of pairs (int), or a mapping with the `name` and keys of a data set of its own; `window`
            is the number of pairs in memory at a time, None for all.
        host: Where names are looked up.
        modality: Measures examples, so that responses which are the same once cut are refused.
        seed: Decides the validation split.
        allow: Codes that refuse no row, see `RowChecks`; a section's own `allow` is added.

    Raises:
        DataError: no row can be used; the message counts the refused rows by code and shows the first of each.
        ConfigError: an option is wrong.
    """
    codes = frozenset(allow) | frozenset(getattr(section, "allow", None) or ())
    label = _label(section.name, section.options)
    _require_limit(section.limit)
    held = _held_out(section.validation, host, modality, codes)
    wanted = 0.0 if section.validation is None else section.validation
    if (window := getattr(section, "window", None)) is not None:
        rows = partial(_behind, section.name, section.options, host)
        checks = partial(Inspection, label, modality, allow=codes)
        aside = (held.checks, held.pairs, held.refused) if held else _whole(wanted)
        return read_windowed(label, window, section.limit, rows, checks, aside)
    checked = Inspection(label, modality, held.checks.prompts if held else (), codes)
    read = Pass.over(checked, open_dataset(section.name, section.options, host), section.limit)
    if held is not None:
        return _joined(read, held, read.pairs, held.pairs)
    return _joined(read, None, *split_by_prompt(read.pairs, _number(wanted), seed))


def _behind(name: str, options: Mapping[str, Any], host: PluginHost, ahead: int) -> Iterator[PreferencePair | RefusedRow]:
    return open_dataset(name, options, host, ahead=ahead)


def _require_limit(limit: int | None) -> None:
    if limit is not None and limit <= 0:
        raise ConfigError(f"data.limit must be a positive number of pairs, found {limit!r}.")


def _whole(wanted: Any) -> int:
    """The number of pairs held out of a source whose size is not known."""
    number = _number(wanted)
    if number != int(number):
        raise ConfigError(
            f"data.validation is the share {number}, but with data.window the number of pairs is not known before training. Give a "
            "number of pairs, which are taken from the beginning, or a data set of its own."
        )
    return int(number)


@dataclass(frozen=True)
class Pass:
    """One source, read to its end."""

    checks: Inspection
    pairs: list[PreferencePair]
    refused: list[RefusedRow]

    @classmethod
    def over(cls, checks: Inspection, rows: Iterable[PreferencePair | RefusedRow], limit: int | None) -> Pass:
        """Reads `rows` until `limit` of them are used; DataError where none can be."""
        _require_limit(limit)
        pairs: list[PreferencePair] = []
        refused: list[RefusedRow] = []
        for row in checks.take(rows, pairs=limit):
            if isinstance(row, RefusedRow):
                refused.append(row)
            else:
                pairs.append(row)
        checks.require_some()
        return cls(checks, pairs, refused)


def _held_out(validation: Any, host: PluginHost, modality: Modality | None, allow: frozenset[str]) -> Pass | None:
    """The validation set, where it has a source of its own. It is read first: it stays whole, the training set gives way."""
    if not isinstance(validation, Mapping):
        return None
    options = dict(validation)
    name = options.pop("name", None)
    limit = options.pop("limit", None)
    if not isinstance(name, str):
        raise ConfigError("data.validation names no data set. Write such as `validation: {name: jsonl, path: held_out.jsonl}`.")
    checks = Inspection(f"validation {_label(name, options)}", modality, allow=allow)
    return Pass.over(checks, open_dataset(name, options, host, "data.validation"), limit)


def _label(name: str, options: Mapping[str, Any]) -> str:
    path = options.get("path")
    return f"data set {name!r} ({path})" if path else f"data set {name!r}"


def _number(wanted: Any) -> float:
    if isinstance(wanted, bool) or not isinstance(wanted, int | float):
        raise ConfigError(f"data.validation must be a share, a number of pairs, or a data set of its own, found {wanted!r}.")
    return wanted


def _joined(read: Pass, held: Pass | None, train: list[PreferencePair], validation: list[PreferencePair]) -> LoadedPairs:
    passes = [read, held] if held else [read]
    refused = [row for one in passes for row in one.refused]
    by_code: Counter[str] = sum((one.checks.by_code for one in passes), Counter())
    summary = {
        "rows": sum(one.checks.rows for one in passes),
        "train": len(train),
        "validation": len(validation),
        "quarantined": len(refused),
        "by_code": dict(by_code.most_common()),
        "findings": [plain(finding) for finding in read.checks.findings()],
        "sources": [one.checks.summary() for one in passes],
    }
    return LoadedPairs(train, validation, refused, summary)
