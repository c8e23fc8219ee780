"""`dpoframe data build`: makes preference pairs out of several answers to one prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dpoframe.errors import ConfigError

if TYPE_CHECKING:
    from dpoframe.harness.pairing.sampling import Sampling


def register(group: typer.Typer) -> None:
    """Adds the verb to the group `data`."""
    group.command("build")(build)


def build(
    out: Annotated[Path, typer.Option(help="The file of pairs to write, as JSON Lines.")],
    evaluator: Annotated[str, typer.Option(help="Name of an evaluator that scores answers, or ./mine.py:Class.")],
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Folders of evaluations (RUN/eval/SUITE), and files of rows with `prompt` and `response` or `responses`, as "
            "`dpoframe generate` writes them. Answers to one prompt are compared wherever they stand.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Samples answers of this model: a run folder, a model folder, or a hub's name.", show_default=False),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(help="With --model: a suite, or a file of rows with `prompt` and what evaluators read.", show_default=False),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="With --model: answers a prompt. The suite's number, else 8, unless given.", show_default=False),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="With --model: what the answers are drawn from; 0 unless given.", show_default=False)
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            help="With --model: the folder that the sampled answers stay in, OUT.answers unless given. A command that was cut off "
            "goes on there; later it is a SOURCE.",
            show_default=False,
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Sets a key of the evaluator; with --model also generation.KEY, modality.KEY, and prompts.KEY of a suite. "
            "Repeatable.",
        ),
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
        bool,
        typer.Option("--from-reference", help="The chosen answer is the right one that the row holds, scored like the others."),
    ] = False,
    reference: Annotated[
        str | None,
        typer.Option(help="--from-reference where a row holds its right answer under this name.", show_default="reference"),
    ] = None,
    response: Annotated[
        str, typer.Option(help="Where a row of a file holds the model's answer; `responses` is a list of several.")
    ] = "response",
    media: Annotated[
        str | None,
        typer.Option(help="image, audio or video: the responses are paths of such files, not texts.", show_default=False),
    ] = None,
    copy: Annotated[
        bool,
        typer.Option("--copy/--no-copy", help="Whether files are copied into blobs/ beside --out, or named where they lie."),
    ] = True,
    devices: Annotated[int, typer.Option(min=1, help="Processes that share sampling and scoring, each with the whole model.")] = 1,
    force: Annotated[bool, typer.Option(help="Replace --out where it exists.")] = False,
) -> None:
    """Makes preference pairs of several answers to one prompt, by what any installed evaluator says of each.

    The answers are stored ones, or sampled from --model to --prompts, or both. Writes JSON Lines for `data: {name: jsonl,
    path: ...}`, each row with both scores, the evaluator and its version. The file is written whole or not at all; a
    command that was cut off goes on where it stood. Exits with 2 where no pair comes out.
    """
    from dpoframe.cli.output import emit
    from dpoframe.cli.story import Story
    from dpoframe.harness.pairing.build import Wanted, build_pairs
    from dpoframe.harness.pairing.choosing import Rule

    if out.exists() and not force:
        raise ConfigError(f"{out} exists. Give another name, or --force to replace it.")
    sampling = _sampling(model, prompts, {"samples": samples, "seed": seed, "folder": answers})
    wanted = Wanted(
        Rule(mode, margin, per_prompt, None, from_reference or reference is not None),
        reference or "reference",
        response,
        metric,
        better,
        failed_at,
        media,
        copy,
    )
    with Story({"generate": 12.0, "score": 1.0} if sampling is not None else {"score": 1.0}) as story:
        built = build_pairs(
            sources or (),
            out,
            evaluator,
            changes=changes or (),
            wanted=wanted,
            sampling=sampling,
            devices=devices,
            progress=story,
        )
    if built is not None:
        emit(built, "\n".join(built.lines()))


def _sampling(model: str | None, prompts: str | None, others: dict[str, Any]) -> Sampling | None:
    """What is to be sampled; ConfigError where an option that belongs to --model stands without it."""
    from dpoframe.harness.pairing.sampling import Sampling

    if model is not None and prompts is not None:
        return Sampling(model, prompts, **others)
    if model is not None:
        raise ConfigError("--model answers --prompts, and none are named. Give a file of rows with `prompt`, or a suite.")
    named = {"prompts": prompts, "samples": others["samples"], "seed": others["seed"], "answers": others["folder"]}
    if stray := [f"--{name}" for name, value in named.items() if value is not None]:
        raise ConfigError(f"{', '.join(stray)} belongs to --model, which says what answers are sampled from.")
    return None
