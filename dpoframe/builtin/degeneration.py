"""How often an answer falls into a repetition loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from dpoframe.evaluator import Evaluator, EvaluatorSpec, Scale
from dpoframe.types import Sample, as_text


@dataclass(frozen=True)
class Degeneration(Evaluator):
    """Share of answers that fall into a repetition loop.

    With an answer cut into words at white space and lower-cased, it loops where (a) one or two words stand at least
    four times in a row, or three to `longest` words at least three times in a row; or (b) some sequence of `window`
    words occurs at least three times anywhere; or (c) it holds no word at all.

    Attributes:
        longest: Longest unit looked for in (a), in words.
        window: Length of the sequences counted in (b), in words.
    """

    longest: int = 12
    window: int = 6
    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec(
        id="degeneration",
        version="1",
        needs="response",
        metrics={"rate": Scale(0.0, 1.0, "share", "lower")},
        primary="rate",
    )

    def score(self, sample: Sample) -> Mapping[str, float]:
        """1 where the answer loops, else 0."""
        words = as_text(sample.response).lower().split()
        looping = not words or self._in_a_row(words) or self._anywhere(words)
        return {"rate": float(looping)}

    def _in_a_row(self, words: Sequence[str]) -> bool:
        return any(_repeats(words, size, 4 if size <= 2 else 3) for size in range(1, self.longest + 1))

    def _anywhere(self, words: Sequence[str]) -> bool:
        windows = Counter(tuple(words[start : start + self.window]) for start in range(len(words) - self.window + 1))
        return any(count >= 3 for count in windows.values())


def _repeats(words: Sequence[str], size: int, times: int) -> bool:
    """Whether some `size` words stand `times` times in a row: a run of matches with the word `size` further back."""
    run = 0
    for position in range(size, len(words)):
        run = run + 1 if words[position] == words[position - size] else 0
        if run >= size * (times - 1):
            return True
    return False
