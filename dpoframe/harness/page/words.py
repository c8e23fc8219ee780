"""The sentences of a report, and text made safe to show."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dpoframe.harness.comparison.compare import Comparison, Difference
from dpoframe.harness.gates.markdown import p_value
from dpoframe.harness.page.charts import number
from dpoframe.harness.page.reading import Evaluation, Material, Part, called
from dpoframe.harness.stats import Interval

LEVEL = 0.05

UNMEASURED = (
    "No suite was run before and after, so nothing here says that the model is better: the curves are those of the preference "
    "pairs themselves. Name suites under evaluate in the recipe, or run dpoframe eval on this run."
)

# C0 and C1 controls but for newline and tab; marks that reverse the order of text on a screen; half characters that no
# file can hold; line separators that some programs take for the end of a line.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def printable(value: Any) -> Any:
    """Text with control characters written out; markup, and what is no text, is left as it is."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), value)
    return value


def listed(names: Sequence[str]) -> str:
    """Names of metrics as a sentence says them: `a, b and c`."""
    plain = [spoken(name) for name in names]
    return plain[0] if len(plain) == 1 else f"{', '.join(plain[:-1])} and {plain[-1]}"


def spoken(name: str) -> str:
    """A metric's or evaluator's id in words: `response_length/units` is `response length (units)`."""
    head, _, tail = name.replace("_", " ").partition("/")
    return f"{head} ({tail})" if tail else head


def count(number: int, one: str, many: str = "") -> str:
    """`1 prompt`, `2 prompts`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def lead_sentence(comparison: Comparison, who: str = "The aligned model", base: str = "the base") -> str:
    """What came out, in a sentence, from the intervals alone.

    Args:
        comparison: One suite, before and after.
        who: The model that is told of.
        base: What it is compared with.
    """
    aims = [one for one in comparison.differences if not is_health(comparison, one) and is_first(one)]
    better = [one.metric for one in aims if one.verdict == "better"]
    worse = [one.metric for one in comparison.differences if one.verdict == "worse"]
    unclear = [one.metric for one in aims if one.verdict == "no clear difference"]
    parts = [
        f"{who} is better on {listed(better)}." if better else f"No figure is clearly better than {_of(base)}." if aims else "",
        f"It is worse on {listed(worse)}." if worse else "No figure is clearly worse.",
        f"No clear difference on {listed(unclear)}." if unclear else "",
        corrected(comparison.differences),
    ]
    return " ".join(filter(None, parts))


def corrected(differences: Sequence[Difference]) -> str:
    """Which of the verdicts do not outlast Holm's correction for there being several metrics; empty where all do."""
    family = [one for one in differences if one.p_holm is not None]
    fallen = [one.metric for one in family if one.verdict in ("better", "worse") and (one.p_holm or 0.0) > LEVEL]
    if not fallen:
        return ""
    return f"Counting all {len(family)} metrics together (Holm), the evidence on {listed(fallen)} is no longer clear."


def is_health(comparison: Comparison, one: Difference) -> bool:
    """Whether a metric watches for damage rather than for the aim: its evaluator's first is not better when higher."""
    first = next((other for other in comparison.differences if other.metric == one.metric.partition("/")[0]), one)
    return first.better != "higher"


def is_first(one: Difference) -> bool:
    """Whether it is its evaluator's first metric; an evaluator's own id may hold a slash, too."""
    return one.primary or "/" not in one.metric


def watches(found: Evaluation, metric: str) -> bool:
    """The same of a metric of one evaluation."""
    scales = found.scales
    first = scales.get(found.primary(found.evaluator(metric)), scales[metric])
    return bool(first["better"] != "higher")


def leads(material: Material) -> list[tuple[str, str]]:
    """(heading, sentence) of each suite; the heading is empty where there is one suite."""
    if not material.parts:
        return [("", UNMEASURED)]
    several = len(material.parts) > 1
    return [(part.suite if several else "", lead(part)) for part in material.parts]


def cautions(material: Material) -> list[str]:
    """What a reader must know before the figures: what is no evidence yet, and figures that the weights were chosen by."""
    found = [
        f"The evaluation of {one.label} on {part.suite} is no evidence yet: {one.late}."
        for part in material.parts
        for one in part.evaluations
        if one.late
    ]
    for told in material.documents:
        if metric := str(_section(_section(told.settings, "evaluate"), "keep_best").get("metric") or ""):
            whose = f"The weights of {told.label}" if told.label else "The weights"
            found.append(f"{whose} are the best of several by {spoken(metric.replace('/', ': ', 1))}: that figure flatters them.")
    return found


def lead(part: Part) -> str:
    """What a suite says, in a sentence or two."""
    if len(part.comparisons) == 1:
        base, other = (one.label for one in part.evaluations)
        named = () if (base, other) == ("base", "aligned") else (other, base)
        compared = {one.metric for one in part.comparisons[0].differences}
        alone = any(metric not in compared for metric, _ in part.last.wins())
        return " ".join(filter(None, [lead_sentence(part.comparisons[0], *named), wins(part.last) if alone else ""]))
    if part.comparisons:
        return board_sentence(part)
    return lone_sentence(part.last)


