"""Generation settings, strict: an unknown name or a value out of range is an error that lists every fault."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpoframe import ConfigError, Fault


@dataclass(frozen=True)
class GenerationSettings:
    """How answers are drawn.

    Attributes:
        max_new_tokens: Most tokens of an answer.
        temperature: Logits are divided by it; 0 takes the likeliest token every time.
        do_sample: Whether to draw; None draws where the temperature is above 0. True with temperature 0 draws at 1.
        top_p: Draws among the likeliest tokens that hold this share of the probability.
        top_k: Draws among this many likeliest tokens; 0 for all.
        repetition_penalty: Divides the logits of tokens that occurred (Keskar et al. 2019, arXiv 1909.05858); 1 for none.
        stop: Strings that end an answer; they are not part of it.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    do_sample: bool | None = None
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()

    @property
    def samples(self) -> bool:
        """Whether answers are drawn at random."""
        return self.temperature > 0 if self.do_sample is None else self.do_sample

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> GenerationSettings:
        """Checks settings from a suite or a command line. ConfigError with all faults."""
        faults = [*_unknown(given), *_wrong(given)]
        if faults:
            raise ConfigError("These generation settings cannot be used:", faults)
        known = dict(given)
        if isinstance(known.get("stop"), str):
            known["stop"] = (known["stop"],)
        return cls(**{**known, "stop": tuple(known.get("stop") or ())})


_NAMES = tuple(field.name for field in dataclasses.fields(GenerationSettings))
_INTEGERS = {"max_new_tokens": 1, "top_k": 0}


def _unknown(given: Mapping[str, Any]) -> list[Fault]:
    found = []
    for name in sorted(set(given) - set(_NAMES)):
        near = difflib.get_close_matches(name, _NAMES, n=1, cutoff=0.6)
        fix = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(_NAMES)}."
        found.append(Fault(name, "no such generation setting.", fix))
    return found


def _wrong(given: Mapping[str, Any]) -> list[Fault]:
    """Faults of the values of known names."""
    rules = {
        **{name: (f"a whole number of at least {low}", _whole(low)) for name, low in _INTEGERS.items()},
        "temperature": ("a number of at least 0", lambda value: _number(value) and value >= 0),
        "top_p": ("a number above 0 and at most 1", lambda value: _number(value) and 0 < value <= 1),
        "repetition_penalty": ("a number above 0", lambda value: _number(value) and value > 0),
        "do_sample": ("true, false or null", lambda value: value is None or isinstance(value, bool)),
        "stop": ("a string or a list of strings that are not empty", _strings),
    }
    return [
        Fault(name, f"{given[name]!r} was given; it must be {expected}.")
        for name, (expected, holds) in rules.items()
        if name in given and not holds(given[name])
    ]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(low: int) -> Any:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= low


def _strings(value: Any) -> bool:
    listed = [value] if isinstance(value, str) else value
    return listed is None or (isinstance(listed, list | tuple) and all(isinstance(text, str) and text for text in listed))
