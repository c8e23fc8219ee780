"""Out of memory on one of two ranks: both make the step again, and no result changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dpoframe import Scores
from dpoframe.train.agreement import Agreement
from dpoframe.train.module import AlignmentModule

CUDA = "CUDA out of memory. Tried to allocate 2 GiB."
RANKS = ("trainer.devices=2", "trainer.strategy=ddp_fork", "trainer.max_steps=4", "modality.dropout=0.3")
pytestmark = [
    pytest.mark.filterwarnings("ignore:At the first step policy and reference should be equal:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Out of memory in step:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning"),
]


def rank() -> int:
    """This process's number."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


class Short:
    """Memory that runs out on some ranks: at the given calls, or at each with more than `rows` examples."""

    def __init__(self, ranks: tuple[int, ...], calls: tuple[int, ...] = (), rows: int = 10**6) -> None:
        self.ranks, self.calls, self.rows, self.count = ranks, calls, rows, 0

    def call(self, rows: int) -> None:
        """One more call, with so many examples."""
        number, self.count = self.count, self.count + 1
        if rank() in self.ranks and (number in self.calls or rows > self.rows):
            raise torch.OutOfMemoryError(CUDA)


@pytest.fixture
def short_scoring(make_recipe: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Short, bool], None]:
    """`short_scoring(short, gradients)`: scores of the policy take memory, only those with gradients, or only those without."""

    def make(short: Short, gradients: bool) -> None:
        kind = type(make_recipe().modality.value)
        plain = kind.score

        def score(modality: Any, model: nn.Module, batch: Any) -> Scores:
            if torch.is_grad_enabled() == gradients:
                short.call(len(batch["target"]))
            return plain(modality, model, batch)  # type: ignore[no-any-return]

        monkeypatch.setattr(kind, "score", score)

    return make


