"""What a classifier answers: a verdict, from probabilities and thresholds."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpoframe import ConfigError, Fault
from dpoframe_moderation.classifier.labels import UNSAFE, Labels
from dpoframe_moderation.taxonomy import plain

_DECODING = ("do_sample", "max_new_tokens", "repetition_penalty", "stop", "temperature", "top_k", "top_p")
"""Settings by which language models write. A classifier writes nothing, so one suite may serve both."""


@dataclass(frozen=True)
class Answering:
    """How probabilities become a verdict.

    Attributes:
        threshold: From this probability on a label applies.
        thresholds: The same for single labels, by their names; several labels only.
    """

    threshold: float = 0.5
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def faults(self, labels: Labels | None = None) -> list[Fault]:
        """Everything wrong with the thresholds, the labels' names too where they are known."""
        given: dict[str, Any] = {"threshold": self.threshold, **{f"thresholds.{name}": at for name, at in self.thresholds.items()}}
        found = [
            Fault(name, f"{value!r} was given; it must be a number from 0 to 1.")
            for name, value in given.items()
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1
        ]
        if labels is None or not self.thresholds:
            return found
        if not labels.multi:
            return [*found, Fault("thresholds", "the classifier gives a text one label; there is one threshold for all.")]
        known = {plain(name) for name in labels.names}
        strange = [name for name in self.thresholds if plain(name) not in known]
        return found + [Fault(f"thresholds.{name}", "no such label.", f"There are {', '.join(labels.names)}.") for name in strange]

    def changed(self, settings: Mapping[str, Any], labels: Labels | None = None) -> Answering:
        """With a request's settings on top.

        Raises:
            ConfigError: One is unknown or wrong; with all faults.
        """
        own = [entry.name for entry in dataclasses.fields(self)]
        faults = [_unknown(name, own) for name in sorted(set(settings) - set(own) - set(_DECODING))]
        if not isinstance(settings.get("thresholds", {}), Mapping):
            raise ConfigError("These generation settings cannot be used:", [Fault("thresholds", "expected a number a label.")])
        made = dataclasses.replace(self, **{name: settings[name] for name in own if name in settings})
        if found := faults + made.faults(labels):
            raise ConfigError("These generation settings cannot be used:", found)
        return made

    def verdict(self, probabilities: Sequence[float], labels: Labels, safe: Sequence[str]) -> str:
        """`safe`, `unsafe`, or `unsafe` and below it the labels that apply, with commas between them.

        Of several labels, a text is unsafe where any reaches its threshold. Of labels that exclude each other, where those that
        are not `safe` do so together; the likeliest of them is named.
        """
        by_name = dict(zip(labels.names, probabilities, strict=True))
        if labels.multi:
            own = {plain(name): at for name, at in self.thresholds.items()}
            found = [name for name, value in by_name.items() if value >= own.get(plain(name), self.threshold)]
        else:
            bad = {name: value for name, value in by_name.items() if plain(name) not in {plain(one) for one in safe}}
            found = [max(bad, key=lambda name: bad[name])] if bad and sum(bad.values()) >= self.threshold else []
        if not found:
            return "safe"
        named = ", ".join(name for name in found if plain(name) != UNSAFE)
        return f"{UNSAFE}\n{named}" if named else UNSAFE


def _unknown(name: str, own: Sequence[str]) -> Fault:
    near = difflib.get_close_matches(name, own, n=1, cutoff=0.6)
    return Fault(name, "no such setting of a classifier.", f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(own)}.")
