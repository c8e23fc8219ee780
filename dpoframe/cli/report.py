"""`dpoframe report`: one HTML page of a run, or of several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("report")(report)


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run folders or evaluation folders. With several the first is the baseline."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The page; report.html in the run's folder, or here for several, unless given.", show_default=False),
    ] = None,
    gate: Annotated[Path | None, typer.Option(help="A gate file whose verdicts go into the page.", show_default=False)] = None,
) -> None:
    """Writes one self-contained HTML page: figures with intervals, answers side by side, and where it all came from.

    One run is told base against aligned, two as a comparison, more as a leaderboard.
    """
    from dpoframe.cli.output import emit
    from dpoframe.harness.report import report as write

    page = write(runs, out, gate)
    size = page.stat().st_size
    emit({"report": page, "bytes": size, "runs": runs, "gate": gate}, f"Report: {page} ({size / 1000:,.0f} kB)")
