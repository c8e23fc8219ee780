"""How often an answer has the form that the prompt asks for, as far as a program can tell."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from dpoframe import Evaluator, EvaluatorSpec, Sample, Scale, as_text

_ITEM = re.compile(r"^\s*(?:[-*•+]|\d+[.)])\s+\S", re.MULTILINE)
_SENTENCE = re.compile(r"[.!?]+(?=[\s\"')\]]|$)")
_FENCE = re.compile(r"^```\w*\n(.*?)\n?```$", re.DOTALL)


@dataclass(frozen=True)
class FollowsFormat(Evaluator):
    """Share of answers that pass every check of their prompt's `format`, over the prompts that have one.

    A check is a key of the mapping: `max_words`, `min_words`, `words`, `sentences`, `lines` (that are not blank), `items`
    (of a list), `case` (`lower` or `upper`), `starts_with`, `ends_with`, `contains` and `excludes` (words, in any case),
    `one_of` (the whole answer, but for its punctuation and case), `json` (`object` or `list`), `keys` (of the object, no
    more). What is checked is the form alone: a right form can hold a wrong answer.

    Attributes:
        key: The field of the prompt that holds the checks.
    """

    key: str = "format"
    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec(
        id="follows_format",
        version="1",
        needs="response",
        metrics={"rate": Scale(0.0, 1.0, "share"), "checks": Scale(0.0, 1.0, "share of checks")},
        primary="rate",
    )

    def score(self, sample: Sample) -> Mapping[str, float] | None:
        """Whether all checks pass, and the share that does; None where the prompt asks for no form."""
        wanted = sample.meta.get(self.key) or {}
        if not wanted:
            return None
        text = as_text(sample.response).strip()
        passed = [CHECKS[name](text, value) for name, value in wanted.items()]
        return {"rate": float(all(passed)), "checks": sum(passed) / len(passed)}


def _words(text: str) -> int:
    return len(text.split())


def _case(text: str, wanted: str) -> bool:
    return text == (text.lower() if wanted == "lower" else text.upper()) and any(letter.isalpha() for letter in text)


def _held(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


def _bare(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _parsed(text: str) -> Any:
    """The JSON value that the answer is, with or without a fence around it; None where it is none."""
    fenced = _FENCE.match(text)
    try:
        return json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None


CHECKS: Mapping[str, Callable[[str, Any], bool]] = {
    "max_words": lambda text, most: 0 < _words(text) <= most,
    "min_words": lambda text, least: _words(text) >= least,
    "words": lambda text, count: _words(text) == count,
    "sentences": lambda text, count: len(_SENTENCE.findall(text)) == count,
    "lines": lambda text, count: sum(bool(line.strip()) for line in text.splitlines()) == count,
    "items": lambda text, count: len(_ITEM.findall(text)) == count,
    "case": _case,
    "starts_with": lambda text, head: text.startswith(head),
    "ends_with": lambda text, tail: text.endswith(tail),
    "contains": lambda text, words: all(_held(text, word) for word in words),
    "excludes": lambda text, words: bool(text) and not any(_held(text, word) for word in words),
    "one_of": lambda text, answers: _bare(text) in {_bare(answer) for answer in answers},
    "json": lambda text, kind: isinstance(_parsed(text), dict if kind == "object" else list),
    "keys": lambda text, names: isinstance(found := _parsed(text), dict) and set(found) == set(names),
}
"""Checks by name: of the answer's text, and what the prompt's row says."""
