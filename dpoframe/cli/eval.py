"""`dpoframe eval`: suites on a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dpoframe.harness import SuiteResult

STAGES = {"generate": 12.0, "prepare answers": 0.2, "answers": 2.0, "prepare pairs": 0.2, "pairs": 6.0, "score": 1.0}
"""What the stages of a suite cost against one another: only their ratios count, the pace is measured."""

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A run folder, an exported model folder, or a name on the Hugging Face hub.")
]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("eval")(evaluate)


def evaluate(
    model: ModelArgument,
    suites: Annotated[
        list[str], typer.Argument(metavar="SUITE...", help="Names that `dpoframe suites` lists, YAML files, or lm_eval:TASK.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Results go into a folder of the suite's name in here.", show_default="RUN/eval")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N prompts and pairs; marked as partial.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Changes a suite's key, or the model's: generation.temperature=0, modality.dtype=bfloat16.",
        ),
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="Processes that share the work, each with the whole model.")] = 1,
    base: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The model to compare with.", show_default="what the run was trained from")
    ] = None,
) -> None:
    """Evaluates a model on benchmark suites: writes answers, scores them, and shows figures with 95 % intervals.

    What is stored already is not done again, so a command that was cut off goes on where it stood.
    """
    from dpoframe.cli.output import emit
    from dpoframe.cli.story import Story
    from dpoframe.harness.evaluate import evaluate as run

    whole = [f"{head}{_name(suite)}" for suite in suites for head in ("base/", "")]
    with Story({f"{one}/{stage}": cost for one in whole for stage, cost in STAGES.items()}) as story:
        found = run(
            model,
            suites,
            out=out,
            limit=limit,
            changes=changes or (),
            devices=devices,
            base=base,
            progress=story,
        )
    emit(document(found), shown(found))


def document(found: Sequence[SuiteResult]) -> dict[str, Any]:
    """The results for a machine: each suite's results.json, its folder, and the limit where there was one."""
    from dpoframe.harness import EvalFolder

    rows = [{**EvalFolder(one.folder).document("results.json"), "folder": one.folder, "limit": one.limit} for one in found]
    return {"model": found[0].model if found else None, "suites": rows}


def shown(found: Sequence[SuiteResult]) -> RenderableType:
    """The results for a person: a table a suite, with what is missing from it."""
    from rich.console import Group
    from rich.text import Text

    from dpoframe.cli import output

    parts: list[RenderableType] = []
    for one in found:
        parts.append(Text(output.escaped(f"{one.suite}: {one.model}"), style="bold"))
        rows = [(name, _figure(metric.interval), metric.interval.n, metric.unscored or "") for name, metric in one.metrics.items()]
        parts.append(output.table(["metric", "value [95 % interval]", "n", "unscored"], rows))
        if one.limit is not None:
            parts.append(Text(f"Partial: only the first {one.limit} prompts and pairs were asked for.", style="yellow"))
        elif not one.complete:
            parts.append(
                Text(
                    "Incomplete: a figure has no samples, or some are to be asked again. Reasons of samples: scores.jsonl.",
                    style="yellow",
                )
            )
        parts += [
            Text(output.escaped(f"{name}: {metric.reason}"), style="yellow")
            for name, metric in one.metrics.items()
            if metric.reason
        ]
        parts.append(Text(output.escaped(f"{one.folder}\n"), style="dim"))
    return Group(*parts)


def _figure(interval: Any) -> str:
    import math

    if not math.isfinite(interval.value):
        return "unknown"
    known = math.isfinite(interval.low) and math.isfinite(interval.high)
    return f"{interval.value:.4g} [{interval.low:.4g}, {interval.high:.4g}]" if known else f"{interval.value:.4g}"


def _name(suite: str) -> str:
    """The name that progress is told under: a file's own is not known yet."""
    return Path(suite).stem if suite.endswith((".yaml", ".yml")) else suite
