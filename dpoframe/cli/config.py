"""`dpoframe config`: the resolved recipe, or the schema of all recipes."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from dpoframe.cli import output


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("config")(config)


def config(
    recipe: Annotated[str, typer.Argument(help="A YAML file, a run folder, or the name of a shipped recipe.")] = "",
    change: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key: trainer.lr=1e-5")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="The JSON Schema of recipes, for editors.", show_default=False)] = False,
) -> None:
    """Checks a recipe and shows it with every default."""
    from dpoframe.config import load_recipe, recipe_schema
    from dpoframe.errors import ConfigError
    from dpoframe.plugins import host

    if schema:
        made = recipe_schema(host())
        output.emit(made, json.dumps(made, indent=2))
        return
    if not recipe:
        raise ConfigError("Name a recipe: a YAML file or one that `dpoframe recipes` lists. Or give --schema.")
    resolved = load_recipe(recipe, change or ())
    output.emit(resolved.to_dict(), resolved.to_yaml())
