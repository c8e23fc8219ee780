"""The whole story of a recipe: evaluate the model, align it, evaluate it again, compare, report."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dpoframe.card_samples import add_samples
from dpoframe.config.recipe import Recipe
from dpoframe.config.retention import VALIDATION
from dpoframe.errors import ConfigError, DataError, Fault, suggestion
from dpoframe.harness import BASE, Comparison, Progress, Subject, Suite, compare, load_suite, report, run_suite
from dpoframe.harness.subject import silent
from dpoframe.harness.suites.loading import require_one_name
from dpoframe.modality import Modality
from dpoframe.plugins import PluginHost
from dpoframe.plugins import host as installed
from dpoframe.telling import tell

if TYPE_CHECKING:
    from torch import nn

    from dpoframe.config.sections import KeepBest
    from dpoframe.train.evaluating import Evaluating
    from dpoframe.train.fit import FitResult
    from dpoframe.train.folder import RunFolder


@dataclass(frozen=True)
class Alignment:
    """How it ended: the training, and one comparison a suite; `report` is None where nothing was compared."""

    fit: FitResult
    comparisons: tuple[Comparison, ...] = ()
    report: Path | None = None

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.fit.folder

    @property
    def steps(self) -> int:
        """Optimizer steps done."""
        return self.fit.steps

    @property
    def status(self) -> str:
        """How the training ended, `finished` or `interrupted`."""
        return self.fit.status

    @property
    def exit_code(self) -> int:
        """0, or 128 plus the number of the signal that interrupted the training."""
        return self.fit.exit_code

    @property
    def model(self) -> Path:
        """The exported model."""
        return self.fit.model

    @property
    def final(self) -> Mapping[str, Any]:
        """The last value of each training metric, and `eval/<suite>.<metric>` of the aligned model."""
        measured = {f"eval/{one.suite}.{row.metric}": row.after.value for one in self.comparisons for row in one.differences}
        alone = {
            f"eval/{one.suite}.{metric}": one.figures[metric]["value"]
            for one in self.comparisons
            for metric in one.left_out
            if (one.figures.get(metric) or {}).get("value") is not None
        }
        return {**self.fit.final, **measured, **alone}


def align(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    allow_changes: Collection[str] = (),
    host: PluginHost | None = None,
    progress: Progress | None = None,
) -> Alignment:
    """Evaluates the suites of `recipe.evaluate`, fits, evaluates them again, and writes report.html into the run folder.

    The base's evaluations lie in `out`/base/eval, the aligned model's in `out`/eval. With `resume` what is there already
    is not done again, and a run whose training is finished is evaluated only. Ranks other than the first only train, and wait
    while the first evaluates on the way, where `recipe.during` says so.
    From before the base is evaluated until the report is written no other process can claim the folder.

    Args:
        recipe: What to do.
        out: The run folder.
        resume: Goes on with the run in `out`.
        allow_changes: With `resume`, what may differ from the run's beginning, as in `dpoframe.train.fit.fit`.
        host: Where plugins are; the installed ones unless given.
        progress: Told of every batch, with stages `base/<stage>`, `train` and `aligned/<stage>`; the trainer shows its own
            bar where None.

    Raises:
        ConfigError: The recipe or a suite cannot be used, or another recipe made the run to go on with, or another process is
            writing to it; found before any weights are loaded.
        DpoframeError: As `dpoframe.train.fit.fit` and `dpoframe.harness.run_suite`.
    """
    from dpoframe.train.fit import fit, is_first_rank
    from dpoframe.train.folder import RunFolder

    known, folder = host or installed(), RunFolder(Path(out))
    suites = [load_suite(name, known) for name in recipe.evaluate]
    require_one_name(suites)
    made: list[tuple[nn.Module, Subject]] = []
    recipe = _with_direction(recipe, suites)
    evaluating = on_the_way(recipe, suites, folder, made, progress or silent)
    if not resume and is_first_rank():
        folder.require_new()
    if not suites or not is_first_rank():
        done = fit(
            recipe, folder.path, resume=resume, allow_changes=allow_changes, host=known, evaluating=evaluating, progress=progress
        )
        page = report(folder.path) if not suites and is_first_rank() and done.status == "finished" else None
        return Alignment(done, report=page)

    def build() -> nn.Module:
        made.append(before(recipe, suites, folder.path, progress or silent))
        return made[0][0]

    with ExitStack() as claim:
        if resume and folder.finished:
            folder.require_recipe(recipe, allow_changes)
            claim.enter_context(folder.claimed())
            return _again(recipe, suites, folder, progress or silent)
        done = fit(
            recipe,
            folder.path,
            resume=resume,
            allow_changes=allow_changes,
            host=known,
            build=build,
            progress=progress,
            claim=claim,
            evaluating=evaluating,
        )
        if done.status != "finished":
            return Alignment(done)
        return _concluded(recipe, *made[0], suites, done, progress or silent)


def on_the_way(
    recipe: Recipe, suites: Sequence[Suite], folder: RunFolder, made: Sequence[tuple[nn.Module, Subject]], progress: Progress
) -> Evaluating | None:
    """The trainer's callback that evaluates while it trains; None where the recipe asks for nothing of that kind.

    Args:
        recipe: Says when, and what decides.
        suites: The recipe's.
        folder: Evaluations go to `steps/<number>/eval/<suite>` in it, the best weights to `checkpoints/best`.
        made: Holds the base when the first evaluation comes.
        progress: Told of every batch, with stages `step <number>/<stage>`.
    """
    section = recipe.during
    if section is None or section.every is None:
        return None
    from dpoframe.checkpoint import CheckpointFolder
    from dpoframe.train.evaluating import Evaluating

    best = section.keep_best
    higher = best is None or _way(best, "evaluate.keep_best", suites) == "higher"
    wanted = {one.metric for one in (best, recipe.trainer.keep_best_checkpoints) if one and not one.metric.startswith(VALIDATION)}

    def measure(model: nn.Module, step: int) -> Mapping[str, float]:
        """The figures of the policy as it is, each under its suite's name."""
        subject, base = Subject(f"{_name(recipe)} after step {step}", recipe.modality.value, model), made[0][1]
        place, told = folder.path / "steps" / f"{step:08d}" / "eval", _under(f"step {step}", progress)
        figures: dict[str, float] = {}
        for suite in suites:
            rivals = folder.path / BASE / "eval" / suite.name
            found = run_suite(subject, suite, place / suite.name, base=base, rivals=rivals, limit=section.limit, progress=told)
            figures |= {f"{suite.name}/{name}": metric.interval.value for name, metric in found.metrics.items()}
        if missing := sorted(wanted.difference(figures)):  # of a suite that runs itself; the names of others are known before
            raise ConfigError(f"No suite of the recipe gives {', '.join(missing)}. They give: {', '.join(figures)}.")
        return figures

    return Evaluating(section, measure, higher, CheckpointFolder(folder.checkpoints.path / "best"))


