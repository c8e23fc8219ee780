"""`dpoframe recipes`: the training recipes that plugins supply."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("recipes")(recipes)


def recipes() -> None:
    """Lists the recipes that `dpoframe train` knows by name."""
    from dpoframe.cli.listing import show

    show("recipe", "dpoframe train")
