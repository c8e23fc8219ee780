"""Small SVG drawings for the report. Colours come from the page's CSS classes, so they follow light, dark and print."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from dpoframe.harness.compare import Difference
from dpoframe.harness.stats import Interval

BAR = (220, 30)
FOREST = (360, 28)
CURVE = (320, 150)
_LEFT, _BOTTOM, _TOP, _RIGHT = 44, 20, 8, 8


def number(value: float | None, unit: str = "") -> str:
    """A figure for a reader: shares and ratios with two digits after the point, others with three that count."""
    if value is None or not math.isfinite(value):
        return "?"
    if unit in ("share", "ratio"):
        text = f"{value:.2f}"
    elif abs(value) >= 1000:
        text = f"{value:,.0f}"
    elif abs(value) >= 100:
        text = f"{value:.0f}"
    elif abs(value) >= 10:
        text = f"{value:.1f}"
    else:
        text = f"{value:.2f}"
    return text.replace("-", "\u2212") if float(text.replace(",", "")) else text.replace("-", "")


def signed(value: float | None, unit: str = "") -> str:
    """`number` with a plus sign where it is positive."""
    text = number(value, unit)
    return f"+{text}" if value is not None and math.isfinite(value) and value > 0 and text.strip("0.") else text


def interval_bars(difference: Difference, scale: Mapping[str, float | None]) -> Markup:
    """Base above, aligned below, each a dot with its interval, on one axis."""
    both = (difference.before, difference.after)
    low, high = _axis([edge for one in both for edge in (one.low, one.value, one.high)], scale.get("low"), scale.get("high"))
    width, height = BAR

    def x(value: float) -> float:
        return 5 + (width - 10) * (value - low) / (high - low)

    rows = [
        f'<line class="axis" x1="5" x2="{width - 5}" y1="{height / 2}" y2="{height / 2}"/>',
        *(_whisker(one, x, y, kind) for one, y, kind in zip(both, (8, height - 8), ("base", "aligned"), strict=True)),
    ]
    label = f"base {number(both[0].value)}, aligned {number(both[1].value)}"
    return _svg(width, height, "bars", label, rows)


def forest_row(difference: Difference, reach: float) -> Markup:
    """One row of the forest plot: the paired difference with its interval on an axis from -reach to reach."""
    width, height = FOREST
    one, middle = difference.difference, height / 2

    def x(value: float) -> float:
        return width / 2 + (width / 2 - 8) * max(-1.0, min(1.0, value / reach))

    kind = {"better": "good", "worse": "bad", "changed": "plain"}.get(difference.verdict, "none")
    rows = [
        f'<line class="axis" x1="8" x2="{width - 8}" y1="{middle}" y2="{middle}"/>',
        f'<line class="zero" x1="{width / 2}" x2="{width / 2}" y1="2" y2="{height - 2}"/>',
        _whisker(one, x, middle, kind),
    ]
    return _svg(width, height, "forest", f"{difference.metric} {signed(one.value)}", rows)


def reach(differences: Sequence[Difference]) -> float:
    """Half width of an axis that holds the intervals of all these differences."""
    edges = [abs(edge) for one in differences for edge in (one.difference.low, one.difference.high, one.difference.value)]
    return 1.08 * max([edge for edge in edges if math.isfinite(edge)] or [1.0]) or 1.0


def curve(lines: Mapping[str, Sequence[tuple[float, float]]]) -> Markup:
    """Lines over steps, each `(step, value)`; the class of the n-th line is `line-n`."""
    points = [point for line in lines.values() for point in line if math.isfinite(point[1])]
    if not points:
        return Markup("")
    width, height = CURVE
    first, last = min(step for step, _ in points), max(step for step, _ in points)
    low, high = _axis([value for _, value in points], None, None)

    def place(step: float, value: float) -> str:
        across = _LEFT + (width - _LEFT - _RIGHT) * ((step - first) / (last - first) if last > first else 0.5)
        return f"{across:.1f},{_TOP + (height - _TOP - _BOTTOM) * (high - value) / (high - low):.1f}"

    rows = _grid(low, high, first, last)
    for number_of_line, line in enumerate(lines.values()):
        path = " ".join(place(step, value) for step, value in line if math.isfinite(value))
        rows.append(f'<polyline class="line line-{number_of_line}" points="{path}"/>')
        end = next((place(*point) for point in reversed(line) if math.isfinite(point[1])), "0,0").split(",")
        rows.append(f'<circle class="end line-{number_of_line}" cx="{end[0]}" cy="{end[1]}" r="2.6"/>')
    return _svg(width, height, "curve", ", ".join(lines), rows)


def _whisker(one: Interval, x: object, y: float, kind: str) -> str:
    place = x
    assert callable(place)
    dot = f'<circle class="dot {kind}" cx="{place(one.value):.1f}" cy="{y}" r="4"/>'
    if not (math.isfinite(one.low) and math.isfinite(one.high)):
        return dot
    return f'<line class="whisker {kind}" x1="{place(one.low):.1f}" x2="{place(one.high):.1f}" y1="{y}" y2="{y}"/>{dot}'


def _axis(values: Sequence[float], low: float | None, high: float | None) -> tuple[float, float]:
    """Ends of an axis: the scale's own where it is bounded on both sides, else what holds the values, with a margin."""
    if low is not None and high is not None:
        return low, high
    known = [value for value in values if math.isfinite(value)] or [0.0]
    start, end = min(known), max(known)
    margin = 0.08 * (end - start) or 0.5
    return start - margin, end + margin


def _grid(low: float, high: float, first: float, last: float) -> list[str]:
    width, height = CURVE
    rows = []
    for value in _ticks(low, high):
        y = _TOP + (height - _TOP - _BOTTOM) * (high - value) / (high - low)
        rows.append(f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        rows.append(f'<text class="tick" x="{_LEFT - 5}" y="{y + 3:.1f}" text-anchor="end">{_tick(value)}</text>')
    rows.append(f'<text class="tick" x="{_LEFT}" y="{height - 5}">{first:g}</text>')
    rows.append(f'<text class="tick" x="{width - _RIGHT}" y="{height - 5}" text-anchor="end">{last:g}</text>')
    return rows


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round values between the ends."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [count * step for count in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _tick(value: float) -> str:
    return f"{value:g}".replace("-", "\u2212") if abs(value) > 1e-12 else "0"


def _svg(width: float, height: float, kind: str, label: str, rows: Sequence[str]) -> Markup:
    head = f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
    return Markup(head + "".join(rows) + "</svg>")
