"""Which labels of a classifier are the toxic ones, by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WHOLE = ("toxic", "toxicity")
_TOXIC = frozenset(
    {"toxic", "toxicity", "hate", "hateful", "offensive", "abusive", "abuse", "insult", "insulting", "threat", "threatening"}
    | {"obscene", "harassment", "unsafe", "profanity", "profane", "harmful", "racist", "sexist"}
)
_NOT = frozenset({"non", "not", "no", "neither", "neutral", "normal", "safe", "clean", "ok", "acceptable", "none", "free"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def toxic_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Those that are named for something toxic; `toxic` or `toxicity` alone where there is one of these.

    `not_hate`, `non-toxic`, `nontoxic` are not toxic. `LABEL_1` says nothing, and is not found.
    """
    whole = [label for label in labels if label.lower() in _WHOLE]
    return tuple(whole[:1] or [label for label in labels if _is_toxic(label)])


def _is_toxic(label: str) -> bool:
    words = {word.lower() for word in _WORD.findall(label)}
    return bool(words & _TOXIC) and not words & _NOT
