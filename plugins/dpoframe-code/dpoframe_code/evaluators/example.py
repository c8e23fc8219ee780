"""Samples that `dpoframe plugins check` scores: one small problem, and answers of several kinds."""

from __future__ import annotations

from dpoframe import Sample
from dpoframe_code.problems.problem import KEY, Problem

_PROBLEM = Problem(
    id="example/largest",
    entry_point="largest",
    kind="asserts",
    tests="assert largest([1, 3, 2]) == 3\nassert largest([-5]) == -5",
    solution="def largest(numbers):\n    return max(numbers)\n",
    text="Write a function that returns the largest of a list of numbers.",
    shown=("assert largest([1, 3, 2]) == 3",),
)
_ANSWERS = {
    "right": "```python\ndef largest(numbers):\n    found = sorted(numbers)\n    return found[-1]\n```",
    "wrong": "```python\ndef largest(numbers):\n    return numbers[0]\n```",
    "raises": "```python\ndef largest(numbers):\n    return numbers.max()\n```",
    "prose": "I would sort the list and take the last number.",
}

EXAMPLES = tuple(
    Sample(f"{name}#0", [{"role": "user", "content": f"{_PROBLEM.text} ({name})"}], text, meta={KEY: _PROBLEM.plain()})
    for name, text in _ANSWERS.items()
)
"""One answer that passes, and three that do not."""
