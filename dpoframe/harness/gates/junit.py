"""A gate's verdict as JUnit XML, which every CI system shows: one test case a row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as Xml

from dpoframe.harness.gates.judging import Judged, Judgement

# What XML 1.0 cannot hold, not even escaped: controls, halves of surrogate pairs, two non-characters.
_IMPOSSIBLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
NAME = "dpoframe gate"
LISTED = 20


def junit(judgement: Judgement) -> str:
    """The XML of a judgement. A failing row is a failure, an inconclusive one is skipped, each with the reason."""
    rows = judgement.rows
    top, suite = _suite(judgement.gate, len(rows), failures=_count(rows, "FAIL"), skipped=_count(rows, "INCONCLUSIVE"))
    for row in rows:
        case = _case(suite, row.suite, f"{row.metric}: {row.demand}")
        if row.verdict == "FAIL":
            _add(case, "failure", row.reason, type="FAIL", message=row.reason)
        elif row.verdict == "INCONCLUSIVE":
            _add(case, "skipped", "", message=f"INCONCLUSIVE. {row.reason}")
        _add(case, "system-out", "\n".join(figures(row)))
    return _written(top)


def junit_of_failure(gate: str, message: str) -> str:
    """The XML of a gate that could not be judged: one case with an error."""
    top, suite = _suite(gate, 1, errors=1)
    _add(_case(suite, "gate", "could be judged"), "error", message, type="could not run", message=message.split("\n")[0])
    return _written(top)


def figures(row: Judged) -> list[str]:
    """The figures behind a verdict, one a line."""
    shown = [f"verdict: {row.verdict}", f"demand: {row.demand}"]
    shown += [f"{row.direction} is better"] if row.difference is not None else []
    for name, one in (("difference", row.difference), ("aligned", row.figure)):
        if one is not None:
            shown.append(f"{name}: {one.value:.6g} [{one.low:.6g}, {one.high:.6g}]")
    shown += [f"prompts: {row.n}", f"unscored samples: {row.unscored}"]
    shown += [f"smallest detectable difference: {row.detectable:.3g}"] if row.detectable == row.detectable else []
    shown += [f"prompts that would decide it: {row.needed:.0f}"] if row.needed is not None else []
    shown += [f"p: {row.p_value:.3g}"] if row.p_value is not None else []
    shown += [f"p, all rows together: {row.p_holm:.3g}"] if row.p_holm is not None else []
    if row.lost:
        more = f" and {len(row.lost) - LISTED} more" if len(row.lost) > LISTED else ""
        shown.append(f"lost: {', '.join(row.lost[:LISTED])}{more}")
    return shown


def _count(rows: Sequence[Judged], verdict: str) -> int:
    return sum(row.verdict == verdict for row in rows)


def _suite(name: str, tests: int, *, failures: int = 0, errors: int = 0, skipped: int = 0) -> tuple[Xml.Element, Xml.Element]:
    counts = {"tests": str(tests), "failures": str(failures), "errors": str(errors), "skipped": str(skipped), "time": "0"}
    top = Xml.Element("testsuites", {"name": NAME, **counts})
    return top, Xml.SubElement(top, "testsuite", {"name": possible(name), **counts})


def _case(suite: Xml.Element, classname: str, name: str) -> Xml.Element:
    return Xml.SubElement(suite, "testcase", {"classname": possible(classname), "name": possible(name), "time": "0"})


def _add(case: Xml.Element, tag: str, text: str, **attributes: str) -> None:
    Xml.SubElement(case, tag, {key: possible(value) for key, value in attributes.items()}).text = possible(text) or None


def possible(text: str) -> str:
    """`text` with what XML cannot hold written out."""
    return _IMPOSSIBLE.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def _written(top: Xml.Element) -> str:
    Xml.indent(top)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + Xml.tostring(top, encoding="unicode") + "\n"
