"""`dpoframe suites`: the benchmark suites that plugins supply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from dpoframe.cli import output


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("suites")(suites)


def suites() -> None:
    """Lists the benchmark suites: what they ask and measure, what they need, and whether they can run here."""
    from dpoframe.plugins import host

    found = host()
    rows = [described(found, name) for name in found.names("suite")]
    if not rows:
        output.emit([], "No installed plugin supplies a suite. Install one, such as: pip install dpoframe-evals")
        return
    cells = [_cells(row) for row in rows]
    output.emit(rows, output.table(["name", "version", "what it does", "asks", "measures", "needs", "runs here", "from"], cells))
    for row in rows:
        for reason in row["refused"]:
            output.say(f"{row['name']}: {reason}", style="yellow")
    output.say("Use a name with: dpoframe eval MODEL NAME, or evaluate: [NAME] in a recipe", style="dim")
    output.say("Tasks of lm-evaluation-harness go by lm_eval:TASK, a file of your own by its path.", style="dim")


def described(host: Any, name: str) -> dict[str, Any]:
    """One suite as plain values. One that cannot be read is listed with its fault, and stops nothing."""
    from dpoframe.cli.listing import described as first_words
    from dpoframe.errors import DpoframeError
    from dpoframe.harness.suites.needs import needs, refusals
    from dpoframe.harness.suites.suite_file import read_suite

    row: dict[str, Any] = {"name": name, "description": "", "distribution": "", "path": "", "usable": False}
    row |= {"version": None, "prompts": None, "pairs": None, "samples": None, "evaluators": [], "needs": [], "refused": []}
    try:
        row["distribution"] = host.owner("suite", name).distribution
        file = Path(host.get("suite", name))
        row |= {"path": str(file), "description": first_words(file)}
        suite = read_suite(name, host)
    except DpoframeError as error:
        return {**row, "refused": [str(error)]}
    refused = [str(one) for one in refusals(suite)]
    return {
        **row,
        "version": suite.version,
        "prompts": len(suite.prompts),
        "pairs": len(suite.pairs),
        "samples": suite.samples,
        "evaluators": [one.spec.id for one in suite.evaluators],
        "digest": suite.digest(),
        "needs": needs(suite),
        "usable": not refused,
        "refused": refused,
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    counts = [(row["prompts"], "prompts"), (row["pairs"], "pairs"), (row["samples"], "answers each")]
    asks = ", ".join(f"{count} {what}" for count, what in counts if count and not (what == "answers each" and count == 1))
    version, measures = str(row["version"] or ""), ", ".join(row["evaluators"])
    runs = "yes" if row["usable"] else "no"
    return row["name"], version, row["description"], asks, measures, "; ".join(row["needs"]), runs, row["distribution"]
