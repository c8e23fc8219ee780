"""How often an answer holds what a right answer must hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dpoframe.evaluator import Evaluator, EvaluatorSpec, Scale
from dpoframe.types import Sample, as_text


@dataclass(frozen=True)
class ContainsExpected(Evaluator):
    """Share of answers that hold at least one of the prompt's expected keywords, over the prompts that have any.

    A keyword counts where it stands at the beginning of a word, in any case (`erupt` is found in `erupts`; `7` is not
    found in `17`, `70` or `3.7`). It is a cheap bound on correctness: a longer answer has more chances to hold a keyword.

    Attributes:
        key: The field of the prompt that holds the list of keywords.
    """

    key: str = "expect"
    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec(
        id="contains_expected", version="2", needs="response", metrics={"rate": Scale(0.0, 1.0, "share")}, primary="rate"
    )

    def score(self, sample: Sample) -> Mapping[str, float] | None:
        """1 where a keyword is found, 0 where none is, None where the prompt expects nothing."""
        expected = sample.meta.get(self.key) or ()
        words = [expected] if isinstance(expected, str) else list(expected)
        if not words:
            return None
        text = as_text(sample.response)
        return {"rate": float(any(_pattern(str(word)).search(text) for word in words))}


def _pattern(word: str) -> re.Pattern[str]:
    head = r"(?<!\d[.,])" if word[:1].isdigit() else ""
    tail = r"(?![.,]?\d)" if word[-1:].isdigit() else ""
    return re.compile(rf"(?<!\w){head}{re.escape(word)}{tail}", re.IGNORECASE)
