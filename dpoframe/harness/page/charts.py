"""Small SVG drawings for the report. Colours come from the page's CSS classes, so they follow light, dark and print."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup, escape

from dpoframe.harness.comparison.compare import Difference
from dpoframe.harness.stats import Interval

BAR_WIDTH, BAR_ROW = 220, 15
FOREST = (400, 42)
CURVE = (320, 150)
POINTS = 240
"""Points of a curve; longer series are thinned to the ends, lows and highs of as many stretches."""

_LEFT, _BOTTOM, _TOP, _RIGHT = 44, 20, 8, 8
_INSET = 10

Line = Sequence[tuple[float, float]]
Place = Callable[[float], float]


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
    elif abs(value) >= 0.1 or value == 0:
        text = f"{value:.2f}"
    else:
        text = f"{value:.2g}"
    return text.replace("-", "\u2212") if float(text.replace(",", "")) else text.replace("-", "")


def signed(value: float | None, unit: str = "") -> str:
    """`number` with a plus sign where it is positive."""
    text = number(value, unit)
    return f"+{text}" if value is not None and math.isfinite(value) and value > 0 and text.strip("0.") else text


def interval_bars(intervals: Sequence[Interval], labels: Sequence[str], scale: Mapping[str, float | None]) -> Markup:
    """One dot with its interval a model, one below the other, on one axis; the first is the baseline's where there are several."""
    edges = [edge for one in intervals for edge in (one.low, one.value, one.high)]
    low, high = _axis(edges, scale.get("low"), scale.get("high"))
    width, height = BAR_WIDTH, BAR_ROW * max(2, len(intervals))

    def x(value: float) -> float:
        return 5 + (width - 10) * max(0.0, min(1.0, (value - low) / (high - low)))

    step = height / len(intervals)
    rows = [f'<line class="axis" x1="5" x2="{width - 5}" y1="{height / 2:g}" y2="{height / 2:g}"/>']
    for place, one in enumerate(intervals):
        kind = "base" if place == 0 and len(intervals) > 1 else "aligned"
        rows.append(_whisker(one, x, step * (place + 0.5), kind))
    told = (
        f"{label} {number(one.value)} ({number(one.low)} to {number(one.high)})"
        for label, one in zip(labels, intervals, strict=True)
    )
    return _svg(width, height, "bars", ", ".join(told), rows)


def forest_row(difference: Difference, reach: float) -> Markup:
    """One row of the forest plot: the paired difference with its interval on an axis from -reach to reach.

    A band around zero covers the differences that are too small for this many prompts to find.
    """
    width, height = FOREST
    one, middle = difference.difference, 15.0

    def x(value: float) -> float:
        return width / 2 + (width / 2 - _INSET) * max(-1.0, min(1.0, value / reach))

    kind = {"better": "good", "worse": "bad", "changed": "plain"}.get(difference.verdict, "none")
    rows = [
        *_band(difference.detectable, x),
        f'<line class="axis" x1="{_INSET}" x2="{width - _INSET}" y1="{middle:g}" y2="{middle:g}"/>',
        f'<line class="zero" x1="{width / 2:g}" x2="{width / 2:g}" y1="2" y2="29"/>',
        _whisker(one, x, middle, kind) if abs(one.value) <= reach else _beyond(one.value > 0, middle, width, kind),
        *_ends(reach, width, height),
    ]
    told = f"{difference.metric}: {signed(one.value, difference.unit)}, interval {_between(one, difference.unit)}"
    return _svg(width, height, "forest", told, rows)


def reach(differences: Sequence[Difference]) -> float:
    """Half width of an axis that holds the intervals, and the smallest detectable ones, of all these, rounded up."""
    edges = [
        abs(edge)
        for one in differences
        for edge in (one.difference.low, one.difference.high, one.difference.value, one.detectable)
        if edge is not None and math.isfinite(edge)
    ]
    widest = 1.02 * max(edges, default=0.0)
    if widest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(widest))
    return next(power * step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if power * step >= widest)


