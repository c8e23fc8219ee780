"""Evaluations on the way: rows, the best weights, an early end, and a run that is otherwise the same."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from dpoframe import TrainingError, hookimpl
from dpoframe.checkpoint import CheckpointFolder
from dpoframe.config import EvaluateSection, KeepBest
from dpoframe.train.evaluating import Evaluating
from dpoframe.train.fit import FitResult, fit

SIX = ("trainer.max_steps=6", "modality.dropout=0.3")
DROPOUT = "ignore:At the first step policy and reference should be equal:RuntimeWarning"
pytestmark = pytest.mark.filterwarnings(DROPOUT)


class Figures:
    """A measure with prescribed figures by step, which draws from every generator and leaves the model in another mode."""

    def __init__(self, by_step: Mapping[int, float]) -> None:
        self.by_step = by_step
        self.seen: dict[int, dict[str, torch.Tensor]] = {}

    def __call__(self, model: nn.Module, step: int) -> Mapping[str, float]:
        """The figure of the step."""
        random.random(), numpy.random.rand(), torch.rand(1)
        model.eval()
        self.seen[step] = {name: value.clone() for name, value in model.state_dict().items()}
        return {"small/good": self.by_step[step], "small/other": 1.0}


Go = Callable[..., FitResult]


@pytest.fixture
def go(host: Any, make_recipe: Any, tmp_path: Path) -> Go:
    """Runs with evaluations: `go("name", figures, every=2, ...)`; `best=True` keeps the best, higher unless said."""

    def run(
        name: str, figures: Any, *changes: str, best: bool = False, higher: bool = True, resume: bool = False, **keys: Any
    ) -> FitResult:
        section = EvaluateSection((), keep_best=KeepBest("small/good") if best else None, **{"every": 2, **keys})
        kept = CheckpointFolder(tmp_path / name / "checkpoints" / "best")
        evaluating = Evaluating(section, figures, higher, kept)
        return fit(make_recipe(*SIX, *changes), tmp_path / name, resume=resume, host=host, evaluating=evaluating)

    return run


def test_rows_and_nothing_else(go: Go, run: Any, look: Any) -> None:
    """Each evaluation is a row of its own stage; every step, and the weights, are those of a run without evaluations."""
    with_them = go("with", Figures(dict.fromkeys((2, 4, 6), 0.5)))
    without = run("without", *SIX)
    rows = [{key: row[key] for key in ("step", "small/good", "small/other")} for row in look.rows(with_them, "evaluation")]
    assert rows == [{"step": step, "small/good": 0.5, "small/other": 1.0} for step in (2, 4, 6)]
    assert look.rows(with_them) == look.rows(without)
    assert all(torch.equal(value, look.weights(without)[name]) for name, value in look.weights(with_them).items())
    assert with_them.final["evaluation/small/good"] == 0.5


@pytest.mark.parametrize(("higher", "best"), [(True, 4), (False, 2)])
def test_the_best_weights_are_exported(go: Go, look: Any, capfd: pytest.CaptureFixture[str], higher: bool, best: int) -> None:
    """The run ends with the weights of its best evaluation, in memory and on disk, and says so in log and card."""
    figures = Figures({2: 0.1, 4: 0.9, 6: 0.5})
    done = go("run", figures, best=True, higher=higher)
    assert all(torch.equal(value, figures.seen[best][name]) for name, value in look.weights(done).items())
    assert not torch.equal(figures.seen[best]["head.weight"], figures.seen[6]["head.weight"])
    said = f"The weights are those after step {best}, the best of the evaluations by small/good: {figures.by_step[best]:.4g}."
    assert said in (done.model / "README.md").read_text()
    assert said in " ".join(capfd.readouterr().err.split())
    kept = CheckpointFolder(done.folder / "checkpoints" / "best")
    assert max(kept.steps()) == best
    assert done.steps == 6


def test_the_last_step_counts(go: Go, look: Any) -> None:
    """Where the best weights are kept the last step is evaluated too, whether or not it is its turn."""
    figures = Figures({4: 0.1, 6: 0.9})
    done = go("run", figures, best=True, every=4)
    assert [row["step"] for row in look.rows(done, "evaluation")] == [4, 6]
    assert all(torch.equal(value, figures.seen[6][name]) for name, value in look.weights(done).items())


@pytest.mark.parametrize("validation", [(), ("data.validation=0.25", "trainer.validate_every=4")])
def test_an_early_end(go: Go, look: Any, validation: tuple[str, ...]) -> None:
    """After `patience` evaluations without a better figure the run ends, saved and exported, and its card tells the steps."""
    done = go("run", Figures({1: 0.5, 2: 0.4, 3: 0.5}), *validation, best=True, every=1, patience=2)
    assert (done.status, done.steps) == ("finished", 3)
    assert len(look.rows(done)) == 3
    assert max(CheckpointFolder(done.folder / "checkpoints").steps()) == 3
    card = (done.model / "README.md").read_text()
    assert "after step 1" in card
    assert "| Optimizer steps | 3 of" in card
    assert bool(look.rows(done, "validation")) == bool(validation)


def test_no_figure_is_never_the_best(go: Go, look: Any) -> None:
    """A figure that is no number counts as not better; with none at all the run ends with its last weights."""
    figures = Figures({2: float("nan"), 4: 0.2, 6: float("nan")})
    assert "after step 4" in (go("one", figures, best=True).model / "README.md").read_text()
    none = Figures(dict.fromkeys((2, 4, 6), float("nan")))
    done = go("none", none, best=True)
    assert "The weights are those" not in (done.model / "README.md").read_text()
    assert all(torch.equal(value, none.seen[6][name]) for name, value in look.weights(done).items())


class Stopping:
    """A plugin that sends this process a signal in a step, once."""

    def __init__(self, step: int) -> None:
        self.step: int | None = step

    @hookimpl
    def dpoframe_callbacks(self, config: Any) -> list[Callback]:
        """The callback, for the first run only."""
        step, self.step = self.step, None

        class Sender(Callback):
            """Sends the signal."""

            def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
                if trainer.global_step == step:
                    signal.raise_signal(signal.SIGTERM)

        return [] if step is None else [Sender()]


@pytest.mark.parametrize("broken_in", [1, 2, 4])
def test_a_resumed_run_ends_the_same(go: Go, host: Any, look: Any, broken_in: int) -> None:
    """Broken off after an evaluation or between two: rows, best weights and early end are those of an unbroken run."""
    by_step = {1: 0.3, 2: 0.9, 3: 0.2, 4: 0.1, 5: 0.4}
    whole = go("whole", Figures(by_step), best=True, every=1, patience=3)
    host.register(Stopping(broken_in), "stopping")
    named = "plugins=[toy, parts, stopping]"
    assert go("broken", Figures(by_step), named, best=True, every=1, patience=3).status == "interrupted"
    resumed = go("broken", Figures(by_step), named, best=True, every=1, patience=3, resume=True)
    assert (resumed.status, resumed.steps) == ("finished", whole.steps) == ("finished", 5)
    for stage in (None, "evaluation"):
        assert look.rows(resumed, stage) == look.rows(whole, stage)
    assert all(torch.equal(value, look.weights(whole)[name]) for name, value in look.weights(resumed).items())


def test_killed_after_its_early_end(go: Go, look: Any) -> None:
    """Killed between the early end's checkpoint and the export: resuming trains no further and exports the best."""
    figures = {1: 0.9, 2: 0.1, 3: 0.1}
    done = go("run", Figures(figures), best=True, every=1, patience=2)
    before, kept = look.rows(done), look.weights(done)
    shutil.rmtree(done.model)
    again = go("run", Figures(figures), best=True, every=1, patience=2, resume=True)
    assert look.rows(again) == before
    assert again.steps == 3
    assert all(torch.equal(value, kept[name]) for name, value in look.weights(again).items())


