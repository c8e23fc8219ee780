"""What may differ where a run goes on: keys that decide nothing, and what is allowed by name."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from dpoframe.config.recipe import Recipe
from dpoframe.errors import ConfigError, Fault, suggestion

# Keys that may differ when a run is resumed: they say where and how it is watched, not what it computes.
FREE = {
    "name", "description", "reporters", "trainer.log_every", "trainer.save_every", "trainer.validate_every",
    "trainer.keep_checkpoints", "trainer.keep_best_checkpoints", "trainer.save_in_background", "trainer.num_workers",
    "trainer.threads", "trainer.devices", "trainer.accelerator", "trainer.strategy", "trainer.num_nodes",
    "trainer.tokens_per_batch", "trainer.accumulate_grad_batches", "trainer.on_nonfinite",
}  # fmt: skip
WATCHING, DECIDING = "evaluate", "evaluate.keep_best"
"""Evaluations only watch, unless by them a run keeps its best weights: they then decide on these and on its end."""
# What a checkpoint's state belongs to: another of these could not take it over.
FIXED = ("trainer.optimizer", "reference.kind", "modality.name")
ITEMS = ("data", "modality", "weights")
"""Items that are no keys of a recipe."""


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by points."""
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    return {
        key: leaf for name, part in value.items() for key, leaf in flat(part, f"{prefix}.{name}" if prefix else str(name)).items()
    }


def free_keys(*recipes: Mapping[str, Any]) -> set[str]:
    """What may differ between recipes, given flat: keys, or sections of them."""
    decides = any(is_allowed(key, [DECIDING]) and value is not None for one in recipes for key, value in one.items())
    return FREE if decides else FREE | {WATCHING}


def is_allowed(key: str, allowed: Iterable[str]) -> bool:
    """Whether a key, or the section it lies in, is among `allowed`."""
    return any(key == one or key.startswith(f"{one}.") for one in allowed)


def differences(before: Mapping[str, Any], recipe: Recipe) -> list[Fault]:
    """The keys in which a recipe differs from that of the run, those that decide nothing left out.

    Of a part that is another one only its name is told, since its keys are others as well.
    """
    then, now = flat(before), flat(json.loads(json.dumps(recipe.to_dict())))
    free = free_keys(then, now)
    changed = [key for key in sorted({*then, *now}) if then.get(key) != now.get(key) and not is_allowed(key, free)]
    changed = [key for key in changed if not any(inner.startswith(f"{key}.") for inner in changed)]  # a section that was empty
    other = tuple(key.removesuffix("name") for key in changed if key.endswith(".name"))
    told = [key for key in changed if key.endswith(".name") or not key.startswith(other)]
    return [Fault(key, f"the run has {then.get(key)!r}, the recipe now says {now.get(key)!r}.") for key in told]


def require_items(allowed: Collection[str], recipe: Recipe) -> None:
    """Raises `ConfigError` where `allowed` names something that no run could differ in, or that no run can go on with."""
    sections = {key.rsplit(".", depth)[0] for key in flat(recipe.to_dict()) for depth in range(key.count(".") + 1)}
    known = {*ITEMS, *sections, *flat(recipe.to_dict())}
    faults = []
    for item in allowed:
        if fixed := [key for key in FIXED if key == item]:
            faults.append(
                Fault(f"--allow-change {item}", f"a run cannot go on with another {fixed[0]}: its state is of no use there.")
            )
        elif item not in known and not item.startswith("modality."):
            faults.append(Fault(f"--allow-change {item}", "there is nothing of that name.", suggestion(item, known)))
    if faults:
        raise ConfigError("What may change cannot be used:", faults)


def note_changes(file: Path, step: int, changes: Iterable[Fault]) -> None:
    """Adds what was allowed to change to `file`, one JSON object a line, so that the run's folder tells of it."""
    lines = [json.dumps({"step": step, "item": change.where, "change": change.message}) + "\n" for change in changes]
    if lines:
        with file.open("a", encoding="utf-8") as opened:
            opened.writelines(lines)
