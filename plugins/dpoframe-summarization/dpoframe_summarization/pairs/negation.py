"""Saying the opposite: a "not" put in, or taken out."""

from __future__ import annotations

import random
import re

_DENIALS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\bcannot\b", re.I), "can"),
    (re.compile(r"\bwon['\u2019]t\b", re.I), "will"),
    (re.compile(r"\bcan['\u2019]t\b", re.I), "can"),
    (re.compile(r"\b(is|are|was|were|has|have|had|would|could|should|did|does|do) ?n['\u2019]t\b", re.I), r"\1"),
    (re.compile(r"\b(is|are|was|were|has|have|had|will|would|can|could|should|may|must|did|does|do) not\b(?! only)", re.I), r"\1"),
    (re.compile(r"\bnever (?=\w)", re.I), ""),
)
_VERBS = re.compile(
    r"\b(?:is|are|was|were|will|would|can|could|should|must|may|might)\b(?! (?:not|n['\u2019]t))"
    r"|\b(?:has|have|had)\b(?= (?:been|become|\w+ed|made|said|taken|given|won|lost|left|seen)\b)",
    re.IGNORECASE,
)


def negated(summary: str, draw: random.Random) -> tuple[str, str, str] | None:
    """A summary with one statement turned round, what stood there and what stands there; None where none can be.

    English alone: a denial loses its "not", or a statement with an auxiliary verb gets one.
    """
    denials = [(match, match.expand(new)) for pattern, new in _DENIALS for match in pattern.finditer(summary)]
    if denials:
        match, new = denials[draw.randrange(len(denials))]
        return summary[: match.start()] + new + summary[match.end() :], match[0].strip(), new.strip()
    verbs = list(_VERBS.finditer(summary))
    if not verbs:
        return None
    verb = verbs[draw.randrange(len(verbs))]
    new = f"{verb[0]} not"
    return summary[: verb.start()] + new + summary[verb.end() :], verb[0], new
