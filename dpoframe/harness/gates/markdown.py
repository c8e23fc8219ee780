"""Comparisons and a gate's verdict as Markdown, for the summary page of a CI job or a comment on a change."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from dpoframe.harness.comparison.compare import Comparison
from dpoframe.harness.comparison.difference import Difference
from dpoframe.harness.gates.judging import Judged, Judgement
from dpoframe.harness.page.charts import number, signed
from dpoframe.harness.stats import Interval

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~@&-])")
_SIGNS = {"PASS": "✅", "FAIL": "❌", "INCONCLUSIVE": "❔"}
LISTED = 10


def markdown(comparisons: Sequence[Comparison], judgement: Judgement | None = None) -> str:
    """The verdict, its rows, and every suite's table. Whatever a file or a model says is escaped."""
    lines = [] if judgement is None else list(_gate(judgement))
    for one in comparisons:
        lines += _comparison(one)
    return "\n".join(lines).strip() + "\n"


def markdown_of_failure(message: str) -> str:
    """That nothing could be judged, and why."""
    return "\n".join(["## Comparison could not run", "", *(f"- {plain(line)}" for line in message.split("\n") if line.strip()), ""])


def plain(text: str) -> str:
    """`text` so that Markdown shows it as it is, on one line, with control characters written out."""
    spaced = " ".join(text.split(" ")).replace("\n", " ").replace("\t", " ").replace("\r", " ")
    told = _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), spaced)
    return _SPECIAL.sub(r"\\\1", told)


def p_value(value: float | None) -> str:
    """A p value with as many digits as it deserves."""
    if value is None or not math.isfinite(value):
        return "?"
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _gate(judgement: Judgement) -> Iterator[str]:
    rows = judgement.rows
    counts = ", ".join(f"{count} {name}" for name in _SIGNS if (count := sum(row.verdict == name for row in rows)))
    yield from (f"## Gate: {_SIGNS[judgement.verdict]} {judgement.verdict}", "")
    yield from (
        f"{counts}. File: {plain(judgement.gate)}." + (" All rows are counted together (Holm)." if judgement.holm else ""),
        "",
    )
    yield "| | suite | metric | demand | measured | n | why |"
    yield "|---|---|---|---|---|---:|---|"
    for row in rows:
        cells = (f"{_SIGNS[row.verdict]} {row.verdict}", plain(row.suite), plain(row.metric), plain(row.demand), _measured(row))
        yield f"| {' | '.join(cells)} | {row.n} | {plain(row.reason)} |"
    yield ""
    for row in rows:
        if row.verdict == "FAIL" and row.lost:
            more = f" and {len(row.lost) - LISTED} more" if len(row.lost) > LISTED else ""
            yield from (f"Lost on {plain(row.metric)}: {', '.join(map(plain, row.lost[:LISTED]))}{more}.", "")


def _measured(row: Judged) -> str:
    shown = [_interval(row.difference, "", signed)] if row.difference is not None else []
    shown += [_interval(row.figure, "", number)] if row.figure is not None else []
    return "; ".join(shown) or f"{row.unscored} unscored"


def _comparison(comparison: Comparison) -> Iterator[str]:
    yield from (f"### {plain(comparison.name)}", "")
    yield from (f"{plain(str(comparison.before['model']))} against {plain(str(comparison.after['model']))}. 95 % intervals.", "")
    yield "| metric | unit | before | after | difference | p | p, Holm | detectable | unscored | |"
    yield "|---|---|---|---|---|---|---|---|---:|---|"
    yield from map(_row, comparison.differences)
    yield ""
    yield from (f"- {plain(note)}" for note in comparison.notes)
    yield ""


def _row(one: Difference) -> str:
    cells = [
        plain(one.metric),
        plain(one.unit),
        _interval(one.before, one.unit, number),
        _interval(one.after, one.unit, number),
        _interval(one.difference, one.unit, signed),
        p_value(one.p_value),
        p_value(one.p_holm) if one.p_holm is not None else "",
        number(one.detectable, one.unit),
        str(one.unscored),
        one.verdict,
    ]
    return f"| {' | '.join(cells)} |"


def _interval(one: Interval, unit: str, show: object) -> str:
    shown = show if callable(show) else number
    return f"{shown(one.value, unit)} \\[{shown(one.low, unit)}, {shown(one.high, unit)}\\]"
