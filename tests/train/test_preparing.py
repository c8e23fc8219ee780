"""The frozen work before the policy is built: what the modality is given, when, and by which rank."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from dpoframe import Example, PreferencePair, Scale, hookimpl
from dpoframe.data.module import PairDataModule
from dpoframe.evaluator import Evaluator, EvaluatorSpec
from dpoframe.harness import Subject, Suite, run_suite
from dpoframe.testing import ModalityContract, ToyModality, toy_pairs
from dpoframe.train.fit import fit
from dpoframe.train.precomputing import precompute_reference
from dpoframe.train.preparing import share_of

LOG: list[Any] = []


@dataclass(frozen=True)
class PreparedToy(ToyModality):
    """The toy, which writes down what it is asked."""

    stochastic: ClassVar[bool] = True

    def prepare(self, examples: Iterable[Example]) -> None:
        """Takes all examples; draws from the global state, which must harm nothing."""
        LOG.append([(example.pair_id, example.response, example.seed) for example in examples])
        torch.rand(1)

    def build(self) -> nn.Module:
        """As the toy's."""
        LOG.append("build")
        return super().build()


class Prepared:
    """A plugin with it."""

    @hookimpl
    def dpoframe_modalities(self) -> Mapping[str, Any]:
        """The toy."""
        return {"prepared": PreparedToy}


@pytest.fixture(autouse=True)
def prepared(host: Any) -> None:
    """The plugin, installed, and an empty log."""
    host.register(Prepared(), "prepared")
    LOG.clear()


PARTS = {"modality": {"name": "prepared"}, "plugins": ["toy", "parts", "prepared"]}
SHORT = ("data.count=6", "trainer.batch_size=2", "trainer.max_steps=null")


def test_every_example_comes_once_before_the_build(run: Any, look: Any) -> None:
    """Two epochs of 4 pairs, with new seeds each, and 2 validation pairs: 20 examples, whole pairs, then the build."""
    run("run", *SHORT, "trainer.max_epochs=2", "data.validation=2", **PARTS)
    examples, *rest = LOG
    assert rest == ["build"]
    assert len(examples) == len(set(examples)) == 2 * (2 * 4 + 2)
    for (one, chosen, seed), (two, rejected, other) in zip(examples[::2], examples[1::2], strict=True):
        assert (one, seed) == (two, other)
        assert chosen != rejected
    plain = run("plain", *SHORT, "trainer.max_epochs=2", "data.validation=2", modality={"name": "toy"}, plugins=["toy", "parts"])
    own = run("own", *SHORT, "trainer.max_epochs=2", "data.validation=2", **PARTS)
    assert look.rows(own) == look.rows(plain)


def test_a_bank_of_seeds_bounds_what_comes(run: Any) -> None:
    """Five epochs with a bank of two draws bring each pair twice."""
    run("run", *SHORT, "trainer.max_epochs=5", "trainer.seeds_per_pair=2", **PARTS)
    assert len(LOG[0]) == len(set(LOG[0])) == 2 * 2 * 6


def test_progress_is_told(make_recipe: Any, host: Any, tmp_path: Path) -> None:
    """The stage `prepare` counts examples up to their number."""
    told: list[tuple[int, int]] = []

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "prepare":
            told.append((done, total))

    fit(make_recipe(*SHORT, "trainer.max_epochs=1", **PARTS), tmp_path / "run", host=host, progress=progress)
    assert told == [(done, 12) for done in range(1, 13)]


def test_precomputing_prepares_too(make_recipe: Any, host: Any) -> None:
    """`data reference` has the frozen work done before it builds the model."""
    with pytest.warns(RuntimeWarning, match="moved, not saved"):
        precompute_reference(make_recipe(*SHORT, "trainer.max_epochs=1", **PARTS), host)
    assert (len(LOG[0]), LOG[1]) == (12, "build")


