"""`dpoframe train`: aligns a model by a recipe."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dpoframe.config import Recipe


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("train")(train)


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, a run folder, or the name of a shipped recipe.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Changes a key, as in trainer.lr=1e-5; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; runs/NAME unless given.", show_default=False)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out from its last checkpoint.")] = False,
    allow_change: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ITEM",
            help="With --resume: what may differ from the run's beginning. A key or section of the recipe (trainer.lr), data, "
            "modality (tokenizer, template) or weights; repeatable.",
        ),
    ] = None,
) -> None:
    """Aligns a model with preferences, evaluating it before and after where the recipe says so.

    Ctrl-C finishes the step in hand, saves, and says how to go on.
    """
    from dpoframe.cli.output import emit, say
    from dpoframe.config import load_recipe
    from dpoframe.errors import ConfigError

    if allow_change and not resume:
        raise ConfigError("--allow-change says what may differ where a run goes on, so it belongs to --resume.")
    resolved = load_recipe(recipe, changes or ())
    folder = out or Path("runs") / resolved.name
    result = run(resolved, folder, resume, allow_change or ())
    if result.status == "interrupted":
        words = ["dpoframe", "train", recipe, *(word for change in changes or () for word in ("--set", change))]
        say(f"Interrupted after step {result.steps}. Go on with:\n  {shlex.join([*words, '--out', str(folder), '--resume'])}")
    model = result.model if result.model.is_dir() else None
    document = {"folder": folder, "status": result.status, "steps": result.steps, "final": result.final, "model": model}
    emit(document, f"{folder}: {result.status} after {result.steps} steps. {figures(result.final)}{_written(folder, model)}")
    raise typer.Exit(result.exit_code)


def _written(folder: Path, model: Path | None) -> str:
    """What there is to open: an interrupted run has neither a model nor a report yet."""
    report = folder / "report.html"
    return (f"Model: {model}" if model else "No model is written yet.") + (f"\nReport: {report}" if report.is_file() else "")


def run(recipe: Recipe, folder: Path, resume: bool, allow_changes: Collection[str] = ()) -> Any:
    """Trains, between the recipe's evaluations where it names any."""
    from dpoframe.align import align

    return align(recipe, folder, resume=resume, allow_changes=allow_changes)


def figures(final: Any) -> str:
    """The last loss and accuracy, of the validation where there is one."""
    for prefix in ("validation/", ""):
        loss, accuracy = final.get(f"{prefix}loss"), final.get(f"{prefix}rewards/accuracies")
        if isinstance(loss, float) and isinstance(accuracy, float):
            return f"{prefix.rstrip('/') or 'last'} loss {loss:.4f}, accuracy {accuracy:.2f}. "
    return ""