def test_what_an_evaluation_raises_ends_the_run(go: Go) -> None:
    """An error of an evaluation is the run's, as it is; the run can be resumed from its last checkpoint."""

    def fail(model: nn.Module, step: int) -> Mapping[str, float]:
        raise TrainingError("no figures today")

    with pytest.raises(TrainingError, match="no figures today"):
        go("run", fail, "trainer.save_every=1")
    done = go("run", Figures(dict.fromkeys((2, 4, 6), 0.5)), "trainer.save_every=1", resume=True)
    assert done.status == "finished"


RANKS = ("trainer.devices=2", "trainer.strategy=ddp_fork", "data.count=24")


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_two_ranks(go: Go, look: Any) -> None:
    """The first rank evaluates, the other waits; both end early together, and the best weights are exported."""
    done = go("run", Figures({1: 0.1, 2: 0.9, 3: 0.2, 4: 0.3}), *RANKS, best=True, every=1, patience=2)
    assert [row["step"] for row in look.rows(done, "evaluation")] == [1, 2, 3, 4]
    assert len(look.rows(done)) == 4
    assert "after step 2" in (done.model / "README.md").read_text()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_an_error_on_the_first_rank_reaches_the_other(go: Go) -> None:
    """Where the first rank's evaluation fails the other does not wait for ever."""

    def fail(model: nn.Module, step: int) -> Mapping[str, float]:
        raise TrainingError("no figures today")

    with pytest.raises(Exception, match="no figures today"):
        go("run", fail, *RANKS)