def _with_direction(recipe: Recipe, suites: Sequence[Suite]) -> Recipe:
    """The recipe with the direction filled in that a suite says of the figure by which checkpoints are kept."""
    best = recipe.trainer.keep_best_checkpoints
    if best is None or best.metric.startswith(VALIDATION):
        return recipe
    best = replace(best, direction=_way(best, "trainer.keep_best_checkpoints", suites))
    return replace(recipe, trainer=replace(recipe.trainer, keep_best_checkpoints=best))


def _way(best: KeepBest, key: str, suites: Sequence[Suite]) -> Literal["higher", "lower"]:
    """Which way is better of the figure named under `key`.

    Raises:
        ConfigError: no suite gives it, or nobody says which way is better.
    """
    better = {f"{suite.name}/{name}": way for suite in suites for name, way in suite.figures().items()}
    metric, way = best.metric, best.direction
    foreign = any(suite.runs_itself and metric.startswith(f"{suite.name}/") for suite in suites)
    if metric not in better and not foreign:
        near = suggestion(metric, better) or f"The suites give: {', '.join(better)}."
        raise ConfigError("The recipe cannot be used:", [Fault(f"{key}.metric", f"no suite gives {metric}.", near)])
    way = way or better.get(metric)
    if way is None:
        told = f"{metric} does not say which way is better."
        raise ConfigError("The recipe cannot be used:", [Fault(f"{key}.direction", told, "Say higher or lower.")])
    return way


