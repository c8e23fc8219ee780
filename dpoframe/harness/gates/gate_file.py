"""A release gate: what must hold of the aligned model for it to go out, written in YAML and read strictly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import yaml

from dpoframe.config.document import LARGEST, Document, StrictLoader, read_text
from dpoframe.config.filling import fill
from dpoframe.errors import ConfigError, Fault

Direction: TypeAlias = Literal["higher", "lower"]
_FORBID: dict[str, Any] = {"extra": "forbid"}
_EXAMPLE = "For example: gate: [{suite: chat, metric: directness, margin: 0.02}]"


@dataclass(frozen=True)
class GateRow:
    """What must hold of one metric; its fields are the keys of a row.

    Attributes:
        suite: The suite's name.
        metric: The metric's id, as `dpoframe compare` prints it.
        direction: Which way is better; the metric's own where it has one.
        margin: How much worse the aligned model may be. The interval of the paired difference decides.
        superiority: It must be better: by more than `margin`, or at all.
        at_least: The aligned model's own figure must be no lower, with its whole interval.
        at_most: Or no higher.
        max_unscored: More unscored samples than this fail: a count, or below 1 a share of the samples.
        min_n: With fewer prompts than this the row is inconclusive.
    """

    suite: str
    metric: str
    direction: Direction | None = None
    margin: float | None = None
    superiority: bool = False
    at_least: float | None = None
    at_most: float | None = None
    max_unscored: int | float | None = None
    min_n: int | None = None

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    @property
    def compares(self) -> bool:
        """Whether the row asks for a difference."""
        return self.margin is not None or self.superiority

    @property
    def threshold(self) -> float:
        """The difference, counted so that higher is better, that the interval must lie above."""
        margin = self.margin or 0.0
        return margin if self.superiority else 0.0 - margin

    @property
    def demand(self) -> str:
        """What the row asks for, in words."""
        said = []
        if self.compares and self.threshold > 0:
            said.append(f"better by more than {self.threshold:g}")
        elif self.compares:
            said.append(f"not worse by {-self.threshold:g} or more" if self.threshold < 0 else "better")
        said += [f"at least {self.at_least:g}"] if self.at_least is not None else []
        said += [f"at most {self.at_most:g}"] if self.at_most is not None else []
        said += [f"at most {self.max_unscored:g} unscored"] if self.max_unscored is not None else []
        said += [f"at least {self.min_n} prompts"] if self.min_n is not None else []
        return ", ".join(said)


@dataclass(frozen=True)
class Gate:
    """A gate file.

    Attributes:
        rows: What must hold; all of it.
        holm: Whether verdicts count all rows together (Holm), so that none is a matter of having asked often.
        name: The file.
        places: Where each row stands, for messages.
    """

    rows: tuple[GateRow, ...]
    holm: bool = False
    name: str = "the gate"
    places: tuple[str, ...] = ()

    def where(self, number: int) -> str:
        """The place of a row in the file."""
        return self.places[number] if number < len(self.places) else f"gate.{number}"


@dataclass(frozen=True)
class _Keys:
    """The keys of a gate file."""

    gate: list[dict[str, Any]]
    holm: bool = False
    description: str = ""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID


@dataclass
class _Reading:
    document: Document
    faults: list[Fault] = field(default_factory=list)

    def rows(self, given: list[dict[str, Any]]) -> list[GateRow]:
        """Every row that can be made; what is wrong with the others, and with the values of these, is noted."""
        made = []
        for number, one in enumerate(given):
            row, faults = fill(GateRow, one, ("gate", number), self.document)
            self.faults += faults
            if row is not None:
                made.append(row)
                self.faults += (Fault(self.document.where(("gate", number, key)), told, fix) for key, told, fix in _wrong(row))
        return made


def load_gate(path: str | Path) -> Gate:
    """Reads a gate file.

    Raises:
        ConfigError: With every fault found, each with its line: unknown keys with the nearest known one, values that
            cannot be, rows that demand nothing.
    """
    file = Path(path)
    reading = _Reading(_document(file))
    keys, reading.faults = fill(_Keys, reading.document.data, (), reading.document)
    given = keys.gate if keys is not None else reading.document.data.get("gate")
    listed = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    if keys is not None and not listed:
        reading.faults.append(Fault(reading.document.where(("gate",)), "holds no rows.", _EXAMPLE))
    rows = reading.rows(listed)
    if reading.faults:
        raise ConfigError(f"The gate {file} cannot be used:", reading.faults)
    places = tuple(reading.document.where(("gate", number)) for number in range(len(rows)))
    return Gate(tuple(rows), keys.holm, str(file), places)


def _document(file: Path) -> Document:
    try:
        if file.stat().st_size > LARGEST:
            raise ConfigError(f"{file} has more than {LARGEST // 1024} KiB, too much for a gate. Is it the right file?")
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"The gate {file} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(f"There is no gate file {file} (looked for from {Path.cwd()}).") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{file} is a folder; a gate is a YAML file.") from error
    try:
        shape = yaml.compose(text, Loader=StrictLoader)
    except (yaml.YAMLError, RecursionError):
        shape = yaml.MappingNode("", [])  # what is wrong with it is said below
    if not isinstance(shape, yaml.MappingNode):
        raise ConfigError(f"The gate {file} must hold a key `gate` with a list of rows. {_EXAMPLE}")
    return read_text(text, str(file), file.resolve().parent)


def _wrong(row: GateRow) -> Iterator[tuple[str, str, str]]:
    """(key, what is wrong, what to do) of the values of a row."""
    for key in ("margin", "at_least", "at_most", "max_unscored"):
        number = getattr(row, key)
        if number is not None and not math.isfinite(number):
            yield key, f"is {number}, but should be a finite number.", ""
    if row.margin is not None and row.margin < 0:
        yield "margin", f"is {row.margin:g}, but should be 0 or more.", "To demand an improvement say `superiority: true`."
    if row.at_least is not None and row.at_most is not None and row.at_least > row.at_most:
        yield "at_least", f"is {row.at_least:g}, above at_most, which is {row.at_most:g}.", "Nothing can be both."
    if row.max_unscored is not None and (row.max_unscored < 0 or (row.max_unscored > 1 and row.max_unscored % 1)):
        yield "max_unscored", f"is {row.max_unscored:g}, but should be a whole number, or a share below 1.", ""
    if row.min_n is not None and row.min_n < 1:
        yield "min_n", f"is {row.min_n}, but should be 1 or more.", ""
    if not row.compares and row.at_least is None and row.at_most is None and row.max_unscored is None:
        yield (
            "metric",
            f"{row.metric!r} has no demand.",
            "Give `margin`, `superiority: true`, `at_least`, `at_most` or `max_unscored`.",
        )
