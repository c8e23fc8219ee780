"""Running out of memory costs a word, not the run, and not a digit of its result."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from dpoframe import MachineError, Scores
from dpoframe.train.memory import is_out_of_memory

CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:127] data. DefaultCPUAllocator: can't allocate memory")
CUT = "ignore:Out of memory in step:RuntimeWarning"


@dataclass
class Machine:
    """A machine that scores with gradients no more than `rows` examples at once, and says `error` of more."""

    rows: int
    error: BaseException
    sizes: ClassVar[list[int]] = []

    def score(self, plain: Any) -> Any:
        """The modality's own score on such a machine."""

        def limited(modality: Any, model: nn.Module, batch: Any) -> Scores:
            if torch.is_grad_enabled():
                self.sizes.append(len(batch["target"]))
                if len(batch["target"]) > self.rows:
                    model(batch["before"], batch["prompt"])  # draws dropout before it fails
                    raise self.error
            return plain(modality, model, batch)  # type: ignore[no-any-return]

        return limited


@pytest.fixture
def small(make_recipe: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`small(rows, error)` puts the modality of these tests on such a machine."""

    def make(rows: int, error: BaseException) -> Machine:
        kind, machine = type(make_recipe().modality.value), Machine(rows, error)
        machine.sizes.clear()
        monkeypatch.setattr(kind, "score", machine.score(kind.score))
        return machine

    return make


@pytest.mark.filterwarnings("ignore:At the first step policy and reference should be equal:RuntimeWarning")
@pytest.mark.parametrize("error", [CUDA, CPU, MemoryError()], ids=["gpu", "cpu", "python"])
@pytest.mark.parametrize("loss", ["sigmoid", "aot"])
def test_a_step_is_cut_until_it_fits(error: BaseException, loss: str, run: Any, small: Any, look: Any) -> None:
    """8 pairs where 2 fit, for a loss that takes pairs one by one and one that couples them: the same rows and weights."""
    sections = {"loss": {"name": loss}, "data": {"name": "weighted", "count": 20}}
    whole = run("whole", **sections)
    machine = small(4, error)
    with pytest.warns(RuntimeWarning, match=r"Out of memory in step 0 .*set trainer\.tokens_per_batch: \d+ to begin so"):
        cut = run("cut", **sections)
    for before, after in zip(look.rows(whole), look.rows(cut), strict=True):
        assert after == pytest.approx(before, rel=1e-9, abs=1e-12)
    kept = look.weights(whole)
    assert all(torch.allclose(value, kept[name], rtol=1e-9, atol=1e-12) for name, value in look.weights(cut).items())
    assert sum(size > 4 for size in machine.sizes) <= 4, "the limit is remembered: only the first step is tried in large parts"


@pytest.mark.filterwarnings("ignore:At the first step policy and reference should be equal:RuntimeWarning", CUT)
def test_dropout_is_drawn_anew_from_the_same_state(run: Any, small: Any, look: Any) -> None:
    """A step that was cut by force draws the dropout of one that was told the limit beforehand."""
    changes = ("modality.dropout=0.3", "trainer.max_steps=1")
    small(4, CUDA)
    with pytest.warns(RuntimeWarning, match="tokens_per_batch") as told:
        cut = run("cut", *changes)
    *_, limit = (match[1] for one in told if (match := re.search(r"tokens_per_batch: (\d+) to begin so", str(one.message))))
    assert look.rows(run("told", *changes, f"trainer.tokens_per_batch={limit}")) == look.rows(cut)


@pytest.mark.filterwarnings(CUT)
def test_a_pair_that_does_not_fit_ends_the_run(run: Any, small: Any) -> None:
    """With one pair too large there is nothing to cut: the message says what helps."""
    small(1, CUDA)
    with pytest.raises(MachineError, match=r"one pair of \d+ units alone does not fit\. Train fewer parameters"):
        run("run")


def test_other_errors_pass() -> None:
    """A RuntimeError of another kind is no lack of memory."""
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    assert all(is_out_of_memory(error) for error in (CUDA, CPU, MemoryError()))
