"""Which answers a report shows: what was gained and lost first, each group capped, long texts cut with a word."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dpoframe.harness.page.pieces import Piece, Pieces
from dpoframe.harness.page.reading import Evaluation, Part
from dpoframe.harness.storage.folder import Row, Score

OPEN, CAP = 6, 60
"""Cards of a group that stand open, and that stand on the page at all."""

SIDES = 6
"""Models whose answers stand side by side."""

Better = Literal["higher", "lower"] | None


@dataclass(frozen=True)
class Mark:
    """What an evaluator said of one answer; `ok` is None where it is no yes or no."""

    evaluator: str
    value: float
    unit: str
    better: Better
    ok: bool | None


@dataclass(frozen=True)
class Side:
    """One model's answer."""

    label: str
    pieces: Sequence[Piece]
    finished: bool
    marks: Sequence[Mark]
    reasons: Sequence[str] = ()


@dataclass(frozen=True)
class Card:
    """One prompt with the answers to it."""

    id: str
    prompt: Sequence[Piece]
    tag: str
    sides: Sequence[Side]


@dataclass(frozen=True)
class Group:
    """Cards that go together.

    Attributes:
        title: What they have in common.
        total: How many there are, shown or not.
        cards: Those shown.
        open: How many of these stand unfolded.
    """

    title: str
    total: int
    cards: Sequence[Card]
    open: int = OPEN


@dataclass
class Answers:
    """The answers of a suite, ready to be shown.

    Attributes:
        part: The suite.
        metric: What the groups go by; empty where no evaluator scored an answer.
        groups: The cards.
        total: Prompts (times samples) answered by all models.
    """

    part: Part
    metric: str = ""
    groups: Sequence[Group] = ()
    total: int = 0
    models: Sequence[str] = field(default_factory=tuple)

    @property
    def pictures(self) -> bool:
        """Whether the answers are pictures, which go into a grid."""
        said = [piece for group in self.groups for card in group.cards for side in card.sides for piece in side.pieces]
        return 2 * sum(bool(piece.picture) for piece in said) > len(said)

    @property
    def left_out(self) -> int:
        """Answers that are not on the page."""
        return self.total - sum(len(group.cards) for group in self.groups)


class Sheet:
    """The rows and scores of the models of one suite, by sample.

    Args:
        part: The suite.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self.shown = part.evaluations[:SIDES]
        self.rows: list[dict[str, Row]] = [{row.id: row for row in one.folder.samples()} for one in self.shown]
        self.scores: list[dict[str, dict[str, Score]]] = [by_evaluator(one.folder.scores()) for one in self.shown]
        self.ids = [sample for sample in self.rows[-1] if all(sample in rows for rows in self.rows)]
        self.evaluator = self._first()

    def value(self, place: int, evaluator: str, sample: str) -> float | None:
        """The first metric of an evaluator on a sample, of the model at `place`."""
        metric = self.shown[place].primary(evaluator)
        scale = self.shown[place].scales.get(metric)
        found = self.scores[place].get(evaluator, {}).get(sample)
        return found.values.get(scale["name"]) if scale is not None and found is not None and found.values else None

    def values(self, sample: str) -> list[float | None]:
        """That of the first evaluator, of every model."""
        return [self.value(place, self.evaluator, sample) for place in range(len(self.shown))]

    def scale(self, evaluator: str) -> Mapping[str, Any]:
        """Bounds, unit and better way of an evaluator's first metric."""
        last = self.shown[-1]
        return last.scales.get(last.primary(evaluator), {})

    def _first(self) -> str:
        """The first evaluator of the suite that scored an answer of each model, or that compared the last one's with others."""
        last = len(self.shown) - 1
        for name in self.part.last.about["order"]:
            needed = [last] if self.compares(name) else range(len(self.shown))
            if all(any(self.value(place, name, sample) is not None for sample in self.ids) for place in needed):
                return str(name)
        return ""

    def compares(self, evaluator: str) -> bool:
        """Whether an evaluator's score is a win against another answer, which of two models only the second one's has."""
        wins = {metric for metric, _ in self.part.last.wins()}
        alone = all(self.value(0, evaluator, sample) is None for sample in self.ids)
        return len(self.shown) == 2 and self.part.last.primary(evaluator) in wins and alone


def answers(part: Part, pieces: Callable[[Evaluation], Pieces]) -> Answers:
    """The answers of a suite in groups.

    Args:
        part: The suite.
        pieces: Makes what is shown of a prompt or response of an evaluation.
    """
    sheet = Sheet(part)
    makers = [pieces(one) for one in sheet.shown]
    groups = [
        Group(title, len(ids), [card(sheet, makers, sample) for sample in ids[:CAP]], opened)
        for title, ids, opened in grouped(sheet)
        if ids
    ]
    metric = sheet.shown[-1].primary(sheet.evaluator) if sheet.evaluator else ""
    return Answers(part, metric, groups, len(sheet.ids), [one.label for one in sheet.shown])


