"""Runs a recipe into a run folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.multiprocessing.spawn import ProcessRaisedException

import dpoframe
from dpoframe.checkpoint import DurableCheckpointIO, export
from dpoframe.config.recipe import Recipe
from dpoframe.data.loading import LoadedPairs, load_pairs
from dpoframe.data.module import PairDataModule
from dpoframe.data.windowed_pairs import WindowedPairs
from dpoframe.errors import Fault
from dpoframe.loss import Loss
from dpoframe.losses import combine
from dpoframe.modality import Modality
from dpoframe.plugins import PluginHost
from dpoframe.plugins import host as installed
from dpoframe.reporter import RunInfo
from dpoframe.train.adopting import Adopting
from dpoframe.train.beginning import KEY, beginning, require_beginning
from dpoframe.train.caching import FillCache
from dpoframe.train.card import model_card
from dpoframe.train.changes import note_changes, require_items
from dpoframe.train.environment import environment
from dpoframe.train.evaluating import Evaluating
from dpoframe.train.feeding import data_module
from dpoframe.train.folder import RunFolder
from dpoframe.train.hooks import RunHooks
from dpoframe.train.interruption import InterruptedRunError, Interruption, passed_on
from dpoframe.train.lightning_trainer import make_trainer, quiet
from dpoframe.train.lost import lost_processes_told
from dpoframe.train.module import AlignmentModule
from dpoframe.train.outer import first_says
from dpoframe.train.preparing import prepare
from dpoframe.train.progress import ProgressBar, Telling, Told
from dpoframe.train.randomness import RankRandomness
from dpoframe.train.reference import CachedReference, make_reference, require_reference
from dpoframe.train.reporting import Reporting
from dpoframe.train.retention import Retention
from dpoframe.train.saving import Saving, default_interval
from dpoframe.train.schedule import total_steps
from dpoframe.train.scoring import PairScorer
from dpoframe.train.sizes import cautions, require_a_pair_each
from dpoframe.train.watch import Watch, warn


@dataclass(frozen=True)
class FitResult:
    """How a run ended.

    Attributes:
        folder: The run folder.
        steps: Optimizer steps done.
        final: The last value of each metric; those of validation under `validation/`.
        status: `finished` or `interrupted`.
        exit_code: 0, or 128 plus the number of the signal that interrupted it.
    """

    folder: Path
    steps: int
    final: Mapping[str, Any] = field(default_factory=dict)
    status: Literal["finished", "interrupted"] = "finished"
    exit_code: int = 0

    @property
    def model(self) -> Path:
        """The exported model."""
        return self.folder / "model"


def fit(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    allow_changes: Collection[str] = (),
    host: PluginHost | None = None,
    build: Callable[[], nn.Module] | None = None,
    progress: Told | None = None,
    claim: ExitStack | None = None,
    evaluating: Evaluating | None = None,
) -> FitResult:
    """Aligns a model by a recipe.

    Args:
        recipe: What to do.
        out: The run folder: new, or with `resume` that of a run to go on with.
        resume: Goes on from the run's last whole checkpoint; the result is that of an unbroken run.
        allow_changes: With `resume`, what may differ from the run's beginning: keys or sections of the recipe, `data` (its pairs),
            `modality` (tokenizer, template, or one part as in `modality.tokens`), `weights`. `changes.jsonl` tells of it.
        host: Where plugins are; the installed ones unless given.
        build: Makes the model, in place of the modality's own; called when recipe, plugins and data are checked.
        progress: Called as `progress("train", done, steps)` after each step, in place of the progress bar.
        claim: Takes over the claim on the run folder, for a caller that goes on writing there; else it ends with the training.
        evaluating: Evaluates on the way.

    Raises:
        ConfigError: the recipe cannot be run, a run lies in `out`, or one to go on with began with another recipe or model.
        DataError: no pair can be used, or a run to go on with began with other pairs.
        CheckpointError: there is nothing to resume.
        TrainingError: a loss is not finite.
        MachineError: the disk is full, the folder may not be written, or a process of the run was ended from outside.
    """
    folder, known = RunFolder(Path(out)), host or installed()
    changes: list[Fault] = []
    if resume:
        require_items(allow_changes, recipe)
        changes += folder.require_resumable(recipe, allow_changes)
    elif is_first_rank():
        folder.require_place()
        folder.require_new()
    hooks = RunHooks(known.relay(recipe.active_plugins))
    hooks.configure(recipe)
    if recipe.trainer.threads is not None:
        torch.set_num_threads(recipe.trainer.threads)
    loss = combine([(one.part.value, one.weight) for one in recipe.loss])
    modality: Modality = recipe.modality.value.with_details(loss.requires)
    require_reference(recipe, loss)
    pairs = load_pairs(recipe.data, known, modality, seed=recipe.seed)
    if resume:
        changes += [Fault("data", told) for told in pairs.require_same(folder.path, "data" in allow_changes)]
    require_a_pair_each(recipe.trainer, pairs)
    info = RunInfo(folder.path, recipe.name, recipe.to_dict(), environment(known.plugins, recipe.seed))
    absent = [] if resume else folder.absent()
    with ExitStack() as own:
        if is_first_rank():
            (own if claim is None else claim).enter_context(folder.claimed())
            own.enter_context(folder.taken_back(absent))
            for message in [*pairs.warnings, *cautions(recipe, pairs.count)]:
                warn(message)
        data = data_module(recipe, modality, loss, pairs)
        prepare(modality, data, progress)
        torch.manual_seed(recipe.seed)  # what is made fresh in the model (an adapter) follows from the seed
        policy = (build or modality.build)().train()
        began = beginning(modality, policy)
        changes += require_beginning(folder.environment, began, allow_changes) if resume else []
        info = replace(info, environment={**info.environment, KEY: began})
        run = Run(recipe, folder, hooks, loss, modality, policy, pairs, data, info, progress, evaluating, tuple(changes))
        return run.go(resume)


def is_first_rank() -> bool:
    """Whether this process writes the run folder. Other ranks start while it does."""
    return getattr(rank_zero_only, "rank", 0) == 0


@dataclass
class Run:
    """One run with everything it needs: it makes the Lightning parts and hands them to the trainer."""

    recipe: Recipe
    folder: RunFolder
    hooks: RunHooks
    loss: Loss
    modality: Modality
    policy: nn.Module
    pairs: LoadedPairs | WindowedPairs
    data: PairDataModule
    info: RunInfo
    progress: Told | None = None
    evaluating: Evaluating | None = None
    changes: tuple[Fault, ...] = ()
    trainer: lightning.Trainer | None = None

    def go(self, resume: bool) -> FitResult:
        """Trains to the end, or to an interruption."""
        section = self.recipe.trainer
        module, data = self.module(), self.data
        with quiet():
            trainer = make_trainer(section, self.steps, bool(self.pairs.validation), self.callbacks(module, data))
        self.trainer = trainer
        if is_first_rank():  # only now: whatever cannot be made leaves no run behind
            self.pairs.write(self.folder.path)
            self.folder.create(self.recipe, self.info.environment)
        checkpoint = self.checkpoint() if resume else None
        try:
            with quiet(), lost_processes_told(section.num_workers), passed_on(trainer) as received:
                trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except InterruptedRunError as stopped:
            return self.interrupted(stopped)
        except ProcessRaisedException as error:  # from a rank that this process forked or spawned
            if (told := InterruptedRunError.told_in(str(error))) is None:
                raise
            return self.interrupted(InterruptedRunError(received[0], told.step) if received else told)
        except SystemExit as error:
            if isinstance(error.__context__, KeyboardInterrupt):  # how Lightning ends after one
                raise error.__context__ from error
            raise
        # Where the ranks were other processes, this one's trainer has counted nothing; every run ends with a checkpoint.
        steps = trainer.global_step or max(self.folder.checkpoints.steps(), default=0)
        return FitResult(self.folder.path, steps, self.final())

    def interrupted(self, stopped: InterruptedRunError) -> FitResult:
        """The result of a run that a signal ended after a step."""
        self.written()
        return FitResult(self.folder.path, stopped.step, self.final(), "interrupted", stopped.exit_code)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return total_steps(self.recipe.trainer, self.pairs.count)

    def module(self) -> AlignmentModule:
        """The LightningModule with its reference."""
        recipe = self.recipe
        made = self.hooks.reference(self.modality, self.policy, recipe)
        precision = recipe.trainer.precision
        reference = make_reference(recipe.reference, self.modality, self.policy, made, self.loss.requires, precision)
        scorer = PairScorer(self.modality, self.policy, reference, self.loss, self.hooks.adds_terms)
        return AlignmentModule(scorer, recipe.trainer, self.steps, self.hooks)

    def callbacks(self, module: AlignmentModule, data: PairDataModule) -> list[Callback]:
        """The run's callbacks: first what looks at a step, last what saves it and may end the run."""
        section, reference, interruption = self.recipe.trainer, module.reference, Interruption()
        saved = section.save_every or default_interval(self.steps)
        reporters = [(part.name, part.value) for part in self.recipe.reporters]
        every = section.validate_every if self.pairs.validation else 0
        cached = [FillCache(self.modality, reference, data)] if isinstance(reference, CachedReference) else []
        exact = reference.exact_at_start and self.recipe.reference.kind != "none"
        per_unit = any(not one.part.value.uses_reference for one in self.recipe.loss)
        return [
            *cached,
            RankRandomness(self.recipe.seed),
            *([Adopting(section)] if self.changes else []),
            Watch(self.recipe.reference.kind, exact, section.precision, per_unit),
            ProgressBar(self.steps) if self.progress is None else Telling(self.steps, self.progress),
            Reporting(self.folder, reporters, self.info, section.log_every, lambda: self.export(module)),
            *self.hooks.callbacks(self.recipe),
            *([] if self.evaluating is None else [self.evaluating]),
            interruption,
            Saving(Retention.of(self.folder, self.recipe), saved, self.steps, every, interruption),
        ]

    def checkpoint(self) -> Path | None:
        """The state to go on from; rows that will be written again are removed."""
        name = first_says(lambda: str(self.folder.checkpoints.latest() or ""))
        found = Path(name) if name else None
        step = int(found.stem.removeprefix("step-")) if found else 0
        if is_first_rank():
            self.folder.rewind(step)
            note_changes(self.folder.changes, step, self.changes)
        if found is None:
            warn(f"{self.folder.path} holds no whole checkpoint: the run starts from its beginning.")
        return found

    def export(self, module: AlignmentModule) -> Path:
        """Writes the aligned model: the last weights, or the best where the recipe keeps them."""
        note = ""
        self.written()
        self.pairs.conclude(self.folder.path)
        if self.evaluating is not None:
            self.evaluating.restore(module)
            note = self.evaluating.note
        steps = self.trainer.global_step if self.trainer is not None else self.steps
        card = model_card(self.recipe, self.pairs.known, steps, dpoframe.__version__, self.folder.rows(), note)
        plain = self.recipe.to_dict()
        convention = {"loss": plain["loss"], "reference": plain["reference"]}
        part = self.recipe.modality
        policy = module.layout.policy(module.trainer.strategy).eval()
        export(part.value, policy, self.folder.model, card, name=part.name, convention=convention)
        return self.folder.model

    def written(self) -> None:
        """Waits for a checkpoint that is being written in the background, and removes those over the number to keep."""
        writer = self.trainer.strategy.checkpoint_io if self.trainer is not None and is_first_rank() else None
        if isinstance(writer, DurableCheckpointIO):
            writer.wait()
            Retention.of(self.folder, self.recipe).prune()

    def final(self) -> dict[str, Any]:
        """The last value of each metric, read from the run folder: the ranks may have been other processes."""
        found: dict[str, Any] = {}
        for row in self.folder.rows():
            prefix = f"{row['stage']}/" if "stage" in row else ""
            found |= {prefix + name: value for name, value in row.items() if name != "stage"}
        return found
