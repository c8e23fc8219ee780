"""Findings of ruff and complexity by radon."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path

import pytest
from dpoframe_code.evaluators import code_quality
from dpoframe_code.evaluators.code_quality import CodeQuality, complexity, ruff
from dpoframe_code.evaluators.example import EXAMPLES
from dpoframe_code.sandbox import Sandbox

from dpoframe import Refused, Sample
from dpoframe.testing import EvaluatorContract

needs_both = pytest.mark.skipif(
    ruff() is None or importlib.util.find_spec("radon") is None, reason="ruff or radon is not installed"
)
PROBLEM = {"entry_point": "f", "kind": "asserts", "tests": "assert f(1) == 1"}


def answer(code: str) -> Sample:
    """An answer in chat."""
    return Sample("a#0", [{"role": "user", "content": "?"}], f"```python\n{code}\n```", meta={"problem": PROBLEM})


class TestContract(EvaluatorContract):
    """The evaluator keeps the contract; it refuses where ruff or radon is missing."""

    evaluator = CodeQuality()
    samples = EXAMPLES


@needs_both
def test_findings_are_ruffs(tmp_path: Path) -> None:
    """As many findings as ruff counts on a file with the same rules, over the lines that are not blank."""
    code = "import os\n\n\ndef f(x):\n    l = x\n    if x == None:\n        return None\n    else:\n        return x"
    (tmp_path / "one.py").write_text(code)
    command = [str(ruff()), "check", "--isolated", "--select=E,F,RET", "--output-format=json", "--exit-zero", str(tmp_path)]
    counted = len(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))
    found = CodeQuality(select=("E", "F", "RET"), ignore=()).score(answer(code))
    assert counted >= 4
    assert found is not None
    assert found["findings_per_line"] == pytest.approx(counted / 7)
    assert (found["findings"], found["lines"]) == (counted, 7)


@needs_both
def test_clean_code_has_none() -> None:
    """Plain code has no finding; the same with an unused import has one more."""
    clean, unused = (CodeQuality().score(answer(f"{extra}def f(x):\n    return x")) for extra in ("", "import os\n"))
    assert clean is not None
    assert unused is not None
    assert clean["findings_per_line"] == 0
    assert unused["findings_per_line"] == pytest.approx(1 / 3)


@needs_both
@pytest.mark.parametrize("silence", ["# noqa", "# ruff: noqa", "# flake8: noqa", "# ruff: noqa: E711", "# ruff: disable[E711]"])
def test_no_comment_silences_findings(silence: str) -> None:
    """A program is not better for a comment that tells the linter to look away."""
    code = "def f(x):\n    return x == None"
    plain, silenced = (CodeQuality(select=("E", "F")).findings(text) for text in (code, f"{silence}\n{code}  {silence}"))
    assert plain == silenced == 1


@needs_both
@pytest.mark.parametrize(
    ("code", "paths"),
    [
        ("def f(x): return x", 1),
        ("def f(x):\n    if x and x > 1:\n        return 1\n    return 2", 3),
        ("def f(x):\n    for i in x:\n        while i:\n            i -= 1\n", 3),
        ("def g(x):\n    if x: return 1\ndef f(x): return g(x)", 2),
    ],
)
def test_complexity(code: str, paths: int) -> None:
    """The most complex function counts: one path, and one more for each branch, loop and boolean operator (McCabe 1976)."""
    assert complexity(code) == {"complexity": paths}


@needs_both
@pytest.mark.parametrize("text", ["def f(x:", "", "Use a loop."])
def test_what_is_no_python_has_no_quality(text: str) -> None:
    """Neither good nor bad: unscored."""
    assert CodeQuality().score(answer(text)) is None


@needs_both
def test_wrong_rules_are_told() -> None:
    """A rule that ruff does not know is refused before anything is scored, in ruff's own words."""
    found = CodeQuality(select=("NOPE",)).probe()
    assert isinstance(found, Refused)
    assert "NOPE" in found.reason


@needs_both
def test_only_programs_that_pass(sandbox: Sandbox) -> None:
    """With `passing` a wrong program has no quality, a right one has the same as without, and the tier it passed in."""
    right, wrong = answer("def f(x):\n    return x"), answer("def f(x):\n    return 0")
    assert CodeQuality(passing=True).score(wrong) is None
    found = CodeQuality(passing=True).score(right)
    assert found is not None
    assert found == {**(CodeQuality().score(right) or {}), "tier": found["tier"]}
    assert found["tier"] in (1, 2)
    assert CodeQuality().score(wrong) is not None


def test_refuses_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ruff it refuses, with the line that installs it."""
    monkeypatch.setattr(code_quality, "ruff", lambda: None)
    found = CodeQuality().probe()
    assert isinstance(found, Refused)
    assert "ruff" in found.reason
    assert 'pip install "dpoframe-code[quality]"' in found.fix


@needs_both
def test_versions_are_in_the_spec() -> None:
    """The spec names ruff and radon with their versions, so that figures of other versions are not taken for these."""
    names = [asset.name for asset in CodeQuality().spec.assets]
    assert [name.split()[0] for name in names] == ["ruff", "radon"]
    assert all(name.split()[1][0].isdigit() for name in names)
