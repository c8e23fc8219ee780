"""A gate keeps its word: how often it passes a model that is worse by exactly the margin, in simulated evaluations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from dpoframe.harness.gates.trial import Trial, judged_together
from dpoframe.harness.stats import paired_estimate, units_needed

Values: TypeAlias = NDArray[np.float64]
Drawing: TypeAlias = Callable[[np.random.Generator], tuple[Values, Values, Values]]

PROMPTS, ANSWERS = 60, 4
ALONE, GROUPED = np.arange(PROMPTS), np.arange(PROMPTS).repeat(ANSWERS)


def flips(lost: float, gained: float, before: float = 0.5) -> Drawing:
    """One yes-or-no a prompt; a share `lost` of all prompts goes from 1 to 0, `gained` the other way."""

    def draw(generator: np.random.Generator) -> tuple[Values, Values, Values]:
        right = generator.random(PROMPTS) < before
        chance = generator.random(PROMPTS)
        later = np.where(right, chance >= lost / before, chance < gained / (1 - before))
        return right.astype(float), later.astype(float), ALONE

    return draw


def numbers(shift: float, skewed: bool = False) -> Drawing:
    """One number a prompt, the difference of mean `shift` and deviation 1, normal or with a long tail below."""

    def draw(generator: np.random.Generator) -> tuple[Values, Values, Values]:
        before = generator.normal(size=PROMPTS)
        noise = 1 - generator.exponential(size=PROMPTS) if skewed else generator.normal(size=PROMPTS)
        return before, before + noise + shift, ALONE

    return draw


def grouped_numbers(shift: float) -> Drawing:
    """Four numbers a prompt, half of whose variance is the prompt's."""

    def draw(generator: np.random.Generator) -> tuple[Values, Values, Values]:
        before = generator.normal(size=GROUPED.size)
        own = generator.normal(size=PROMPTS).repeat(ANSWERS)
        return before, before + own + generator.normal(size=GROUPED.size) + shift, GROUPED

    return draw


def grouped_flips(shift: float) -> Drawing:
    """Four yes-or-no answers a prompt, each prompt with a chance of its own, which halves for some of the prompts."""

    def draw(generator: np.random.Generator) -> tuple[Values, Values, Values]:
        chance = generator.beta(1.2, 0.8, size=PROMPTS)  # of mean .6
        worse = np.where(generator.random(PROMPTS) < -shift / 0.3, chance / 2, chance)
        before, after = (generator.random((PROMPTS, ANSWERS)) < one[:, None] for one in (chance, worse))
        return before.ravel().astype(float), after.ravel().astype(float), GROUPED

    return draw


def alike(lost: float) -> Drawing:
    """Four equal answers a prompt, as greedy decoding gives them; a share `lost` of the prompts goes from 1 to 0."""

    def draw(generator: np.random.Generator) -> tuple[Values, Values, Values]:
        before, after, _ = flips(lost, 0.0, 0.6)(generator)
        return before.repeat(ANSWERS), after.repeat(ANSWERS), GROUPED

    return draw


def passes(draw: Drawing, margin: float, runs: int, share: bool) -> float:
    """How often a gate with this margin passes."""
    generator = np.random.default_rng(2026)
    count = 0
    for _ in range(runs):
        before, after, clusters = draw(generator)
        estimate = paired_estimate(before.tolist(), after.tolist(), clusters.tolist(), share=share)
        trial = Trial(estimate, -margin, "higher", "difference")
        count += judged_together([trial], corrected=False)[trial].verdict == "PASS"
    return count / runs


AT_THE_MARGIN = {
    "yes-or-no": (flips(0.1, 0.05), 0.05, True),
    "yes-or-no, next to none gained": (flips(0.05, 0.0, 0.9), 0.05, True),
    "yes-or-no, many flips": (flips(0.25, 0.2), 0.05, True),
    "numbers": (numbers(-0.1), 0.1, False),
    "skewed numbers": (numbers(-0.1, skewed=True), 0.1, False),
    "several numbers a prompt": (grouped_numbers(-0.1), 0.1, False),
    "several yes-or-no a prompt": (grouped_flips(-0.05), 0.05, True),
    "several equal answers a prompt": (alike(0.05), 0.05, True),
}
QUICK = ("yes-or-no", "numbers", "several numbers a prompt", "several yes-or-no a prompt")


@pytest.mark.parametrize("name", QUICK)
def test_false_passes_at_the_margin(name: str) -> None:
    """A model worse by exactly the margin passes at most 5 times in 100, where 2.5 are meant."""
    draw, margin, share = AT_THE_MARGIN[name]
    assert passes(draw, margin, 300, share) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", AT_THE_MARGIN)
def test_false_passes_at_the_margin_counted_long(name: str) -> None:
    """The same over 2,000 evaluations a kind, where chance moves the count by 0.35 points, skewed and rare losses too."""
    draw, margin, share = AT_THE_MARGIN[name]
    assert passes(draw, margin, 2000, share) <= 0.045


def test_as_many_prompts_as_were_said_suffice() -> None:
    """With the margin that 60 prompts resolve for numbers of deviation 1, an equal model passes in about 80 of 100."""
    margin = next(one / 1000 for one in range(1, 1000) if units_needed(1.0, one / 1000) <= PROMPTS)
    assert 0.72 < passes(numbers(0.0), margin, 400, share=False) < 0.88
