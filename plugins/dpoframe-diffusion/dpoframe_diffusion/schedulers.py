"""Schedulers by the names of their classes in diffusers."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dpoframe import Fault
from dpoframe_diffusion.quiet import quiet

if TYPE_CHECKING:
    from dpoframe_diffusion.loading import Location

_FLOW = "FlowMatch"


def known() -> dict[str, Any]:
    """The schedulers of the diffusers that is installed."""
    import diffusers
    from diffusers import SchedulerMixin

    names = [name for name in dir(diffusers) if name.endswith("Scheduler") and not name.startswith("Flax")]
    found = {name: getattr(diffusers, name, None) for name in names}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, SchedulerMixin)}


def scheduler_faults(location: Location, name: str | None, options: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with a scheduler for a pipeline, before anything is loaded.

    Args:
        location: The pipeline.
        name: The class; None for the pipeline's own.
        options: Changes to its configuration.
    """
    own = str((location.index.get("scheduler") or [None, ""])[1])
    kinds = known()
    if name is not None and name not in kinds:
        if lacking := _lacking(name):
            return [Fault("scheduler", f"{name} needs {lacking}, which is not installed.", f"pip install {lacking}")]
        near = difflib.get_close_matches(name, [*kinds, *(kind.removesuffix("Scheduler") for kind in kinds)], n=1, cutoff=0.5)
        fix = f"Did you mean {near[0].removesuffix('Scheduler') + 'Scheduler'!r}?" if near else f"Known are {', '.join(kinds)}."
        return [Fault("scheduler", f"diffusers has no {name!r}.", fix)]
    chosen = name or own
    return [*_unsuited(own, chosen, options), *_unknown(chosen, kinds.get(chosen), options)]


def _lacking(name: str) -> str:
    """The library without which diffusers has but a stand-in of that name; empty where there is no such class at all."""
    import diffusers

    backends = getattr(getattr(diffusers, name, None), "_backends", None) if name.endswith("Scheduler") else None
    return next((library for library in backends or () if importlib.util.find_spec(library) is None), "")


def _unsuited(own: str, chosen: str, options: Mapping[str, Any]) -> list[Fault]:
    """A scheduler that undoes another kind of noise than the model was trained on draws nothing but noise."""
    flow = chosen.startswith(_FLOW) or bool(options.get("use_flow_sigmas"))
    if flow == own.startswith(_FLOW):
        return []
    if flow:
        return [Fault("scheduler", f"{chosen} is for flow matching, and this pipeline was trained with {own}.")]
    fix = f"Take one whose name starts with {_FLOW}, or set scheduler_options: {{use_flow_sigmas: true}} where it has that."
    return [Fault("scheduler", f"{chosen} is not for flow matching, and this pipeline was trained with {own}.", fix)]


def _unknown(chosen: str, kind: Any, options: Mapping[str, Any]) -> list[Fault]:
    taken = [name for name in inspect.signature(kind.__init__).parameters if name != "self"] if kind is not None else []
    found = []
    for name in sorted(set(options) - set(taken)):
        near = difflib.get_close_matches(name, taken, n=1, cutoff=0.6)
        fix = f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(taken)}."
        found.append(Fault(f"scheduler_options.{name}", f"{chosen} has no such option.", fix))
    return found


def made(own: Any, name: str | None, options: Mapping[str, Any]) -> Any:
    """A fresh scheduler: of class `name`, else of `own`'s, with `own`'s configuration changed by `options`."""
    kind = type(own) if name is None else known()[name]
    with quiet():
        return kind.from_config(own.config, **options)
