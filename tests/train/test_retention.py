"""Which checkpoints stay: the newest, and the best by a figure; not another ranking after a kill."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from dpoframe import ConfigError, hookimpl
from dpoframe.checkpoint import CheckpointFolder
from dpoframe.config import EvaluateSection, KeepBestCheckpoints
from dpoframe.config.retention import FIGURES
from dpoframe.metrics import pair_metrics
from dpoframe.train.evaluating import Evaluating
from dpoframe.train.fit import FitResult, fit
from dpoframe.train.folder import RunFolder
from dpoframe.train.retention import Retention
from dpoframe.types import PairScores

NAN = float("nan")
TEN = ("trainer.max_steps=10", "trainer.save_every=1", "trainer.validate_every=2", "data.validation=0.25")
GIVEN = {2: 0.5, 4: 0.1, 6: 0.7, 8: 0.1, 10: 0.3}


def kept(folder: Path) -> list[int]:
    """Steps of the checkpoints that are there."""
    return CheckpointFolder(folder / "checkpoints").steps()


def best(metric: str, count: int = 1, direction: str | None = None) -> str:
    """The override that asks for the best checkpoints."""
    way = "" if direction is None else f", direction: {direction}"
    return f"trainer.keep_best_checkpoints={{metric: {metric}, count: {count}{way}}}"


class Prescribed:
    """A plugin whose figure `prescribed/figure` of the validation after a step is given."""

    def __init__(self, by_step: Mapping[int, float]) -> None:
        self.by_step = by_step

    @hookimpl
    def dpoframe_pair_metrics(self, scores: PairScores, losses: Tensor, stage: str, step: int) -> dict[str, Tensor]:
        """The step's figure."""
        return {"figure": torch.tensor(self.by_step[step], dtype=torch.float64)} if stage == "validation" else {}


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


Go = Callable[..., FitResult]


@pytest.fixture
def go(host: Any, run: Any) -> Go:
    """Ten steps, validated every second, with prescribed figures: `go("name", *changes)`."""
    host.register(Prescribed(GIVEN), "prescribed")

    def start(name: str, *changes: str, **keys: Any) -> FitResult:
        made: FitResult = run(name, *TEN, "plugins=[toy, parts, prescribed]", *changes, **keys)
        return made

    return start


@pytest.mark.parametrize(
    ("count", "direction", "steps"),
    [(1, "lower", [4, 9, 10]), (2, "lower", [4, 8, 9, 10]), (2, "higher", [2, 6, 9, 10]), (9, "higher", [2, 4, 6, 8, 9, 10])],
)
def test_the_best_stay_beside_the_newest(go: Go, count: int, direction: str, steps: list[int]) -> None:
    """By figures 0.5, 0.1, 0.7, 0.1, 0.3 of every second step: of equal ones the earlier, none that was not measured."""
    done = go("run", best("validation/prescribed/figure", count, direction))
    assert kept(done.folder) == steps


def test_a_best_step_is_saved_out_of_turn(go: Go) -> None:
    """With a save every fifth step, the measured steps 4 and 8 are among the best two when they come, and are saved; 6 is not."""
    done = go("run", "trainer.save_every=5", "trainer.keep_checkpoints=9", best("validation/prescribed/figure", 2, "lower"))
    assert kept(done.folder) == [2, 4, 5, 8, 10]


def test_the_newest_alone_without_it(go: Go) -> None:
    """Nothing changes where the recipe does not ask."""
    assert kept(go("run").folder) == [9, 10]


def test_loss_is_better_low_and_accuracy_high(run: Any, look: Any) -> None:
    """The core's own figures say which way is better, and the resolved recipe shows it."""
    for name, way, choose in (("loss", "lower", min), ("rewards/accuracies", "higher", max)):
        done = run(name.replace("/", "-"), *TEN, "trainer.keep_checkpoints=1", best(f"validation/{name}"))
        figures = {row["step"]: row[name] for row in look.rows(done, "validation")}
        wanted = choose(figures.values())
        first = min(step for step, value in figures.items() if value == wanted)
        assert kept(done.folder) == sorted({first, 10})
        assert f"direction: {way}" in (done.folder / "recipe.yaml").read_text()


def test_a_figure_that_is_no_number_is_never_best(host: Any, run: Any) -> None:
    """Not a number, and infinite in either direction: such a step counts as not measured."""
    host.register(Prescribed({2: 0.5, 4: NAN, 6: float("-inf"), 8: 0.6, 10: float("inf")}), "prescribed")
    named = "plugins=[toy, parts, prescribed]"
    for direction, steps in (("lower", [2, 8, 9, 10]), ("higher", [2, 8, 9, 10])):
        assert kept(run(direction, *TEN, named, best("validation/prescribed/figure", 3, direction)).folder) == steps


@pytest.mark.parametrize("broken_in", [1, 4, 6, 8])
@pytest.mark.parametrize("background", [(), ("trainer.save_in_background=true",)], ids=["plain", "background"])
def test_a_resumed_run_ranks_the_same(go: Go, host: Any, broken_in: int, background: tuple[str, ...]) -> None:
    """Broken off before, at or after a best step, and resumed: the checkpoints of an unbroken run stay."""
    host.register(Stopping(broken_in), "stopping")
    changes = (*background, "plugins=[toy, parts, prescribed, stopping]", best("validation/prescribed/figure", 2, "lower"))
    assert go("run", *changes).status == "interrupted"
    assert kept(go("run", *changes, resume=True).folder) == [4, 8, 9, 10]


