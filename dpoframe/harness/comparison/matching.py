"""Which evaluations of two runs belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dpoframe.errors import DataError
from dpoframe.harness.comparison.compare import Comparison, compare
from dpoframe.harness.page.reading import BASE, evaluations_in


@dataclass(frozen=True)
class Match:
    """The suites that two runs share, with both folders of each, and those that only one of them has."""

    shared: dict[str, tuple[Path, Path]]
    left_out: tuple[str, ...]


def compare_runs(before: Path, after: Path | None = None) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """Compares all suites that two runs have; returns the comparisons and the suites that only one of them has.

    Args:
        before: A run folder, or the folder of one evaluation.
        after: The same of the other model. None compares a run with its own base: `before`/base against `before`.

    Raises:
        DataError: A folder is missing or holds no evaluation, no suite is in both, an evaluation is unfinished, or two of
            one name do not compare.
    """
    if after is None:
        _evaluations(before)  # says what is wrong with the run itself
        if not (before / BASE).is_dir():
            raise DataError(f"{before} holds no {BASE}/, the evaluations before training. Give two runs to compare.")
        before, after = before / BASE, before
    found = match(before, after)
    comparisons = tuple(compare(*places) for places in found.shared.values())
    for one in comparisons:
        require_finished(one)
    return comparisons, found.left_out


def require_finished(comparison: Comparison) -> None:
    """Raises DataError where one side is no finished evaluation."""
    if comparison.unfinished:
        raise DataError(
            f"The suite {comparison.suite} is not finished: {comparison.unfinished}. "
            "Run `dpoframe eval` again with the same arguments: it goes on where it stood."
        )


def match(before: Path, after: Path) -> Match:
    """Pairs the evaluations of two folders by the name of their suite, and its limit where it has one."""
    mine, other = _evaluations(before), _evaluations(after)
    shared = {suite: (mine[suite], other[suite]) for suite in mine if suite in other}
    if not shared:
        raise DataError(
            f"{before} and {after} share no suite: {before} has {', '.join(mine)}; {after} has {', '.join(other)}. "
            "Evaluate both models on the same suite, with the same --limit or without."
        )
    return Match(shared, tuple(sorted(set(mine) ^ set(other))))


def _evaluations(path: Path) -> dict[str, Path]:
    """The evaluations in a folder by suite."""
    if not path.is_dir():
        raise DataError(f"There is no folder {path} (looked for from {Path.cwd()}). Give a run folder or an evaluation's folder.")
    if not (found := evaluations_in(path)):
        raise DataError(
            f"{path} holds no evaluation: no manifest.json of its own, in eval/<suite>/ or in <suite>/. Make one with "
            "`dpoframe eval`, or with a recipe that names suites under `evaluate`."
        )
    return found
