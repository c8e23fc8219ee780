"""The drawings of the report, and its colours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dpoframe.harness.comparison.compare import Difference
from dpoframe.harness.page import charts as drawings
from dpoframe.harness.page.charts import curve, forest_row, number, reach, signed, thinned
from dpoframe.harness.stats import Interval


def difference(**changes: Any) -> Difference:
    """A difference of +0.2 with an interval from 0.1 to 0.3."""
    given: dict[str, Any] = {
        "metric": "hits", "unit": "share", "better": "higher", "before": Interval(0.3, 0.2, 0.4, 0.05, 9),
        "after": Interval(0.5, 0.4, 0.6, 0.05, 9), "difference": Interval(0.2, 0.1, 0.3, 0.05, 9),
        "gained": None, "lost": None, "p_value": None, "detectable": 0.14, "unscored": 0,
    }  # fmt: skip
    return Difference(**given | changes)


def test_forest_row_is_to_scale() -> None:
    """On an axis from -0.4 to 0.4, 400 wide with 10 on either side, +0.2 lies at 295 and the band of 0.14 from 133.5 to 266.5."""
    drawn = forest_row(difference(), 0.4)
    assert 'cx="295.0"' in drawn
    assert 'x1="247.5" x2="342.5"' in drawn
    assert '<rect class="band" x="133.5" y="4" width="133.0"' in drawn
    assert 'aria-label="hits: +0.20, interval +0.10 to +0.30"' in drawn
    assert "beyond good" in forest_row(difference(), 0.15)


def test_reach_is_round_and_holds_all() -> None:
    """The axis ends at the next round number beyond the widest edge, a detectable difference included."""
    assert reach([difference()]) == pytest.approx(0.4)
    assert reach([difference(detectable=0.77)]) == pytest.approx(0.8)
    assert reach([difference(difference=Interval(0.0, float("nan"), float("nan"), 0.0, 1), detectable=float("nan"))]) == 1.0


def test_curves_are_thinned_without_losing_peaks() -> None:
    """A series of 10,000 points keeps its ends, its lowest and its highest point in at most the given number of points."""
    line = [(float(step), float(step % 97)) for step in range(10_000)]
    line[4321] = (4321.0, -50.0)
    line[7654] = (7654.0, 500.0)
    kept = thinned(line, 100)
    assert len(kept) <= 100
    assert {line[0], line[-1], line[4321], line[7654]} <= set(kept)
    assert sorted(kept) == list(kept)
    assert "polyline" in curve({"a": [(0.0, 1e20), (1.0, 1e20)]})
    assert ">0.5<" in curve({"a": [(0.0, 1.0), (1.0, 1.0)]})  # a share that stays at 1 has the axis of a share


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_contrast(scheme: str) -> None:
    """Text has a contrast of at least 4.5 to 1 against what it stands on (WCAG 2.2, 1.4.3), light, dark and printed."""
    file = Path(drawings.__file__).parent / "templates" / "report.css"
    blocks = re.findall(r":root \{(.*?)\}", file.read_text(), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", blocks[0]))
    if scheme != "light":
        colours |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", blocks[1 if scheme == "dark" else 2]))
    texts = {"ink": ("paper", "card", "band"), "soft": ("paper", "card", "none-bg"), "aligned": ("paper", "card")}
    texts |= {name: ("card", f"{name}-bg") for name in ("good", "bad", "plain")}
    for text, grounds in texts.items():
        for ground in grounds:
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for mark in ("base", "aligned", "good", "bad", "plain", "line-0", "line-1"):
        assert contrast(colours[mark], colours["card"]) >= 3, mark  # 1.4.11, graphical objects


def contrast(first: str, second: str) -> float:
    """WCAG's contrast ratio of two colours."""
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """WCAG's relative luminance of #rgb or #rrggbb."""
    plain = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(plain[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_numbers_for_a_reader() -> None:
    """Shares have two digits after the point, others three that count; minus signs are true ones; what is unknown is `?`."""
    assert [number(0.123, "share"), number(12345.6), number(123.45), number(12.345), number(1.2345), number(0.01234)] == [
        "0.12", "12,346", "123", "12.3", "1.23", "0.012",
    ]  # fmt: skip
    assert [number(-0.5), number(-0.0), number(None), number(float("nan"))] == ["\u22120.50", "0.00", "?", "?"]
    assert [signed(0.5), signed(-0.5), signed(0.0)] == ["+0.50", "\u22120.50", "0.00"]