@pytest.mark.parametrize("before", [(), (best("validation/loss", 2),)], ids=["nothing", "another figure"])
def test_asked_for_on_resume(go: Go, host: Any, before: tuple[str, ...]) -> None:
    """A run goes on with a figure that it did not begin with: what is still there is ranked by it."""
    host.register(Stopping(6), "stopping")
    named = "plugins=[toy, parts, prescribed, stopping]"
    assert go("run", named, *before).status == "interrupted"
    assert kept(go("run", named, best("validation/prescribed/figure", 1, "higher"), resume=True).folder) == [6, 9, 10]


def test_after_a_broken_checkpoint(go: Go, host: Any) -> None:
    """The run falls back on the newest whole checkpoint, a best one; its own figure counts again, that of the broken one anew."""
    host.register(Stopping(5), "stopping")
    changes = ("plugins=[toy, parts, prescribed, stopping]", "trainer.keep_checkpoints=1")
    changes = (*changes, best("validation/prescribed/figure", 1, "lower"))
    broken = go("run", *changes)
    assert kept(broken.folder) == [4, 6]
    newest = broken.folder / "checkpoints" / "step-00000006.ckpt"
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(RuntimeWarning, match="is passed over"):
        resumed = go("run", *changes, resume=True)
    assert kept(resumed.folder) == [4, 10]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_two_ranks(go: Go) -> None:
    """The first rank ranks; both save where it says so."""
    ranks = ("trainer.devices=2", "trainer.strategy=ddp_fork", "trainer.save_every=5", "trainer.keep_checkpoints=9")
    assert kept(go("run", *ranks, best("validation/prescribed/figure", 2, "lower")).folder) == [2, 4, 5, 8, 10]


def test_by_an_evaluation(host: Any, make_recipe: Any, tmp_path: Path) -> None:
    """A suite's figure ranks the steps that were evaluated, and saves the best of them."""

    def measure(model: nn.Module, step: int) -> Mapping[str, float]:
        return {"small/good": {3: 0.2, 6: 0.9, 9: 0.4}[step]}

    ranked = ("evaluate={suites: [], every: 3}", best("small/good", 1, "higher"))
    recipe = make_recipe("trainer.max_steps=10", "trainer.save_every=5", "trainer.keep_checkpoints=9", *ranked)
    evaluating = Evaluating(EvaluateSection((), every=3), measure, True, CheckpointFolder(tmp_path / "best"))
    done = fit(recipe, tmp_path / "run", host=host, evaluating=evaluating)
    assert kept(done.folder) == [3, 5, 6, 10]


def test_only_what_is_new_is_read(tmp_path: Path) -> None:
    """A line that was cut off is read when it is whole; rows of other stages do not count."""
    folder = RunFolder(tmp_path)
    folder.checkpoints.path.mkdir()
    retention = Retention(folder, 1, KeepBestCheckpoints("validation/loss", "lower"))
    assert not retention.wants(1)
    row = json.dumps({"step": 1, "stage": "validation", "loss": 0.5}) + "\n"
    folder.metrics.write_text(json.dumps({"step": 1, "loss": 0.1}) + "\n" + row[:20])
    assert not retention.wants(1)
    folder.metrics.write_text(json.dumps({"step": 1, "loss": 0.1}) + "\n" + row)
    assert retention.wants(1)
    assert not retention.wants(2)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ((best("validation/los"),), "Did you mean 'validation/loss'?"),
        ((best("validation/rewards/accuracy"),), "Did you mean 'validation/rewards/accuracies'?"),
        ((best("validation/loss/gone.term"),), "which no validation gives"),
        ((best("validation/rewards/chosen"),), "does not say which way is better. Say higher or lower."),
        ((best("validation/parts/x"),), "does not say which way is better. Say higher or lower."),
        ((best("validation/loss"), "data.validation=null"), "nothing is held out for a validation. Set data.validation."),
        ((best("small/good"),), "none is taken on the way. Set evaluate.every"),
        ((best("loss"),), "trainer.keep_best_checkpoints.metric"),
        ((best("validation/loss", 0),), "trainer.keep_best_checkpoints.count"),
        ((best("validation/loss", 1, "up"),), "trainer.keep_best_checkpoints.direction"),
    ],
)
def test_refused_at_load(make_recipe: Any, changes: tuple[str, ...], part: str) -> None:
    """A figure that is never taken, a wrong number, and a direction that nobody knows."""
    with pytest.raises(ConfigError) as caught:
        make_recipe(*TEN, *changes)
    assert part in str(caught.value)


@pytest.mark.parametrize("ranks", [(), ("trainer.devices=2", "trainer.strategy=ddp_fork")], ids=["one rank", "two ranks"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_refused_at_the_first_validation(go: Go, ranks: tuple[str, ...]) -> None:
    """A figure that a plugin of the recipe might have added, and did not: the error names those there are."""
    with pytest.raises(Exception, match=r"no validation gives validation/prescribed/figre.*validation/prescribed/figure"):
        go("run", *ranks, best("validation/prescribed/figre", 1, "lower"))


def test_the_list_of_figures_is_whole() -> None:
    """What is known at load are the figures that every validation has, by the function that makes them."""
    one = torch.zeros(1)
    assert set(FIGURES) == set(pair_metrics(PairScores(one, one, one, one, one, one), one))
