"""What a report tells of, read from run folders and from folders of single evaluations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dpoframe.config.document import read_text
from dpoframe.errors import ConfigError, DataError
from dpoframe.harness.comparison.comparable import unfinished
from dpoframe.harness.comparison.compare import Comparison, compare
from dpoframe.harness.comparison.verdicts import verdicts_of
from dpoframe.harness.stats import Interval
from dpoframe.harness.storage.folder import EvalFolder

BASE = "base"
"""Folder inside a run that holds the evaluations of the model before training."""


@dataclass(frozen=True)
class Evaluation:
    """One model on one suite.

    Attributes:
        label: What the page calls the model.
        where: The folder as the page names it: never more than its place inside what was asked for.
        path: The folder.
        about: Its manifest.
        metrics: The figures of results.json by metric.
        late: Why it is no evidence yet; empty where it is.
    """

    label: str
    where: str
    path: Path
    about: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    late: str = ""

    @property
    def folder(self) -> EvalFolder:
        """The reader of its rows."""
        return EvalFolder(self.path)

    @cached_property
    def scales(self) -> Mapping[str, Mapping[str, Any]]:
        """Name, bounds, unit and better way of each metric, in the order of the suite."""
        specs = [self.about["evaluators"][name] for name in self.about["order"]]
        return {metric: scale for spec in specs for metric, scale in spec["metrics"].items()}

    def figure(self, metric: str) -> Interval:
        """A metric's value with its interval; what is not known is nan."""
        found = self.metrics.get(metric, {})
        value, low, high, stderr = (_number(found.get(name)) for name in ("value", "ci_low", "ci_high", "stderr"))
        return Interval(value, low, high, stderr, int(found.get("n") or 0))

    @property
    def own_base(self) -> bool:
        """Whether figures that compare with a base compared the model with itself."""
        compares = any(spec.get("needs") in ("pair", "logratio") for spec in self.about["evaluators"].values())
        return compares and self.about.get("base_digest") == self.about.get("model_digest") is not None

    def wins(self) -> Iterator[tuple[str, Interval]]:
        """The win rates against other answers to the same prompts: a figure that is a comparison already."""
        for name in self.about["order"]:
            spec = self.about["evaluators"][name]
            for metric, scale in spec["metrics"].items():
                share = (scale["low"], scale["high"], scale["better"]) == (0.0, 1.0, "higher")
                if spec.get("needs") == "rival" and share and self.figure(metric).n:
                    yield metric, self.figure(metric)

    def evaluator(self, metric: str) -> str:
        """The evaluator that a metric belongs to."""
        return next(
            (name for name, spec in self.about["evaluators"].items() if metric in spec["metrics"]), metric.partition("/")[0]
        )

    def primary(self, evaluator: str) -> str:
        """The metric of an evaluator that is read first."""
        return str(self.about["evaluators"][evaluator].get("primary") or evaluator)


@dataclass(frozen=True)
class Part:
    """One suite on one or several models.

    Attributes:
        suite: Its name.
        evaluations: One a model; the first is the baseline where there are several.
        comparisons: Each further model against the baseline, in order.
    """

    suite: str
    evaluations: tuple[Evaluation, ...]
    comparisons: tuple[Comparison, ...] = ()

    @property
    def last(self) -> Evaluation:
        """The evaluation that gives the suite's own facts."""
        return self.evaluations[-1]

    @property
    def notes(self) -> list[str]:
        """What a reader should know of the comparisons, each thing once. A win rate is told of without a difference."""
        known = tuple(f"{metric} has no difference" for metric, _ in self.last.wins())
        notes = (note for one in self.comparisons for note in one.notes if not (known and note.startswith(known)))
        return list(dict.fromkeys(notes))


@dataclass(frozen=True)
class Documents:
    """What a run folder says besides its evaluations; everything may be missing."""

    label: str
    recipe: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The recipe as a mapping; empty where it is none."""
        try:
            return read_text(self.recipe, "recipe.yaml", Path()).data
        except ConfigError:
            return {}

    @property
    def empty(self) -> bool:
        """Whether the folder holds none of it."""
        return not (self.recipe or self.environment or self.data or self.rows)


@dataclass(frozen=True)
class Material:
    """All that a page tells: parts by suite, the documents of each run, and suites that not every run has."""

    parts: tuple[Part, ...]
    documents: tuple[Documents, ...]
    left_out: tuple[str, ...] = ()


def read(paths: Sequence[Path]) -> Material:
    """Reads one run (base against aligned where it has both, else its training alone), one evaluation, or several to be compared.

    Raises:
        DataError: A folder holds neither an evaluation nor, alone, a training; the folders share no suite, or their suites
            differ under one name.
    """
    if not paths:
        raise DataError("A report needs at least one run folder or evaluation folder.")
    places = [evaluations_in(path) for path in paths]
    missing = [str(path) for path in paths if not path.is_dir()]
    empty = [str(path) for path, found in zip(paths, places, strict=True) if not found and path.is_dir()]
    if empty and len(paths) == 1 and (trained := documents(paths[0], "")).rows:
        return Material((), (trained,))
    if missing or empty:
        parts = [f"There is no folder {', '.join(missing)} (looked for from {Path.cwd()})."] if missing else []
        if empty:
            parts.append(
                f"{', '.join(empty)} holds no evaluation: no manifest.json of its own, in eval/<suite>/ or in <suite>/. "
                "Make one with `dpoframe eval`, or with a recipe that names suites under `evaluate`."
            )
        raise DataError(" ".join(parts))
    if len(paths) == 1:
        return read_one(paths[0], places[0])
    return read_several(paths, places)


def evaluations_in(path: Path) -> dict[str, Path]:
    """Folders of evaluations by suite: the folder itself, those under eval/, or those right in it (`dpoframe eval --out`).

    One that was broken off counts under eval/: that it is not finished is said when it is read.
    """
    if (path / "manifest.json").is_file():
        return {suite_of(path): path}
    found = [place for place in sorted((path / "eval").glob("*")) if place.is_dir() and (whole(place) or begun(place))]
    found = found or [place for place in sorted(path.glob("*")) if place.name != BASE and whole(place)]
    return {suite_of(place): place for place in found}


def whole(place: Path) -> bool:
    """Whether a folder is an evaluation's."""
    return (place / "manifest.json").is_file()