def grouped(sheet: Sheet) -> list[tuple[str, list[str], int]]:
    """(title, samples, how many stand open) of each group."""
    if not sheet.evaluator:
        return [("All", sheet.ids, OPEN)]
    if len(sheet.shown) == 1:
        return alone(sheet)
    if len(sheet.shown) == 2:
        return flips(sheet)
    differing = [sample for sample in sheet.ids if len(set(sheet.values(sample))) > 1]
    rest = [sample for sample in sheet.ids if len(set(sheet.values(sample))) <= 1]
    return [("The models differ", differing, OPEN), ("All the same", rest, 2)]


def flips(sheet: Sheet) -> list[tuple[str, list[str], int]]:
    """Lost, gained, and the rest, by the first evaluator's first metric; the largest change first."""
    better = sheet.scale(sheet.evaluator).get("better")
    won = sheet.compares(sheet.evaluator)
    changes = {sample: change(*sheet.values(sample), won=won) * (-1 if better == "lower" else 1) for sample in sheet.ids}
    lost = sorted((sample for sample in sheet.ids if changes[sample] < 0), key=lambda sample: changes[sample])
    gained = sorted((sample for sample in sheet.ids if changes[sample] > 0), key=lambda sample: -changes[sample])
    same = [sample for sample in sheet.ids if changes[sample] == 0]
    rest = [sample for sample in sheet.ids if math.isnan(changes[sample])]
    up, down, flat = ("Won", "Lost", "Tied") if won else ("Gained", "Lost", "Unchanged")
    if better is None:
        up, down = "Went up", "Went down"
    # Where something moved, that is what to look at; where nothing did, the answers themselves are.
    calm = 2 if lost or gained else OPEN
    return [(up, gained, OPEN), (down, lost, OPEN), (flat, same, calm), ("Not scored", rest, 1)]


def change(before: float | None, after: float | None, *, won: bool) -> float:
    """By how much a score went up, or a win lies above a tie; nan where one is missing."""
    if won:
        before = 0.5
    return after - before if before is not None and after is not None else math.nan


def alone(sheet: Sheet) -> list[tuple[str, list[str], int]]:
    """One model's answers, the worst first."""
    scale = sheet.scale(sheet.evaluator)
    sign = -1.0 if scale.get("better") == "lower" else 1.0
    known = {sample: value for sample in sheet.ids if (value := sheet.value(0, sheet.evaluator, sample)) is not None}
    worst = sorted(known, key=lambda sample: sign * known[sample])
    rest = [sample for sample in sheet.ids if sample not in known]
    if set(known.values()) <= {0.0, 1.0}:
        best = max(0.0, sign)
        missed, met = ([one for one in worst if (known[one] == best) is hit] for hit in (False, True))
        return [("Missed", missed, OPEN), ("Met", met, OPEN), ("Not scored", rest, 1)]
    return [("From the lowest up" if sign > 0 else "From the highest down", worst, OPEN), ("Not scored", rest, 1)]


def card(sheet: Sheet, makers: Sequence[Pieces], sample: str) -> Card:
    """One prompt with every model's answer."""
    sides = [
        Side(
            label=one.label,
            pieces=makers[place].response(sheet.rows[place][sample].response),
            finished=sheet.rows[place][sample].finished,
            marks=marks(sheet, place, sample),
        )
        for place, one in enumerate(sheet.shown)
    ]
    row = sheet.rows[-1][sample]
    return Card(sample, makers[-1].prompt(row.prompt), str(row.meta.get("kind") or row.meta.get("category") or ""), sides)


def marks(sheet: Sheet, place: int, sample: str) -> list[Mark]:
    """What each evaluator said of one answer."""
    found = []
    for name in sheet.part.last.about["order"]:
        value = sheet.value(place, name, sample)
        if value is not None:
            scale = sheet.scale(name)
            yes_or_no = scale.get("unit") == "share" and value in (0.0, 1.0) and scale.get("better") is not None
            ok = (value == 1.0) == (scale["better"] == "higher") if yes_or_no else None
            found.append(Mark(name, value, str(scale.get("unit", "")), scale.get("better"), ok))
    return found


def by_evaluator(scores: Sequence[Score]) -> dict[str, dict[str, Score]]:
    """Scores by evaluator and sample."""
    found: dict[str, dict[str, Score]] = {}
    for one in scores:
        found.setdefault(one.evaluator, {})[one.id] = one
    return found