def test_what_fails_leaves_no_run(make_recipe: Any, host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of `prepare` ends the run before anything is built or written."""

    def fail(self: Any, examples: Any) -> None:
        raise OSError("no room")

    monkeypatch.setattr(PreparedToy, "prepare", fail)
    with pytest.raises(OSError, match="no room"):
        fit(make_recipe(*SHORT, **PARTS), tmp_path / "run", host=host)
    assert LOG == []
    assert not (tmp_path / "run").exists()


def test_ranks_share_whole_pairs() -> None:
    """Three ranks have every example among them once, a pair and all its draws on one rank."""
    pairs = toy_pairs(40)
    data = PairDataModule(PreparedToy(), pairs, steps=20, batch_size=8)
    shares = [list(share_of(data, rank, 3)) for rank in range(3)]
    assert sum(map(len, shares)) == 2 * 160
    owners = [{example.pair_id for example in share} for share in shares]
    assert all(owners)
    assert sum(map(len, owners)) == len(set().union(*owners)) == 40


SCRIPT = """
import sys, time
from pathlib import Path
from dpoframe.testing import ToyModality, toy_pairs
from dpoframe.data.module import PairDataModule
from dpoframe.train.outer import outer_ranks
from dpoframe.train.preparing import prepare

rank, folder = outer_ranks()[0], Path(sys.argv[1])

class Slow(ToyModality):
    def prepare(self, examples):
        names = [example.pair_id for example in examples]
        time.sleep(1.0 if rank == 1 else 0.0)
        folder.joinpath(f"{rank}.txt").write_text(" ".join(names))

prepare(Slow(), PairDataModule(Slow(), toy_pairs(20), steps=3))
print(sorted(file.name for file in folder.iterdir()))
import torch.distributed as dist
dist.init_process_group("gloo")
dist.barrier()
prepare(Slow(), PairDataModule(Slow(), toy_pairs(20), steps=3))
print("again")
dist.destroy_process_group()
"""


def test_ranks_that_torchrun_started_wait_for_each_other(tmp_path: Path) -> None:
    """No rank goes on before all have prepared their share, and the trainer's process group can be made afterwards."""
    (tmp_path / "out").mkdir()
    (tmp_path / "script.py").write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    given = {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
             "MASTER_PORT": port, "GROUP_RANK": "0", "OMP_NUM_THREADS": "1"}  # fmt: skip
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "out")]
    ranks = [
        subprocess.Popen(command, env={**os.environ, **given, "RANK": rank, "LOCAL_RANK": rank}, stdout=subprocess.PIPE, text=True)
        for rank in ("0", "1")
    ]
    try:
        said = [rank.communicate(timeout=120)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert said == ["['0.txt', '1.txt']\nagain\n"] * 2
    names = [(tmp_path / "out" / f"{rank}.txt").read_text().split() for rank in (0, 1)]
    assert sorted(names[0] + names[1]) == sorted(2 * [pair.id for pair in toy_pairs(20)])


@dataclass(frozen=True)
class Margin(Evaluator):
    """Reads held-out pairs."""

    spec = EvaluatorSpec("margin", "1", "pair", {"margin": Scale()}, "margin")

    def score(self, sample: Any) -> dict[str, float]:
        """The margin."""
        return {"margin": sample.detail["margin"]}


def test_an_evaluation_prepares_what_it_will_weigh(tmp_path: Path) -> None:
    """Held-out pairs come whole before any is scored; a second evaluation of the same model prepares nothing new."""
    modality, pairs = PreparedToy(), tuple(toy_pairs(4))
    subject = Subject("toy", modality, ToyModality().build())
    suite = Suite("held-out", "1", "", (), pairs, {}, 1, 0, (Margin(),))
    told: list[tuple[str, int, int]] = []
    run_suite(subject, suite, tmp_path, progress=lambda *word: told.append(word))
    assert [word for word in told if word[0].startswith("prepare")] == [("prepare pairs", done, 8) for done in range(1, 9)]
    assert [pair for pair, _, _ in LOG[0]] == [pair.id for pair in pairs for _ in range(2)]
    run_suite(subject, suite, tmp_path)
    assert LOG[1:] == [[]]


@dataclass(frozen=True)
class Spoiler(ToyModality):
    """Its `prepare` decides its scores."""

    def prepare(self, examples: Iterable[Example]) -> None:
        """Leaves something behind that `collate` reads."""
        LOG.extend(examples)

    def collate(self, examples: Sequence[Example]) -> Any:
        """Shifts the prompts once something was prepared."""
        batch = super().collate(examples)
        return batch | {"prompt": batch["prompt"] + (0.5 if LOG else 0.0)}


@dataclass(frozen=True)
class Harmless(ToyModality):
    """Its frozen work decides nothing."""

    def prepare(self, examples: Iterable[Example]) -> None:
        """Collates pair by pair, as a modality does that fills a cache."""
        for pair in zip(*[iter(examples)] * 2, strict=True):
            assert len({example.pair_id for example in pair}) == 1
            self.collate(pair)


class TestPrepared(ModalityContract):
    """The contract holds for a modality with frozen work."""

    modality = Harmless()
    pairs: ClassVar[Sequence[PreferencePair]] = toy_pairs(6)


def test_the_contract_finds_results_that_depend_on_it() -> None:
    """A modality that scores otherwise once it is prepared fails, one that draws from the global state too."""
    for part in (Spoiler(), PreparedToy()):
        bound = type("Checked", (ModalityContract,), {"modality": part, "pairs": toy_pairs(6)})
        LOG.clear()
        assert "test_prepare_changes_no_score" in {one.check.name for one in bound.run() if one.status == "failed"}