def begun(place: Path) -> bool:
    """Whether a folder is that of an evaluation which was broken off."""
    return (place / "store").is_dir() or (place / "samples.jsonl").is_file()


def suite_of(place: Path) -> str:
    """The suite of an evaluation, and its limit where it has one: a look at ten prompts is no match for the whole."""
    if not whole(place):
        return place.name
    about = document(place, "manifest.json", "suite", "model", "order", "evaluators", "suite_digest")
    return f"{about['suite']}" + (f"-limit-{about['limit']}" if about.get("limit") is not None else "")


def base_of(path: Path, place: Path) -> Path | None:
    """The base's evaluation beside a run's own; None where there is none."""
    if place == path:
        return None
    base = path / BASE / place.relative_to(path)
    return base if base.is_dir() else None


def read_one(path: Path, places: Mapping[str, Path]) -> Material:
    """One run: each suite against the base's where that was evaluated, else alone."""
    parts = []
    for suite, place in places.items():
        where = place.relative_to(path).as_posix() if place != path else path.resolve().name
        if base := base_of(path, place):
            sides = (evaluation(base, BASE, f"{BASE}/{where}"), evaluation(place, "aligned", where))
            parts.append(Part(suite, sides, (compare(base, place),)))
        else:
            parts.append(Part(suite, (evaluation(place, "", where),)))
    return Material(tuple(parts), tuple(one for one in (documents(path, ""),) if not one.empty))


def read_several(paths: Sequence[Path], places: Sequence[Mapping[str, Path]]) -> Material:
    """Several runs on the suites that all of them have; the first is the baseline."""
    shared = [suite for suite in places[0] if all(suite in found for found in places[1:])]
    labels = labelled(paths)
    if not shared:
        held = "; ".join(f"{label} has {', '.join(found)}" for label, found in zip(labels, places, strict=True))
        raise DataError(f"These runs do not compare, because no suite is in all of them: {held}. Evaluate them on one suite.")
    parts = []
    for suite in shared:
        found = [
            evaluation(place[suite], label, f"{label}/{place[suite].name}") for place, label in zip(places, labels, strict=True)
        ]
        parts.append(Part(suite, tuple(found), tuple(compare(found[0].path, one.path) for one in found[1:])))
    left_out = sorted({suite for found in places for suite in found} - set(shared))
    told = (documents(path, label) for path, label in zip(paths, labels, strict=True))
    return Material(tuple(parts), tuple(one for one in told if not one.empty), tuple(left_out))


def evaluation(path: Path, label: str, where: str) -> Evaluation:
    """One evaluation's manifest and figures; the model's own name is the label where none is given."""
    about = document(path, "manifest.json", "suite", "model", "order", "evaluators", "suite_digest")
    results = document(path, "results.json", "metrics")
    late = unfinished(results, about, verdicts_of(EvalFolder(path), about))
    if about.get("limit") is not None:
        late = f"only the first {about['limit']} prompts and pairs were asked for (--limit)"
    return Evaluation(label or called(str(about["model"])), where, path, about, results["metrics"], late)


def document(path: Path, name: str, *keys: str) -> Mapping[str, Any]:
    """A document of an evaluation that holds these keys; DataError where it does not."""
    found = EvalFolder(path).document(name)
    if missing := [key for key in keys if key not in found]:
        raise DataError(
            f"{path / name} lacks {', '.join(missing)}: it is no document of an evaluation, or an old one. Evaluate again."
        )
    return found


def called(model: str) -> str:
    """A model's name for a heading: of a path only the end."""
    return Path(model).name or model if model[:1] in "/.~" else model


def documents(path: Path, label: str) -> Documents:
    """What else lies in a run folder."""
    recipe = path / "recipe.yaml"
    return Documents(
        label=label,
        recipe=recipe.read_text(encoding="utf-8", errors="replace") if recipe.is_file() else "",
        environment=_json(path / "environment.json"),
        data=_json(path / "data" / "summary.json"),
        rows=_rows(path / "metrics.jsonl"),
    )


def labelled(paths: Sequence[Path]) -> list[str]:
    """A short name for each path: its last parts, as many as it takes to tell them apart."""
    parts = [_telling(path) for path in paths]
    longest = max(map(len, parts))
    for count in range(1, longest + 1):
        names = ["/".join(one[-count:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{'/'.join(one)} ({number})" for number, one in enumerate(parts, 1)]


def _telling(path: Path) -> tuple[str, ...]:
    """The parts of a path that name a run: not the drive, and not the eval/<suite> of an evaluation's own folder."""
    found = path.resolve().parts[1:]
    inside = len(found) > 2 and found[-2] == "eval" and (path / "manifest.json").is_file()
    return (found[:-2] if inside else found) or ("run",)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")


def _json(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _rows(file: Path) -> Sequence[Mapping[str, Any]]:
    if not file.is_file():
        return []
    rows = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows
