"""`dpoframe data reference`: computes reference scores ahead of training."""

from __future__ import annotations

from typing import Annotated

import typer


def register(group: typer.Typer) -> None:
    """Adds the verb to the group `data`."""
    group.command("reference")(reference)


def reference(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped recipe.")],
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Changes a key; repeatable.")] = None,
) -> None:
    """Scores a recipe's pairs by its reference once, so that runs with `reference: {kind: cached}` start at once.

    The recipe's devices share the work, each with the whole model: --set trainer.devices=4. A command that was cut off goes
    on where it stood.
    """
    from dpoframe.cli.output import emit
    from dpoframe.config import load_recipe
    from dpoframe.train.precomputing import precompute_reference

    report = precompute_reference(load_recipe(recipe, changes or ()))
    emit(report, f"{report.computed:,} pairs scored; {report.scores:,} scores in {report.folder}.")
