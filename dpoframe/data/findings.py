"""What is doubtful about a preference set as a whole, told in one pass."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from dpoframe.data.checks import Checked
from dpoframe.data.codes import CODES
from dpoframe.data.digest_set import DigestSet
from dpoframe.types import Content

LEAST_ROWS = 20
"""Fewer pairs than this tell nothing about a set."""
_SKEW = 0.6
_CONFOUND = 0.9
_MAX_AUTHORS = 1000
_AUTHORS = (("chosen_source", "rejected_source"), ("chosen_author", "rejected_author"), ("chosen_model", "rejected_model"),
            ("chosen-model", "rejected-model"))  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing found about the set: its stable code, what was measured in words, and the figures."""

    code: str
    message: str
    figures: Mapping[str, float]

    @property
    def kind(self) -> str:
        """`finding` or `note`, see `codes.Code`."""
        return CODES[self.code].kind


@dataclass
class SetStatistics:
    """Sums over pairs that passed the checks; memory grows by 16 to 32 bytes a distinct prompt."""

    pairs: int = 0
    unit: str = "characters"
    longer: int = 0
    shorter: int = 0
    difference: float = 0.0
    squares: float = 0.0
    truncated: int = 0
    repeated: int = 0
    contradictions: int = 0
    prompts: DigestSet = field(default_factory=DigestSet)
    authors: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, checked: Checked, seen: Collection[bytes]) -> None:
        """Takes in one pair; `seen` are the digests of the pairs that passed so far."""
        pair = checked.pair
        difference = checked.lengths[0] - checked.lengths[1]
        self.pairs += 1
        self.unit = checked.unit
        self.longer += difference > 0
        self.shorter += difference < 0
        # Welford's update: exact enough at any count.
        step = difference - self.difference
        self.difference += step / self.pairs
        self.squares += step * (difference - self.difference)
        self.truncated += checked.truncated
        self.repeated += _begins_with(pair.prompt, pair.chosen) and _begins_with(pair.prompt, pair.rejected)
        self.contradictions += checked.swapped in seen
        self.prompts.add(checked.prompt)
        for chosen, rejected in _AUTHORS:
            key = (str(pair.meta.get(chosen)), str(pair.meta.get(rejected)))
            if chosen in pair.meta and rejected in pair.meta and (key in self.authors or len(self.authors) < _MAX_AUTHORS):
                self.authors[key] += 1

    def findings(self) -> list[Finding]:
        """Everything found, findings before notes."""
        found = [*self._length_bias(), *self._confounds(), *self._counts()]
        return sorted(found, key=lambda finding: finding.kind)

    def length(self) -> Mapping[str, float]:
        """Share of pairs whose chosen response is the longer one and mean difference of lengths, with 95 % intervals."""
        if self.pairs < 2:
            return {}
        from scipy.stats import t

        low, high = wilson(self.longer, self.longer + self.shorter)
        half = float(t.ppf(0.975, self.pairs - 1)) * math.sqrt(self.squares / (self.pairs - 1) / self.pairs)
        return {
            "chosen_longer": self.longer / max(1, self.longer + self.shorter),
            "chosen_longer_low": low,
            "chosen_longer_high": high,
            "mean_difference": self.difference,
            "mean_difference_low": self.difference - half,
            "mean_difference_high": self.difference + half,
        }

    def _length_bias(self) -> Iterator[Finding]:
        told = self.longer + self.shorter
        figures = self.length()
        if told < LEAST_ROWS or not (figures["chosen_longer_low"] > _SKEW or figures["chosen_longer_high"] < 1 - _SKEW):
            return
        yield Finding(
            "length-bias",
            f"The chosen response is the longer one in {figures['chosen_longer']:.1%} of the {told:,} pairs of unequal length "
            f"(95 % interval {figures['chosen_longer_low']:.1%} to {figures['chosen_longer_high']:.1%}), by "
            f"{self.difference:+.1f} {self.unit} on average ({figures['mean_difference_low']:+.1f} to "
            f"{figures['mean_difference_high']:+.1f}).",
            figures,
        )

    def _confounds(self) -> Iterator[Finding]:
        for first, second in sorted({(min(key), max(key)) for key in self.authors if key[0] != key[1]}):
            wins, losses = self.authors[first, second], self.authors[second, first]
            winner, loser = (first, second) if wins >= losses else (second, first)
            low, high = wilson(max(wins, losses), wins + losses)
            if wins + losses >= LEAST_ROWS and low > _CONFOUND:
                share = max(wins, losses) / (wins + losses)
                yield Finding(
                    "source-confound",
                    f"{winner!r} is chosen over {loser!r} in {share:.1%} of {wins + losses:,} pairs: "
                    "the model may learn who wrote a response instead of what is better in it.",
                    {"share": share, "share_low": low, "share_high": high, "pairs": wins + losses},
                )

    def _counts(self) -> Iterator[Finding]:
        if 2 * self.repeated > self.pairs >= LEAST_ROWS:
            yield self._share("prompt-repeated", self.repeated, "have the whole prompt at the start of both responses")
        if self.contradictions:
            yield self._share("contradiction", self.contradictions, "occur in the opposite order as well")
        if self.truncated:
            yield self._share("truncated", self.truncated, "are cut to the length limit")
        if again := self.pairs - len(self.prompts):
            yield self._share("duplicate-prompt", again, "have a prompt that occurred before")

    def _share(self, code: str, count: int, words: str) -> Finding:
        return Finding(code, f"{count:,} of {self.pairs:,} pairs {words}.", {"pairs": count, "share": count / self.pairs})


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; 0 to 1 where there is no trial."""
    if not trials:
        return 0.0, 1.0
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _begins_with(prompt: Content, response: Content) -> bool:
    return isinstance(prompt, str) and isinstance(response, str) and response.startswith(prompt)