def _again(recipe: Recipe, suites: Sequence[Suite], folder: RunFolder, progress: Progress) -> Alignment:
    """What there is of a run whose training is finished; what lacks of its evaluations is made up for."""
    if stored := _stored(suites, folder.path):
        return Alignment(_done(folder), stored, report(folder.path))
    base = before(recipe, suites, folder.path, progress)[1]
    return _concluded(recipe, recipe.modality.value.load(folder.model), base, suites, _done(folder), progress)


def _concluded(
    recipe: Recipe, model: nn.Module, base: Subject, suites: Sequence[Suite], done: FitResult, progress: Progress
) -> Alignment:
    """The aligned model's evaluations, what they say against the base's, and who is told of it."""
    comparisons = after(recipe, model, base, suites, done.folder, progress)
    add_samples(done.folder, done.model, [suite.name for suite in suites])
    page = report(done.folder)
    tell(recipe, done.folder, comparisons, done.steps, page)
    return Alignment(done, comparisons, page)


def before(recipe: Recipe, suites: Sequence[Suite], out: Path, progress: Progress) -> tuple[nn.Module, Subject]:
    """Builds the model and evaluates it; returns it with the base that the aligned one is compared with."""
    import torch

    if recipe.trainer.threads is not None:
        torch.set_num_threads(recipe.trainer.threads)
    torch.manual_seed(recipe.seed)  # as `fit` does before it builds
    modality: Modality = recipe.modality.value
    model = modality.build()
    base = Subject(_name(recipe), modality, *_untrained(model))
    for suite in suites:
        run_suite(base, suite, out / BASE / "eval" / suite.name, progress=_under("base", progress))
    return model, base


def after(
    recipe: Recipe, model: nn.Module, base: Subject, suites: Sequence[Suite], out: Path, progress: Progress
) -> tuple[Comparison, ...]:
    """Evaluates the aligned model and compares it with the base."""
    aligned = Subject(f"{_name(recipe)} aligned by {recipe.name}", recipe.modality.value, model)
    found = []
    for suite in suites:
        old, new = out / BASE / "eval" / suite.name, out / "eval" / suite.name
        run_suite(aligned, suite, new, base=base, rivals=old, progress=_under("aligned", progress))
        found.append(compare(old, new))
    return tuple(found)


def _done(folder: RunFolder) -> FitResult:
    """The result of a training that is finished, read from its folder."""
    from dpoframe.train.fit import FitResult

    rows = [row for row in folder.rows() if row.get("stage", "train") == "train"]
    return FitResult(folder.path, int(rows[-1]["step"]) + 1 if rows else 0, rows[-1] if rows else {})


def _stored(suites: Sequence[Suite], out: Path) -> tuple[Comparison, ...]:
    """The comparisons of a run whose evaluations are all whole and of these very suites; none where one is not."""
    found = []
    for suite in suites:
        places = (out / BASE / "eval" / suite.name, out / "eval" / suite.name)
        if not all((place / "results.json").is_file() for place in places):
            return ()
        try:
            comparison = compare(*places)
        except DataError:
            return ()
        if comparison.after["suite_digest"] != suite.digest():
            return ()
        found.append(comparison)
    return tuple(found)


def _untrained(model: nn.Module) -> tuple[nn.Module, bool]:
    """What stands for the model before training, while `model` itself is trained, and whether its adapter must be off."""
    from dpoframe.train.reference import copy_of

    # A class may offer `disable_adapter` where no adapter is on: only one whose weights are frozen keeps the base.
    adapted = hasattr(model, "disable_adapter") and any(not parameter.requires_grad for parameter in model.parameters())
    return (model, True) if adapted else (copy_of(model), False)


def _name(recipe: Recipe) -> str:
    return str(getattr(recipe.modality.value, "model", "") or recipe.modality.name)


def _under(head: str, progress: Progress) -> Any:
    return lambda stage, done, total: progress(f"{head}/{stage}", done, total)
