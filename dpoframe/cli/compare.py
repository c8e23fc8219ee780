"""`dpoframe compare`: two models on the same suites, and whether a gate lets the second one out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from dpoframe.cli import output
from dpoframe.config.secrets import scrubbed
from dpoframe.errors import ConfigError, DpoframeError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dpoframe.harness.comparison.compare import Comparison
    from dpoframe.harness.comparison.difference import Difference
    from dpoframe.harness.gates.judging import Judgement
    from dpoframe.harness.stats import Interval

COULD_NOT_RUN = 3
LISTED = 10


class CouldNotCompareError(DpoframeError):
    """There is no verdict, for a reason that is no mistake of the user's."""

    exit_code = COULD_NOT_RUN


class Comparing(TyperCommand):
    """The verb with 3 for a wrong command line, where other verbs have 2: here 2 says that the evidence does not suffice."""

    def make_context(self, *words: Any, **settings: Any) -> Any:
        """Parses the command line."""
        try:
            return super().make_context(*words, **settings)
        except Exception as error:
            if not hasattr(error, "format_message"):
                raise
            raise CouldNotCompareError(f"{error.format_message()}\nSee: dpoframe compare --help") from error


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("compare", cls=Comparing)(compare)


def compare(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="The base: a run folder, or the folder of one evaluation.")],
    run_b: Annotated[
        Path | None,
        typer.Argument(metavar="RUN_B", help="The other model. Left out: RUN_A against the base it was trained from."),
    ] = None,
    gate: Annotated[Path | None, typer.Option("--gate", metavar="FILE", help="What must hold, in YAML.")] = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write the gate's rows as JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write tables and verdict as Markdown.")
    ] = None,
) -> None:
    """Compares two models prompt by prompt. With a gate: exit 0 pass, 1 fail, 2 inconclusive; 3 could not run."""
    with _told(junit, markdown, gate):
        found = _found(run_a, run_b, gate, junit)
        _write(found, junit, markdown)
    output.emit(document(found), shown(found))
    raise typer.Exit(found.judgement.exit_code if found.judgement is not None else 0)


@dataclass(frozen=True)
class Found:
    """What came out: comparisons, suites that only one run has, and the gate's verdict where one was given."""

    comparisons: tuple[Comparison, ...]
    left_out: tuple[str, ...]
    judgement: Judgement | None


def _found(run_a: Path, run_b: Path | None, gate: Path | None, junit: Path | None) -> Found:
    from dpoframe.harness.comparison.matching import compare_runs
    from dpoframe.harness.gates import judge, load_gate

    if junit is not None and gate is None:
        raise ConfigError("--junit writes a gate's rows, and there is no gate. Give --gate FILE.")
    rules = load_gate(gate) if gate is not None else None
    comparisons, left_out = compare_runs(run_a, run_b)
    return Found(comparisons, left_out, judge(rules, comparisons) if rules is not None else None)


def _write(found: Found, junit: Path | None, markdown: Path | None) -> None:
    from dpoframe.harness.gates.junit import junit as as_junit
    from dpoframe.harness.gates.markdown import markdown as as_markdown

    if junit is not None and found.judgement is not None:
        _put(junit, as_junit(found.judgement))
    if markdown is not None:
        _put(markdown, as_markdown(found.comparisons, found.judgement))


@contextlib.contextmanager
def _told(junit: Path | None, markdown: Path | None, gate: Path | None) -> Iterator[None]:
    """Context in which whatever goes wrong ends with 3, and stands in the files that CI reads."""
    from dpoframe.cli import failures

    try:
        yield
    except Exception as error:
        told = failures.describe(error)
        _write_failure(junit, markdown, gate, told.message)
        if not isinstance(error, DpoframeError):
            raise CouldNotCompareError(told.message) from error
        error.exit_code = COULD_NOT_RUN
        raise


def _write_failure(junit: Path | None, markdown: Path | None, gate: Path | None, message: str) -> None:
    from dpoframe.harness.gates.junit import junit_of_failure
    from dpoframe.harness.gates.markdown import markdown_of_failure

    message = scrubbed(message)
    # What cannot be written now is not worth a second error.
    with contextlib.suppress(DpoframeError, OSError):
        if junit is not None:
            _put(junit, junit_of_failure(str(gate or "gate"), message))
    with contextlib.suppress(DpoframeError, OSError):
        if markdown is not None:
            _put(markdown, markdown_of_failure(message))


