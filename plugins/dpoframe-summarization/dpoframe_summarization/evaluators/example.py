"""Samples that every evaluator of this package can score."""

from __future__ import annotations

from dpoframe import Sample

_SOURCE = (
    "The council of Leeds voted on Tuesday to spend 1,200,000 pounds on two new libraries. Mayor Anna Berg said that work "
    "would begin in March 2025. About 40 percent of residents had asked for longer opening hours. The old library on Park Lane "
    "will close for three weeks."
)
_REFERENCE = "Leeds will spend 1.2 million pounds on two libraries. Work begins in March 2025."

_SUMMARIES = {
    "faithful": "Leeds voted to spend 1.2 million pounds on two new libraries. Work begins in March 2025.",
    "wrong": "Mayor Anna Berg of York said that 60 percent of residents wanted three new libraries.",
    "copied": "The old library on Park Lane will close for three weeks.",
    "short": "Two libraries for Leeds.",
}

EXAMPLES = tuple(
    Sample(name, _SOURCE, text, meta={"source": _SOURCE, "reference": _REFERENCE}) for name, text in _SUMMARIES.items()
)
"""Four summaries of one source: a faithful one, one with wrong facts, a copied sentence, a heading."""
