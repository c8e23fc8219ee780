"""`dpoframe data build`: makes preference pairs out of several answers to one prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dpoframe.errors import ConfigError


def register(group: typer.Typer) -> None:
    """Adds the verb to the group `data`."""
    group.command("build")(build)


def build(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="Folders of evaluations (RUN/eval/SUITE), and files of rows with `prompt` and `response` or `responses`, as "
            "`dpoframe generate` writes them. Answers to one prompt are compared wherever they stand.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The file of pairs to write, as JSON Lines.")],
    evaluator: Annotated[str, typer.Option(help="Name of an evaluator that scores answers, or ./mine.py:Class.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Sets a key of the evaluator; repeatable.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="The metric that decides; the evaluator's primary one unless given.", show_default=False)
    ] = None,
    better: Annotated[
        Literal["higher", "lower"] | None,
        typer.Option(help="Which way the metric is better, where its scale does not say.", show_default=False),
    ] = None,
    mode: Annotated[
        Literal["best-worst", "all", "failed"],
        typer.Option(
            help="best-worst: the best answer to a prompt against the worst. all: every two. failed: each answer that the "
            "evaluator flags as failed against the best that it does not."
        ),
    ] = "best-worst",
    margin: Annotated[float, typer.Option(min=0, help="Answers that differ by no more than this are tied, and left out.")] = 0.0,
    per_prompt: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Pairs of one prompt at most, those of the largest margin. 1 for best-worst, else all, unless given.",
            show_default=False,
        ),
    ] = None,
    failed_at: Annotated[
        float | None,
        typer.Option(
            help="For --mode failed: the value at which an answer has failed, and beyond; the scale's bad end unless given.",
            show_default=False,
        ),
    ] = None,
    from_reference: Annotated[
        bool, typer.Option("--from-reference", help="The chosen answer is the row's `reference`, scored like the others.")
    ] = False,
    media: Annotated[
        str | None,
        typer.Option(help="image, audio or video: the responses are paths of such files, not texts.", show_default=False),
    ] = None,
    copy: Annotated[
        bool,
        typer.Option("--copy/--no-copy", help="Whether files are copied into blobs/ beside --out, or named where they lie."),
    ] = True,
    force: Annotated[bool, typer.Option(help="Replace --out where it exists.")] = False,
) -> None:
    """Makes preference pairs of several answers to one prompt, by what any installed evaluator says of each.

    Writes JSON Lines for `data: {name: jsonl, path: ...}`, each row with both scores, the evaluator and its version. The file
    is written whole or not at all. Exits with 2 where no pair comes out.
    """
    from dpoframe.cli.output import emit
    from dpoframe.cli.story import Story
    from dpoframe.harness.pairing.build import Wanted, build_pairs
    from dpoframe.harness.pairing.choosing import Rule

    if out.exists() and not force:
        raise ConfigError(f"{out} exists. Give another name, or --force to replace it.")
    wanted = Wanted(Rule(mode, margin, per_prompt, None, from_reference), metric, better, failed_at, media, copy)
    with Story({"score": 1.0}) as story:
        built = build_pairs(sources, out, evaluator, changes=changes or (), wanted=wanted, progress=story)
    emit(built, "\n".join(built.lines()))
