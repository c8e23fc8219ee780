"""Details that are vectors: they reach the loss of their micro-batch, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from dpoframe import ConfigError, Loss, Modality, PairScores, Scores, hookimpl
from dpoframe.losses import combine, create
from dpoframe.testing import LossContract, ModalityContract, ToyModality, toy_pairs
from dpoframe.train.fit import fit

WIDTH = 9


@dataclass(frozen=True)
class VectorToy(ToyModality):
    """The toy with a vector an example: the log-probabilities of its first characters, 0 after the end."""

    provides: ClassVar[frozenset[str]] = frozenset({"entropy", "letters"})

    def score(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Scores:
        """As the toy's, with `letters` (N, 9)."""
        scores = super().score(model, batch)
        if "letters" not in self.details:
            return scores
        log_p = model(batch["before"], batch["prompt"]).log_softmax(-1)
        known = batch["target"] >= 0
        letters = log_p.gather(-1, batch["target"].clamp(min=0)[..., None])[..., 0] * known
        return replace(scores, detail={**scores.detail, "letters": nn.functional.pad(letters, (0, WIDTH - letters.shape[1]))})


@dataclass(frozen=True)
class VectorLoss(Loss):
    """-log s(beta D), D summed up from the vectors: the core's sigmoid by another way."""

    beta: float = 0.1
    requires = frozenset({"letters"})
    vectors = frozenset({"letters"})

    def __call__(self, scores: PairScores) -> Tensor:
        """(B,) losses."""
        found = {name: scores.detail[f"{name}/letters"].sum(1) for name in ("policy_chosen", "policy_rejected")}
        other = {name: scores.detail[f"{name}/letters"].sum(1) for name in ("reference_chosen", "reference_rejected")}
        ratios = (found["policy_chosen"] - other["reference_chosen"]) - (found["policy_rejected"] - other["reference_rejected"])
        return -nn.functional.logsigmoid(self.beta * ratios)


class TestVectorLoss(LossContract):
    """The contract of a loss takes one that reads vectors."""

    loss = VectorLoss()


class TestVectorToy(ModalityContract):
    """The contract of a modality takes details that are vectors."""

    modality = VectorToy()
    pairs = toy_pairs(6)


class Vectors:
    """A plugin with both."""

    @hookimpl
    def dpoframe_modalities(self) -> Mapping[str, Any]:
        """The toy."""
        return {"vectors": VectorToy}

    @hookimpl
    def dpoframe_losses(self) -> Mapping[str, Any]:
        """The loss."""
        return {"vectors": VectorLoss}


@pytest.fixture(autouse=True)
def vectors(host: Any) -> None:
    """The plugin, installed."""
    host.register(Vectors(), "vectors")


PARTS = {"modality": {"name": "vectors"}, "plugins": ["toy", "parts", "vectors"]}
LONG = ("data.validation=0.25", "trainer.max_steps=4", "trainer.validate_every=2")


@pytest.mark.parametrize("split", ["trainer.accumulate_grad_batches=1", "trainer.accumulate_grad_batches=3"])
@pytest.mark.parametrize("parts", [("vectors",), ("vectors", "sigmoid")], ids="+".join)
def test_a_loss_of_vectors_trains_and_validates(split: str, parts: tuple[str, ...], run: Any, look: Any) -> None:
    """A loss that sums the vectors up is the core's sigmoid, which reads the sums: same rows in training and validation."""
    one = run("own", *LONG, split, loss=[{"name": name} for name in parts], **PARTS)
    two = run("core", *LONG, split, loss=[{"name": "sigmoid"} for _ in parts], **PARTS)
    for stage in (None, "validation"):
        assert len(look.rows(one, stage)) > 1
        for own, core in zip(look.rows(one, stage), look.rows(two, stage), strict=True):
            assert own == pytest.approx(core, rel=1e-9, abs=1e-11)


def test_two_ranks_train_as_one(run: Any, look: Any) -> None:
    """Vectors are not gathered, and need not be: two ranks have the rows of one."""
    single = run("one", *LONG, loss={"name": "vectors"}, **PARTS)
    double = run("two", *LONG, "trainer.devices=2", "trainer.strategy=ddp_fork", loss={"name": "vectors"}, **PARTS)
    for stage in (None, "validation"):
        for one, two in zip(look.rows(single, stage), look.rows(double, stage), strict=True):
            assert one == pytest.approx(two, rel=1e-6, abs=1e-9)


def test_a_cached_reference_is_refused(make_recipe: Any, host: Any, tmp_path: Any) -> None:
    """Nothing of a vector is kept, so kind cached is one clear error, from a recipe and from what a program makes."""
    with pytest.raises(ConfigError, match=r"vectors \(letters\).*copy or adapter"):
        make_recipe(loss={"name": "vectors"}, reference={"kind": "cached"}, **PARTS)
    recipe = make_recipe(loss={"name": "vectors"}, **PARTS)
    forced = replace(recipe, reference=replace(recipe.reference, kind="cached"))
    with pytest.raises(ConfigError, match=r"letters.*copy or adapter"):
        fit(forced, tmp_path / "run", host=host)
    assert not (tmp_path / "run").exists()


def test_a_vector_that_no_loss_declares_is_refused_by_the_cache(run: Any, host: Any) -> None:
    """A loss that forgets to say `vectors` learns it when the cache is filled, before the first step."""

    @dataclass(frozen=True)
    class Silent(VectorLoss):
        """Does not say it."""

        vectors = frozenset()

    class Forgetful:
        """Its plugin."""

        @hookimpl
        def dpoframe_losses(self) -> Mapping[str, Any]:
            """The silent loss."""
            return {"silent": Silent}

    host.register(Forgetful(), "forgetful")
    with pytest.raises(ConfigError, match=r"letters.*copy or adapter"):
        run("run", loss={"name": "silent"}, reference={"kind": "cached"}, modality={"name": "vectors"},
            plugins=["toy", "parts", "vectors", "forgetful"])  # fmt: skip


def test_coupled_pairs_and_vectors_do_not_go_together() -> None:
    """A loss over the whole step has no vectors of it; the sum of two such losses is refused before anything is loaded."""
    with pytest.raises(ConfigError, match="letters"):
        combine([(create("kto"), 1.0), (VectorLoss(), 1.0)])


def test_contracts_find_what_is_wrong() -> None:
    """A loss that couples pairs and reads vectors, and a modality whose detail has a third axis, fail their contracts."""

    @dataclass(frozen=True)
    class Coupled(VectorLoss):
        """Says both."""

        couples_pairs = True

    @dataclass(frozen=True)
    class Cubes(ToyModality):
        """Gives three axes."""

        def with_details(self, names: frozenset[str]) -> Modality:
            """As the toy's."""
            return super().with_details(names)

        def score(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Scores:
            """Adds axes to the detail."""
            scores = super().score(model, batch)
            return replace(scores, detail={name: value[:, None, None] for name, value in scores.detail.items()})

    for contract, part, check in (
        (LossContract, {"loss": Coupled()}, "test_reads_vectors_soundly"),
        (ModalityContract, {"modality": Cubes(), "pairs": toy_pairs(6)}, "test_details_can_be_switched_on"),
    ):
        bound = type("Checked", (contract,), part)
        assert {one.check.name for one in bound.run() if one.status == "failed"} >= {check}
    assert torch.is_tensor(VectorLoss()(TestVectorLoss().scores()))
