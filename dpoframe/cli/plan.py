"""`dpoframe plan`: what a run will take, before any weight is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dpoframe.planning import Plan

_HARDWARE = "A name such as h100 or a100-40gb, numbers as in 312T:80G (operations a second, bytes), or this-machine."
_UTILISATION = "The share of the hardware's peak that training reaches, in place of the one assumed."


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("plan")(plan)


def plan(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, a run folder, or the name of a shipped recipe.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Changes a key, as in trainer.lr=1e-5; repeatable.")
    ] = None,
    hardware: Annotated[str, typer.Option(metavar="NAME", help=_HARDWARE)] = "this-machine",
    utilisation: Annotated[float | None, typer.Option(metavar="SHARE", help=_UTILISATION, show_default=False)] = None,
) -> None:
    """Says what a run will take: parameters, memory by part, operations, tokens, and time on given hardware."""
    from dpoframe.cli.output import emit
    from dpoframe.config import load_recipe
    from dpoframe.planning import find_hardware, make_plan

    resolved = load_recipe(recipe, changes or ())
    made = make_plan(resolved, find_hardware(hardware, utilisation, resolved.trainer.threads))
    emit(document(made), "\n".join(lines(made)))


def document(made: Plan) -> dict[str, Any]:
    """The plan as plain values, totals and fit among them."""
    from dataclasses import asdict

    from dpoframe.planning import PARTS

    found = asdict(made)
    if made.memory is not None:
        size, shape = made.memory.largest
        found["memory"] = {
            "parts": dict(made.memory.parts),
            "meaning": {name: PARTS[name] for name in made.memory.parts},
            "total": made.memory.total,
            "sharing": made.memory.sharing,
            "together": made.memory.together,
            "largest_tensor": {"bytes": size, "shape": list(shape)},
            "fits": made.memory.together <= made.hardware.memory,
        }
    return found


def lines(made: Plan) -> Iterator[str]:
    """The plan for a person."""
    known = "pairs read on the way" if made.pairs is None else f"{made.pairs:,} pairs to train on"
    yield f"{made.name}: {made.steps:,} steps of {made.batch_size:,} pairs, {known}{_held(made)}"
    yield ""
    yield from _rows(_size(made))
    if made.memory is not None:
        share = made.memory.together / made.hardware.memory
        yield ""
        yield "memory of one device at the peak of a step, in MiB"
        yield from _rows(_memory(made))
        verdict = "fits" if share <= 1 else "DOES NOT FIT"
        ranks = f"{made.memory.sharing} ranks in one memory, " if made.memory.sharing > 1 else ""
        yield f"  {verdict}: {ranks}{share:.0%} of the {made.hardware.memory / 2**30:,.0f} GiB of {made.hardware.name}"
    if made.operations is not None:
        yield ""
        yield from _rows(_cost(made))
    if made.notes:
        yield ""
        yield from (f"note: {note}" for note in made.notes)


def _held(made: Plan) -> str:
    return f", {made.validation:,} to validate on" if made.validation else ""


def _size(made: Plan) -> Iterator[tuple[str, str]]:
    if made.parameters is not None and made.trainable is not None:
        types = ", ".join(f"{name} {count:,}" for name, count in made.types.items())
        yield "parameters", f"{made.parameters:,} ({types})"
        yield "trained", f"{made.trainable:,} ({made.trainable / max(1, made.parameters):.2%})"
    if made.epochs is not None:
        yield "epochs", f"{made.epochs:.3g}"
    yield "tokens a step", f"{made.tokens_per_step:,.0f}"
    yield "tokens in all", f"{made.tokens:,.0f}"


def _memory(made: Plan) -> Iterator[tuple[str, str]]:
    from dpoframe.planning import PARTS

    assert made.memory is not None
    for name, size in made.memory.parts.items():
        yield name, f"{size / 2**20:>10,.1f}  {PARTS[name]}"
        if name == "activations":
            largest, shape = made.memory.largest
            yield "  largest tensor", f"{largest / 2**20:>10,.1f}  of shape {' x '.join(map(str, shape))}, within the activations"
    yield "in all", f"{made.memory.total / 2**20:>10,.1f}"


def _cost(made: Plan) -> Iterator[tuple[str, str]]:
    work, device = made.operations, made.hardware
    assert work is not None
    yield "operations a step", f"{work.step:.3g}"
    if work.beforehand:
        yield "of the reference beforehand", f"{work.beforehand:.3g}"
    if work.validation:
        yield "of validation", f"{work.validation:.3g}"
    yield "operations in all", f"{work.run:.3g}"
    yield "hardware", f"{made.devices} x {device.name}, peak {device.float32 / 1e12:,.3g} TFLOP/s in float32 and "
    yield "", f"{device.half / 1e12:,.3g} in 16 bits ({device.source}), of which {device.utilisation:.0%} is assumed to be reached"
    yield "time a step", duration(made.seconds_per_step or 0)
    yield "time in all", duration(made.seconds or 0)


def _rows(pairs: Iterator[tuple[str, str]]) -> Iterator[str]:
    """Names and values in two columns."""
    found = list(pairs)
    width = max(len(name) for name, _ in found)
    return (f"  {name:<{width}}  {value}".rstrip() for name, value in found)


def duration(seconds: float) -> str:
    """Seconds, minutes, hours or days."""
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.3g} seconds"
