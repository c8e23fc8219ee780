"""Generation settings, strict: an unknown name or a value out of range is an error that lists every fault."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from dpoframe import ConfigError, Fault

_Rule: TypeAlias = tuple[str, Callable[[Any], bool]]


@dataclass(frozen=True)
class GenerationSettings:
    """How pictures are drawn. What is None is left to the pipeline's own default.

    Attributes:
        steps: Steps of the scheduler.
        guidance_scale: Weight of classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598); 1 for none. For Flux
            the guidance that the model itself is told.
        width: Width in pixels, a multiple of 8; None for the size that the model was made for.
        height: Height likewise.
        scheduler: Class of diffusers, such as `EulerDiscreteScheduler`; None for the folder's own.
        scheduler_options: What to change in the scheduler's configuration, such as `use_karras_sigmas: true`.
        negative_prompt: What guidance leads away from, in place of the empty prompt.
        guidance_rescale: Share by which the guided prediction takes back the spread of the unguided one
            (Lin et al. 2023, arXiv 2305.08891).
        clip_skip: Takes the text encoder's state so many layers before its last.
        max_sequence_length: Most tokens that a T5 encoder reads.
        true_cfg_scale: Weight of real classifier-free guidance in Flux, which then takes a negative prompt.
        safety_checker: Whether the folder's own safety checker looks at each picture, and blackens what it objects to.
    """

    steps: int | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    scheduler: str | None = None
    scheduler_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    negative_prompt: str | None = None
    guidance_rescale: float | None = None
    clip_skip: int | None = None
    max_sequence_length: int | None = None
    true_cfg_scale: float | None = None
    safety_checker: bool = False

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> GenerationSettings:
        """Checks settings from a suite or a command line. ConfigError with all faults."""
        faults = [*_unknown(given), *_wrong(given)]
        if faults:
            raise ConfigError("These generation settings cannot be used:", faults)
        return cls(**{**given, "scheduler_options": dict(given.get("scheduler_options") or {})})

    def call(self) -> dict[str, Any]:
        """What is set of the arguments of a pipeline's call, by their names in diffusers."""
        apart = ("scheduler", "scheduler_options", "safety_checker", "steps")
        named = {name: getattr(self, name) for name in _NAMES if name not in apart}
        return {name: value for name, value in {"num_inference_steps": self.steps, **named}.items() if value is not None}


_NAMES = tuple(one.name for one in dataclasses.fields(GenerationSettings))


def _number(low: float, high: float = float("inf")) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _whole(low: int, multiple: int = 1) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and value >= low and value % multiple == 0


def _text(value: Any) -> bool:
    return isinstance(value, str)


_AT_LEAST_0: _Rule = ("a number of at least 0", _number(0))
_SIDE: _Rule = ("a multiple of 8, in pixels", _whole(8, multiple=8))
_RULES: dict[str, _Rule] = {
    "steps": ("a whole number of at least 1", _whole(1)),
    "guidance_scale": _AT_LEAST_0,
    "width": _SIDE,
    "height": _SIDE,
    "scheduler": ("the name of a class of diffusers, such as EulerDiscreteScheduler", _text),
    "scheduler_options": ("a mapping of names to values", lambda value: isinstance(value, Mapping)),
    "negative_prompt": ("a text", _text),
    "guidance_rescale": ("a number from 0 to 1", _number(0, 1)),
    "clip_skip": ("a whole number of at least 1", _whole(1)),
    "max_sequence_length": ("a whole number from 1 to 512", lambda value: _whole(1)(value) and value <= 512),
    "true_cfg_scale": _AT_LEAST_0,
    "safety_checker": ("true or false", lambda value: isinstance(value, bool)),
}
# Names that other programs have for the same.
_ALSO_KNOWN = {
    "num_inference_steps": "steps",
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "sampler": "scheduler",
}


def _unknown(given: Mapping[str, Any]) -> list[Fault]:
    found = []
    for name in sorted(set(given) - set(_NAMES)):
        near = [_ALSO_KNOWN[name]] if _ALSO_KNOWN.get(name) else difflib.get_close_matches(name, _NAMES, n=1, cutoff=0.6)
        fix = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(_NAMES)}."
        found.append(Fault(name, "no such generation setting for pictures.", fix))
    return found


def _wrong(given: Mapping[str, Any]) -> list[Fault]:
    """Faults of the values of known names; null is the default of all but the switch."""
    return [
        Fault(name, f"{given[name]!r} was given; it must be {expected}.")
        for name, (expected, holds) in _RULES.items()
        if name in given and not holds(given[name]) and not (given[name] is None and name != "safety_checker")
    ]
