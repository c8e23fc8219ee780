"""`dpoframe ray`: trains and scores on a Ray cluster."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from dpoframe.errors import ConfigError

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A YAML file, a run folder, or the name of a shipped recipe.")
]
ChangesOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Changes a key, as in trainer.lr=1e-5; repeatable.")
]
WorkersOption = Annotated[int, typer.Option(min=1, help="Processes that share the work, each with the whole model.")]
CpusOption = Annotated[int, typer.Option(min=1, help="Processors that Ray keeps for each.")]
GpusOption = Annotated[
    int | None,
    typer.Option(min=0, max=1, help="GPUs that Ray keeps for each; 1 where the cluster has any.", show_default=False),
]
AddressOption = Annotated[
    str | None,
    typer.Option(help="The cluster's, or auto; RAY_ADDRESS unless given, else this machine alone.", show_default=False),
]
RetriesOption = Annotated[int, typer.Option(min=-1, help="How often lost workers are started again; -1 for always.")]


def register(app: typer.Typer) -> None:
    """Adds the verbs."""
    group = typer.Typer(name="ray", help="Trains and scores on a Ray cluster (extra: ray).", no_args_is_help=True)
    group.command("train")(train)
    group.command("reference")(reference)
    app.add_typer(group)


def train(
    recipe: RecipeArgument,
    changes: ChangesOption = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder, which all workers see; runs/NAME unless given.", show_default=False)
    ] = None,
    workers: WorkersOption = 2,
    cpus_per_worker: CpusOption = 1,
    gpus_per_worker: GpusOption = None,
    address: AddressOption = None,
    retries: RetriesOption = 3,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out from its last checkpoint.")] = False,
    allow_change: Annotated[
        list[str] | None,
        typer.Option(metavar="ITEM", help="With --resume: what may differ from the run's beginning, as for train; repeatable."),
    ] = None,
) -> None:
    """As train, on Ray's workers. When one is lost, Ray starts all of them again, and the run goes on from its last checkpoint.

    Ctrl-C finishes the step in hand, saves, and says how to go on.
    """
    from dpoframe.cli.output import emit, say
    from dpoframe.cli.train import figures
    from dpoframe.config import load_recipe
    from dpoframe.launching import Workers, train_on_ray

    if allow_change and not resume:
        raise ConfigError("--allow-change says what may differ where a run goes on, so it belongs to --resume.")
    resolved = load_recipe(recipe, changes or ())
    done = train_on_ray(
        resolved,
        out or Path("runs") / resolved.name,
        workers=Workers(workers, cpus_per_worker, gpus_per_worker),
        resume=resume,
        allow_changes=allow_change or (),
        retries=retries,
        address=address,
    )
    if done.status == "interrupted":
        words = ["dpoframe", "ray", "train", recipe, *(word for change in changes or () for word in ("--set", change))]
        words += ["--workers", str(workers), *(["--address", address] if address else [])]
        again = shlex.join([*words, "--out", str(done.folder), "--resume"])
        say(f"Interrupted after step {done.steps}. Go on with:\n  {again}")
    model = done.model if done.model.is_dir() else None
    tries = f" in {done.tries} tries" if done.tries > 1 else ""
    document = {"folder": done.folder, "status": done.status, "steps": done.steps, "tries": done.tries, "final": done.final}
    text = f"{done.folder}: {done.status} after {done.steps} steps{tries}. {figures(done.final)}"
    emit({**document, "model": model}, text + (f"Model: {model}" if model else "No model is written yet."))
    raise typer.Exit(done.exit_code)


def reference(
    recipe: RecipeArgument,
    changes: ChangesOption = None,
    workers: WorkersOption = 2,
    cpus_per_worker: CpusOption = 1,
    gpus_per_worker: GpusOption = None,
    address: AddressOption = None,
    retries: RetriesOption = 3,
) -> None:
    """As data reference, on Ray's workers: scores a recipe's pairs by its reference, for `reference: {kind: cached}`."""
    from dpoframe.cli.output import emit
    from dpoframe.config import load_recipe
    from dpoframe.launching import Workers, reference_on_ray

    chosen = Workers(workers, cpus_per_worker, gpus_per_worker)
    report = reference_on_ray(load_recipe(recipe, changes or ()), workers=chosen, retries=retries, address=address)
    emit(report, f"{report.computed:,} pairs scored; {report.scores:,} scores in {report.folder}.")
