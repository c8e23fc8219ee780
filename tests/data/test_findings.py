"""Findings about a set agree with arithmetic written out here."""

from __future__ import annotations

import math

import pytest

from dpoframe import PreferencePair
from dpoframe.data.findings import wilson
from dpoframe.data.inspection import Inspection


def inspected(pairs):
    """One pass over pairs."""
    checks = Inspection("test")
    for _ in checks.take(pairs):
        pass
    return checks


def pair(number, chosen="c", rejected="r", **meta):
    """A pair with a prompt of its own."""
    return PreferencePair(f"p{number}", chosen, rejected, meta=meta)


def codes(checks):
    """Findings by code."""
    return {finding.code: finding for finding in checks.findings()}


def test_length_bias():
    """Share, mean difference and both intervals are those of the textbook formulas."""
    lengths = [(10 + n % 4, 8) if n % 10 else (5, 8) for n in range(50)]
    checks = inspected(pair(n, "c" * a, "r" * b) for n, (a, b) in enumerate(lengths))
    found = codes(checks)["length-bias"]
    differences = [a - b for a, b in lengths]
    mean = sum(differences) / 50
    deviation = math.sqrt(sum((value - mean) ** 2 for value in differences) / 49)
    half = 2.009575237 * deviation / math.sqrt(50)  # Student's t with 49 degrees of freedom at 97.5 %
    share, z = 45 / 50, 1.959963984540054
    middle = (share + z * z / 100) / (1 + z * z / 50)
    wide = z * math.sqrt(share * (1 - share) / 50 + z * z / 10000) / (1 + z * z / 50)
    expected = [share, middle - wide, middle + wide, mean, mean - half, mean + half]
    assert list(found.figures.values()) == pytest.approx(expected, rel=1e-8)
    assert "90.0%" in found.message


def test_wilson():
    """Six of ten: 0.312674 to 0.831820."""
    assert wilson(6, 10) == pytest.approx((0.312674, 0.831820), abs=1e-6)
    assert wilson(0, 0) == (0.0, 1.0)


def test_no_length_bias():
    """Balanced lengths, and sets too small to tell, give no finding."""
    assert not codes(inspected(pair(n, "c" * (5 + n % 2), "r" * (6 - n % 2)) for n in range(100)))
    assert not codes(inspected(pair(n, "cc", "r") for n in range(10)))


@pytest.mark.parametrize("keys", [("chosen_source", "rejected_source"), ("chosen_model", "rejected_model")])
def test_source_confound(keys):
    """One author who wins nearly always against another is found; a mixed pair of authors is not."""
    rows = [pair(n, **dict(zip(keys, ("gpt", "old"), strict=True))) for n in range(60)]
    rows += [pair(n, **dict(zip(keys, ("a", "b") if n % 2 else ("b", "a"), strict=True))) for n in range(60, 120)]
    found = [finding for finding in inspected(rows).findings() if finding.code == "source-confound"]
    assert len(found) == 1
    assert "'gpt' is chosen over 'old' in 100.0% of 60 pairs" in found[0].message


def test_contradiction():
    """A pair that occurs in both orders is counted, and both stay."""
    checks = inspected([pair(1, "a", "b"), pair(1, "b", "a"), pair(2, "a", "b")])
    assert codes(checks)["contradiction"].figures["pairs"] == 1
    assert codes(checks)["duplicate-prompt"].figures["pairs"] == 1
    assert checks.used == 3


def test_prompt_repeated():
    """Responses that begin with the prompt are found where most do."""
    found = codes(inspected(pair(n, f"p{n} yes", f"p{n} no") for n in range(20)))
    assert found["prompt-repeated"].figures["pairs"] == 20


def test_same_prompts():
    """Prompts are the same whatever their white space, and one user message is the same as its text."""
    rows = [PreferencePair("a  b\n", "c", "r"), PreferencePair("a b", "d", "r")]
    rows.append(PreferencePair([{"role": "user", "content": "a b"}], [{"role": "assistant", "content": "c"}], "r"))
    assert len(inspected(rows).prompts) == 1