def _put(path: Path, text: str) -> None:
    from dpoframe.data.files import written

    with written(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def document(found: Found) -> dict[str, Any]:
    """The result as plain values, for --json."""
    judgement = found.judgement
    return {
        "comparisons": [_compared(one) for one in found.comparisons],
        "left_out": found.left_out,
        "gate": None if judgement is None else _gate(judgement),
        "verdict": None if judgement is None else judgement.verdict,
        "exit_code": 0 if judgement is None else judgement.exit_code,
    }


def _compared(one: Comparison) -> dict[str, Any]:
    keys = ("model", "model_digest", "digest")
    return {
        "suite": one.suite,
        "name": one.name,
        "suite_version": one.after["suite_version"],
        "before": {key: one.before.get(key) for key in keys},
        "after": {key: one.after.get(key) for key in keys},
        "limit": one.after.get("limit"),
        "differences": [_difference(row) for row in one.differences],
        "notes": one.notes,
    }


def _difference(one: Difference) -> dict[str, Any]:
    plain = ("metric", "unit", "better", "primary", "aggregate", "verdict", "p_value", "p_holm", "detectable", "unscored")
    intervals = {name: _figures(getattr(one, name)) for name in ("before", "after", "difference")}
    flips = {name: getattr(one, name) for name in ("gained", "lost", "gained_ids", "lost_ids")}
    return {**{name: getattr(one, name) for name in plain}, **intervals, **flips}


def _gate(judgement: Judgement) -> dict[str, Any]:
    plain = ("suite", "metric", "direction", "margin", "demand", "verdict", "reason", "n", "unscored", "detectable", "needed")
    rows = [
        {
            **{name: getattr(row, name) for name in plain},
            "difference": _figures(row.difference),
            "figure": _figures(row.figure),
            "p_value": row.p_value,
            "p_holm": row.p_holm,
            "lost_ids": row.lost,
        }
        for row in judgement.rows
    ]
    return {"file": judgement.gate, "holm": judgement.holm, "verdict": judgement.verdict, "rows": rows}


def _figures(one: Interval | None) -> dict[str, float] | None:
    if one is None:
        return None
    return {"value": one.value, "ci_low": one.low, "ci_high": one.high, "stderr": one.stderr, "n": one.n}


def shown(found: Found) -> RenderableType:
    """The result for a person: a table a suite, what to know of it, and the gate's rows."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = []
    for one in found.comparisons:
        models = f"{one.name}: {one.before['model']} (before) against {one.after['model']} (after)"
        parts += [Text(output.escaped(models), style="bold"), table(one.differences)]
        parts += [Text(output.escaped(f"{note}\n"), style="yellow") for note in one.notes]
    if found.left_out:
        parts.append(Text(output.escaped(f"Only one of the two has: {', '.join(found.left_out)}.\n"), style="yellow"))
    return Group(*parts, *(_verdict(found.judgement) if found.judgement is not None else ()))


def table(differences: Sequence[Difference]) -> RenderableType:
    """Every metric before and after, the paired difference, and what can be said of it."""
    from dpoframe.harness.gates.markdown import p_value
    from dpoframe.harness.page.charts import number, signed

    def cell(one: Interval, unit: str, show: Any) -> str:
        return f"{show(one.value, unit)} [{show(one.low, unit)}, {show(one.high, unit)}]"

    rows = [
        (
            f"{one.metric} ({one.unit})" if one.unit else one.metric,
            cell(one.before, one.unit, number),
            cell(one.after, one.unit, number),
            cell(one.difference, one.unit, signed),
            p_value(one.p_value) + (f" (Holm {p_value(one.p_holm)})" if one.p_holm is not None else ""),
            number(one.detectable, one.unit),
            "" if one.gained is None else f"+{one.gained} \u2212{one.lost}",
            one.unscored,
            one.verdict,
        )
        for one in differences
    ]
    names = ["metric", "before", "after", "difference [95 %]", "p", "detects", "flips", "unscored", "verdict"]
    return output.table(names, rows)


def _verdict(judgement: Judgement) -> Iterator[Any]:
    """A row's demand on one line and the reason under it: reasons are sentences, and CI logs have no columns."""
    from rich.text import Text

    styles = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow"}
    for row in judgement.rows:
        head = Text(f"{row.verdict:<12} ", style=f"bold {styles[row.verdict]}")
        yield head + Text(output.escaped(f"{row.suite} {row.metric}: {row.demand} (n = {row.n})"), style="not bold")
        yield Text(output.escaped(f"    {row.reason}"))
        if row.verdict == "FAIL" and row.lost:
            more = f" and {len(row.lost) - LISTED} more" if len(row.lost) > LISTED else ""
            yield Text(output.escaped(f"    Lost: {', '.join(row.lost[:LISTED])}{more}."))
    yield Text(f"Gate: {judgement.verdict}", style=f"bold {styles[judgement.verdict]}")