@pytest.fixture
def short_backward(monkeypatch: pytest.MonkeyPatch) -> Callable[[Short], None]:
    """`short_backward(short)`: backwards take memory; they fail with their gradients half formed."""

    def make(short: Short) -> None:
        plain = AlignmentModule.manual_backward

        def backward(module: AlignmentModule, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
            try:
                short.call(0)
            except torch.OutOfMemoryError:
                for parameter in list(module.policy.parameters())[:1]:
                    parameter.grad = torch.full_like(parameter, 7.0)
                raise
            plain(module, loss, *args, **kwargs)

        monkeypatch.setattr(AlignmentModule, "manual_backward", backward)

    return make


@pytest.fixture
def whole(run: Any) -> Any:
    """The same run on a machine with enough memory, by loss and pieces."""

    def make(loss: str, *pieces: str) -> Any:
        return run(f"whole-{loss}", *RANKS, *pieces, loss={"name": loss})

    return make


def require_equal(found: Any, wanted: Any, look: Any, tolerance: float = 1e-9) -> None:
    """The same rows and weights, up to the rounding of sums in another order."""
    for now, before in zip(look.rows(found), look.rows(wanted), strict=True):
        assert now == pytest.approx(before, rel=tolerance, abs=tolerance / 1000)
    kept = look.weights(wanted)
    for name, value in look.weights(found).items():
        torch.testing.assert_close(value, kept[name], rtol=tolerance, atol=tolerance / 1000)


THREE = ("trainer.accumulate_grad_batches=3",)


@pytest.mark.parametrize(
    ("who", "call"),
    [((0, 1), 0), ((1,), 2), ((1,), 4), ((0,), 5)],
    ids=["first of step 0 on both", "last of step 0", "second of step 1", "last of step 1 on the first rank"],
)
def test_in_a_forward(who: tuple[int, ...], call: int, run: Any, whole: Any, short_scoring: Any, look: Any) -> None:
    """Any of three micro-batches, on either rank or on both: no digit of the run changes."""
    pieces = (*THREE, "modality.dropout=0")
    wanted = whole("sigmoid", *pieces)
    short_scoring(Short(who, calls=(call,)), True)
    require_equal(run("short", *RANKS, *pieces, loss={"name": "sigmoid"}), wanted, look)


@pytest.mark.parametrize(
    ("who", "call"),
    [((1,), 0), ((0,), 2), ((1,), 4)],
    ids=["first of step 0", "last of step 0 on the first rank", "second of step 1"],
)
def test_in_a_backward(who: tuple[int, ...], call: int, run: Any, whole: Any, short_backward: Any, look: Any) -> None:
    """A gradient that was left half formed is cleared; the last backward of step 0 comes before the gradients' exchange."""
    pieces = (*THREE, "modality.dropout=0")
    wanted = whole("sigmoid", *pieces)
    short_backward(Short(who, calls=(call,)))
    require_equal(run("short", *RANKS, *pieces, loss={"name": "sigmoid"}), wanted, look)


@pytest.mark.parametrize("gradients", [False, True], ids=["first pass", "second pass"])
def test_a_loss_that_couples_pairs(gradients: bool, run: Any, whole: Any, short_scoring: Any, look: Any) -> None:
    """One rank runs out in the pass before the scores are gathered, or in the one after: the other waits in neither."""
    pieces = (*THREE, "modality.dropout=0")
    wanted = whole("aot", *pieces)
    short_scoring(Short((1,), calls=(1,)), gradients)
    require_equal(run("short", *RANKS, *pieces, loss={"name": "aot"}), wanted, look)


def test_sizes_that_never_fit(run: Any, whole: Any, short_scoring: Any, look: Any) -> None:
    """A rank that has room for one pair at a time, beside one that has room for all: cut twice, then kept."""
    wanted = whole("sigmoid", "modality.dropout=0")
    short_scoring(Short((1,), rows=2), True)
    require_equal(run("short", *RANKS, "modality.dropout=0"), wanted, look)


def test_the_other_rank_draws_its_dropout_anew(run: Any, make_recipe: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The rank that did not run out makes its attempt again from the random state it began with."""
    kind, short, states = type(make_recipe().modality.value), Short((1,), calls=(0,)), tmp_path / "states"
    plain = kind.score

    def score(modality: Any, model: nn.Module, batch: Any) -> Scores:
        if torch.is_grad_enabled():
            short.call(0)
            if rank() == 0:
                with states.open("a") as file:
                    file.write(torch.get_rng_state().numpy().tobytes().hex() + "\n")
        return plain(modality, model, batch)  # type: ignore[no-any-return]

    monkeypatch.setattr(kind, "score", score)
    run("short", *RANKS, "trainer.max_steps=2")
    first, again, second = states.read_text().split()
    assert first == again != second


def test_nobody_waits_for_a_rank_that_cannot_go_on(run: Any, short_scoring: Any) -> None:
    """One pair too large on the second rank ends both, with the word that helps."""
    short_scoring(Short((1,), rows=1), True)
    with pytest.raises(Exception, match=r"one pair (of \d+ units )?alone does not fit"):
        run("short", *RANKS)


def test_inside_an_exchange_it_ends_the_run(run: Any, short_backward: Any) -> None:
    """In a backward along with which gradients are exchanged nobody can be called back: the message names the size to set."""
    short_backward(Short((1,), calls=(11,)))  # the last of step 3: by then its size has fitted
    with pytest.raises(Exception, match=r"on rank 1, with micro-batches .* --set trainer\.tokens_per_batch=\d+"):
        run("short", *RANKS, *THREE)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], Counter[str]]:
    """How often gradients were exchanged by themselves, and along with a backward, on the first rank."""
    file = tmp_path / "exchanges"
    alone, backward = Agreement._exchange_gradients, AlignmentModule.manual_backward

    def note(what: str) -> None:
        if rank() == 0:
            with file.open("a") as opened:
                opened.write(f"{what}\n")

    def by_itself(self: Agreement, *args: Any) -> None:
        note("alone")
        alone(self, *args)

    def along(module: AlignmentModule, *args: Any, **kwargs: Any) -> None:
        if module.trainer.strategy.model.require_backward_grad_sync:
            note("along")
        backward(module, *args, **kwargs)

    monkeypatch.setattr(Agreement, "_exchange_gradients", by_itself)
    monkeypatch.setattr(AlignmentModule, "manual_backward", along)
    return lambda: Counter(file.read_text().split())


def test_what_has_fitted_is_exchanged_along_the_way(
    run: Any, make_recipe: Any, counted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of one size: the first two try it, all others overlap the exchange with the backward, as DDP does."""
    kind = type(make_recipe().modality.value)
    plain = kind.measure
    monkeypatch.setattr(kind, "measure", lambda modality, example: replace(plain(modality, example), prompt=8, response=8))
    run("run", *RANKS, "trainer.max_steps=9")
    assert counted() == {"alone": 2, "along": 7}


@pytest.mark.parametrize(("pieces", "kind"), [(1, "ddp_fork"), (3, "ddp_fork"), (3, "ddp_fork_find_unused_parameters_true")])
@pytest.mark.filterwarnings("ignore:find_unused_parameters=True was specified:UserWarning")
def test_both_ways_of_exchange_are_equal(pieces: int, kind: str, run: Any, look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Always by itself, and always along with the backward: the same rows and weights, bit for bit."""
    plain, made = Agreement.tell, {}

    def tell(answer: bool) -> Callable[[Agreement, int, bool], bool]:
        def told(self: Agreement, state: int, known: bool = True) -> bool:
            plain(self, state)
            return answer

        return told

    for answer in (True, False):
        monkeypatch.setattr(Agreement, "tell", tell(answer))
        changes = (f"trainer.strategy={kind}", f"trainer.accumulate_grad_batches={pieces}", "trainer.precision=32")
        made[answer] = run(f"{answer}", *RANKS, *changes)
    assert look.rows(made[True]) == look.rows(made[False])
    kept = look.weights(made[True])
    assert all(torch.equal(value, kept[name]) for name, value in look.weights(made[False]).items())
