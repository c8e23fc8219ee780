"""`dpoframe generate`: a model's answers to a file of prompts."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from dpoframe.cli.eval import ModelArgument


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("generate")(generate)


def generate(
    model: ModelArgument,
    prompts: Annotated[Path, typer.Argument(metavar="PROMPTS", help="JSON Lines with a key `prompt`; `id` where there is one.")],
    out: Annotated[Path | None, typer.Option(help="The file to write; standard output unless given.", show_default=False)] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="max_new_tokens=64, temperature=0.7, samples=4, seed=1, modality.KEY=..."),
    ] = None,
) -> None:
    """Writes a model's answers as JSON Lines, in the order of the prompts.

    With --out a command that was cut off goes on where it stood.
    """
    from dpoframe.checkpoint.durable import durable, replaceable, sweep_asides
    from dpoframe.cli.output import emit
    from dpoframe.cli.story import Story
    from dpoframe.harness.writing import json_line, write_answers

    with Story({"generate": 1.0}) as story:
        if out is None:
            with tempfile.TemporaryDirectory(prefix="dpoframe-") as spare:
                answers = list(write_answers(model, prompts, Path(spare), changes=changes or (), progress=story))
        else:
            place, count = replaceable(out), 0
            kept = place.with_name(f".{place.name}.answers")
            place.parent.mkdir(parents=True, exist_ok=True)
            sweep_asides(place)
            with durable(place) as file:
                for row in write_answers(model, prompts, kept, changes=changes or (), progress=story):
                    file.write(json_line(row).encode("utf-8", "backslashreplace"))
                    count += 1
    if out is None:
        emit(answers, "".join(map(json_line, answers)))
        return
    if (kept / "blobs").is_dir():
        shutil.copytree(kept / "blobs", place.parent / "blobs", dirs_exist_ok=True)
    shutil.rmtree(kept)
    emit({"out": out, "answers": count}, f"{count:,} answers written to {out}.")