def curve(lines: Mapping[str, Line]) -> Markup:
    """Lines over steps, each `(step, value)`; the class of the n-th line is `line-n`."""
    known = {name: [point for point in line if math.isfinite(point[1])] for name, line in lines.items()}
    points = [point for line in known.values() for point in line]
    if not points:
        return Markup("")
    width, height = CURVE
    first, last = min(step for step, _ in points), max(step for step, _ in points)
    low, high = _axis([value for _, value in points], None, None)

    def place(step: float, value: float) -> tuple[str, str]:
        across = _LEFT + (width - _LEFT - _RIGHT) * ((step - first) / (last - first) if last > first else 0.5)
        return f"{across:.1f}", f"{_TOP + (height - _TOP - _BOTTOM) * (high - value) / (high - low):.1f}"

    rows = _grid(low, high, first, last)
    for place_in_order, line in enumerate(filter(None, known.values())):
        path = " ".join(",".join(place(*point)) for point in thinned(line))
        rows.append(f'<polyline class="line line-{place_in_order}" points="{path}"/>')
        x, y = place(*line[-1])
        rows.append(f'<circle class="end line-{place_in_order}" cx="{x}" cy="{y}" r="2.6"/>')
    ends = (f"{name} from {number(line[0][1])} to {number(line[-1][1])}" for name, line in known.items() if line)
    return _svg(width, height, "curve", f"{', '.join(ends)}, steps {first:g} to {last:g}", rows)


def thinned(line: Line, most: int = POINTS) -> Line:
    """A line of at most `most` points with the same outline: of each stretch the lowest and the highest, in order of step."""
    if len(line) <= most:
        return line
    size = math.ceil((len(line) - 2) / ((most - 2) // 2))
    inner = line[1:-1]
    kept = [line[0]]
    for start in range(0, len(inner), size):
        part = inner[start : start + size]
        ends = {min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])}
        kept += sorted(ends)
    return [*kept, line[-1]]


def _band(detectable: float | None, x: Place) -> list[str]:
    if detectable is None or not math.isfinite(detectable) or detectable <= 0:
        return []
    left, right = x(-detectable), x(detectable)
    edges = (f'<line class="limit" x1="{edge:.1f}" x2="{edge:.1f}" y1="4" y2="26"/>' for edge in (left, right))
    return [f'<rect class="band" x="{left:.1f}" y="4" width="{right - left:.1f}" height="22"/>', *edges]


def _beyond(right: bool, y: float, width: float, kind: str) -> str:
    """An arrow at the end of the axis, for a value that lies further out."""
    tip, back = (width - 1, width - 11) if right else (1, 11)
    return f'<polygon class="beyond {kind}" points="{tip:g},{y:g} {back:g},{y - 5:g} {back:g},{y + 5:g}"/>'


def _ends(reach: float, width: float, height: float) -> list[str]:
    """The axis's ends and its zero, in figures."""
    marks = ((_INSET, "start", _tick(-reach)), (width / 2, "middle", "0"), (width - _INSET, "end", f"+{_tick(reach)}"))
    return [f'<text class="tick" x="{x:g}" y="{height - 2}" text-anchor="{side}">{text}</text>' for x, side, text in marks]


def _between(one: Interval, unit: str) -> str:
    return f"{signed(one.low, unit)} to {signed(one.high, unit)}"


def _whisker(one: Interval, x: Place, y: float, kind: str) -> str:
    if not math.isfinite(one.value):
        return ""
    dot = f'<circle class="dot {kind}" cx="{x(one.value):.1f}" cy="{y:g}" r="4"/>'
    if not (math.isfinite(one.low) and math.isfinite(one.high)):
        return dot
    return f'<line class="whisker {kind}" x1="{x(one.low):.1f}" x2="{x(one.high):.1f}" y1="{y:g}" y2="{y:g}"/>{dot}'


def _axis(values: Sequence[float], low: float | None, high: float | None) -> tuple[float, float]:
    """Ends of an axis: the scale's own where it is bounded on both sides, else what holds the values, with a margin."""
    if low is not None and high is not None and low < high:
        return low, high
    known = [value for value in values if math.isfinite(value)] or [0.0]
    start, end = min(known), max(known)
    if start == end and 0 <= start <= 1:  # most likely a share: what does not move lies on the scale it could move on
        return -0.04, 1.04
    margin = 0.08 * (end - start) or 0.5 * max(1.0, abs(end))
    return start - margin, end + margin


def _grid(low: float, high: float, first: float, last: float) -> list[str]:
    width, height = CURVE
    rows = []
    for value in _ticks(low, high):
        y = _TOP + (height - _TOP - _BOTTOM) * (high - value) / (high - low)
        rows.append(f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        rows.append(f'<text class="tick" x="{_LEFT - 5}" y="{y + 3:.1f}" text-anchor="end">{_tick(value)}</text>')
    rows.append(f'<text class="tick" x="{_LEFT}" y="{height - 5}">{"step " if first == last else ""}{first:g}</text>')
    if last > first:
        rows.append(f'<text class="tick" x="{width - _RIGHT}" y="{height - 5}" text-anchor="end">step {last:g}</text>')
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
    head = f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">'
    return Markup(head + "".join(rows) + "</svg>")