def board_sentence(part: Part) -> str:
    """Which of several models are clearly better, and worse, than the baseline on the suite's first metric."""
    aim = next((one.metric for comparison in part.comparisons for one in comparison.differences), "")
    found: dict[str, list[str]] = {}
    for evaluated, comparison in zip(part.evaluations[1:], part.comparisons, strict=True):
        for one in comparison.differences:
            if one.metric == aim:
                found.setdefault(one.verdict, []).append(evaluated.label)
    told = [f"{are(found[verdict])} {verdict}" for verdict in ("better", "worse", "changed") if verdict in found]
    if unclear := found.get("no clear difference"):
        told.append(f"{are(unclear)} not clearly different")
    return f"On {spoken(aim)}, against {part.evaluations[0].label}: {'; '.join(told)}." if told else "No metric was scored on all."


def are(labels: Sequence[str]) -> str:
    """`a is`, `a and b are`."""
    return f"{labels[0]} is" if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]} are"


def lone_sentence(found: Evaluation) -> str:
    """The first figures of a model that stands alone."""
    told = []
    for name in found.about["order"][:3]:
        metric, one = found.primary(name), found.figure(found.primary(name))
        unit = str(found.scales.get(metric, {}).get("unit", ""))
        if one.n:
            told.append(f"{spoken(metric)} {number(one.value, unit)} ({number(one.low, unit)} to {number(one.high, unit)})")
    return first_up(f"{'; '.join(told)}. No base to compare with.") if told else "Nothing could be scored."


def title(material: Material) -> str:
    """The page's heading."""
    if not material.parts:
        return "A training without an evaluation"
    suites = ", ".join(part.suite for part in material.parts)
    labels = max(([one.label for one in part.evaluations] for part in material.parts), key=len)
    if len(labels) > 2:
        return f"{suites}: {len(labels)} models"
    ordered = labels if labels[0] == "base" else labels[::-1]
    return f"{suites}: {' against '.join(ordered)}"


def evidence(one: Difference) -> list[str]:
    """What a forest plot's row says besides: the prompts that moved, p values, and what could have been found."""
    told = [f"{one.gained} up, {one.lost} down"] if one.gained is not None else []
    if one.p_value is not None:
        told.append(f"p\u00a0{shown(one.p_value)}" + ("" if one.p_holm is None else f", Holm\u00a0{shown(one.p_holm)}"))
    found = ["; ".join(told)] if told else []
    if math.isfinite(one.detectable) and one.detectable > 0:
        found.append(f"detects {number(one.detectable, one.unit)}")
    return found


def shown(value: float) -> str:
    """A p value after its letter."""
    text = p_value(value)
    return (text if text[0] == "<" else f"= {text}").replace(" ", "\u00a0")


def even(won: Interval) -> Interval:
    """A win rate as a difference from one half, where neither side wins more often."""
    return replace(won, value=won.value - 0.5, low=won.low - 0.5, high=won.high - 0.5)


def even_verdict(won: Interval) -> str:
    """What the interval of a win rate says."""
    if not won.excludes(0.5):
        return "no clear difference"
    return "better" if won.value > 0.5 else "worse"


def wins(found: Evaluation) -> str:
    """How often a model's answers win against others; empty where that was not measured."""
    rivals = "the base's answers" if found.about.get("rivals") else "the reference answers"
    told = [
        f"{number(one.value, 'share')} ({number(one.low, 'share')} to {number(one.high, 'share')})"
        for metric, one in found.wins()
        if "/" not in metric
    ]
    return f"Against {rivals} it wins {' and '.join(told)}." if told else ""


def first_up(text: str) -> str:
    """The text with a capital first letter, for the start of a sentence."""
    return text[:1].upper() + text[1:]


def facts(material: Material) -> list[tuple[str, Any]]:
    """What stands under the title, where it is known of the one run."""
    if len(material.documents) != 1:
        return []
    told = material.documents[0]
    modality, trainer = _section(told.settings, "modality"), _section(told.settings, "trainer")
    steps = {row["step"] for row in told.rows if row.get("stage", "train") == "train"}
    known = {
        "model": called(str(modality.get("model") or modality.get("name") or "")),
        "loss": _losses(told.settings.get("loss")),
        "logged steps": len(steps) or None,
        "pairs a step": trainer.get("batch_size"),
        "training pairs": told.data.get("train"),
        "seed": told.settings.get("seed"),
    }
    return [(name, value) for name, value in known.items() if value not in (None, "")]


def _losses(value: Any) -> str:
    losses = value if isinstance(value, list) else [value]
    named = [one for one in losses if isinstance(one, Mapping) and "name" in one]
    return " + ".join(f"{one['weight']} {one['name']}" if "weight" in one else str(one["name"]) for one in named)


def _section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = settings.get(name)
    return found if isinstance(found, Mapping) else {}


def _of(base: str) -> str:
    return f"{base}'s"
