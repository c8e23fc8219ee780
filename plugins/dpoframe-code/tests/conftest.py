"""Problems in every published layout, made here, and the published ones where they are at hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dpoframe_code.sandbox import Sandbox, probe

DATA = Path(__file__).parents[3].parent / "shared" / "data" / "code"

HUMANEVAL: dict[str, Any] = {
    "task_id": "HumanEval/900",
    "prompt": 'from typing import List\n\n\ndef top(xs: List[int]) -> int:\n    """The largest; 0 of none."""\n',
    "entry_point": "top",
    "canonical_solution": "    return max(xs, default=0)\n",
    "test": "METADATA = {}\n\n\ndef check(candidate):\n    assert candidate([1, 3, 2]) == 3\n    assert candidate([]) == 0\n",
}
HUMANEVAL_PLUS: dict[str, Any] = {
    **HUMANEVAL,
    "task_id": "HumanEval/901",
    "test": """import numpy as np

def near(out, exp, atol):
    if isinstance(exp, float) and atol == 0:
        atol = 1e-6
    if out != exp:
        assert atol != 0 and np.allclose(out, exp, rtol=1e-07, atol=atol)

def check(candidate):
    inputs = [[[1, 3, 2]], [[]], [[0.1, 0.2]]]
    results = [3, 0, 0.2]
    for i, (inp, exp) in enumerate(zip(inputs, results)):
        near(candidate(*inp), exp, 0)
""",
}
EVALPLUS: dict[str, Any] = {
    **{key: value for key, value in HUMANEVAL.items() if key != "test"},
    "task_id": "HumanEval/902",
    "base_input": [[[1, 3, 2]]],
    "plus_input": [[[]], [[-4, -9]]],
    "atol": 0,
    "contract": "",
}
MBPP: dict[str, Any] = {
    "task_id": 12,
    "text": "Write a function to find the larger\r\nof two numbers.",
    "code": "def larger(a, b):\r\n\treturn a if a > b else b",
    "test_setup_code": "",
    "test_list": ["assert larger(1, 2) == 2", "assert larger(3, -1) == 3", "assert set([larger(0, 0)]) == {0}"],
    "challenge_test_list": [],
}
SANITIZED: dict[str, Any] = {
    "source_file": "Benchmark Questions Verification V2.ipynb",
    "task_id": 700,
    "prompt": "Write a function to find the root.",
    "code": "import math\n\ndef root(x):\n    return math.sqrt(x)",
    "test_imports": ["import math"],
    "test_list": ["assert math.isclose(root(2), 1.41421356, rel_tol=0.001)", "assert root(4) == 2"],
}
MBPP_PLUS: dict[str, Any] = {
    **SANITIZED,
    "task_id": 701,
    "test": """import numpy as np
from math import inf
[]
def assertion(out, exp, atol):
    assert out == exp or np.allclose(out, exp, rtol=1e-07, atol=atol)

inputs = [[4], [2], [inf]]
results = [2.0, 1.4142135623730951, inf]
for i, (inp, exp) in enumerate(zip(inputs, results)):
    assertion(root(*inp), exp, 1e-06)
""",
}


@pytest.fixture
def rows() -> dict[str, dict[str, Any]]:
    """One problem in each layout, by its name."""
    given = {"HumanEval": HUMANEVAL, "HumanEval+": HUMANEVAL_PLUS, "EvalPlus": EVALPLUS, "MBPP": MBPP}
    return copy.deepcopy({**given, "sanitized": SANITIZED, "MBPP+": MBPP_PLUS})


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A warm sandbox; skips where none can be had."""
    found = probe()
    if found.tier is None:
        pytest.skip(f"no sandbox can be had here: {found}")
    with Sandbox() as made:
        yield made


@pytest.fixture(scope="session")
def published() -> Callable[[str], Path]:
    """Finds a published file; skips where it is not at hand."""

    def found(name: str) -> Path:
        if not (DATA / name).is_file():
            pytest.skip(f"the published file {name} is not at hand: it would lie in {DATA}")
        return DATA / name

    return found
