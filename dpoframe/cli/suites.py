"""`dpoframe suites`: the benchmark suites that plugins supply."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("suites")(suites)


def suites() -> None:
    """Lists the benchmark suites that a recipe's `evaluate:` knows by name."""
    from dpoframe.cli.listing import show

    show("suite", "evaluate: [...] in a recipe")
