"""What the first step is held to: equal scores and the loss of equal scores, up to what rounding explains."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dpoframe import Loss, PairScores, hookimpl
from dpoframe.testing.toy import ToyModality
from dpoframe.train.reference import copy_of
from dpoframe.train.start import rounding, score_tolerance
from dpoframe.train.watch import lost_share

STORIES = Path(__file__).parents[2] / ".." / "shared" / "data" / "lm" / "stories260K_hf"
DIFFERS = "policy and reference should be equal"


@dataclass(frozen=True)
class Sharp(ToyModality):
    """The toy with logits as wide as a trained model's; `start` is the share of the head that the adapter has at first."""

    start: float = 0.0

    def build(self) -> nn.Module:
        """Wider weights, and the adapter where it starts."""
        model: Any = super().build()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(3)
            if model.adapter is not None:
                model.adapter.weight.copy_(self.start * model.head.weight)
        return model


@dataclass(frozen=True)
class Leaning(Loss):
    """Reads a detail of the reference, which differs where its scores do not."""

    @property
    def requires(self) -> frozenset[str]:
        """The entropy."""
        return frozenset({"entropy"})

    def __call__(self, scores: PairScores) -> Tensor:
        """(B,) squares of the entropies' difference, and of the margin."""
        differ = scores.detail["policy_chosen/entropy"] - scores.detail["reference_chosen/entropy"]
        return differ.square() + (scores.chosen_logratio - scores.rejected_logratio - 1).square()


@dataclass(frozen=True)
class Restless(Sharp):
    """Gives another entropy in evaluation mode than in training."""

    def score(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Any:
        """Scores with a detail that is off."""
        scores = super().score(model, batch)
        return dataclasses.replace(
            scores, detail={name: value + 0.5 * (not model.training) for name, value in scores.detail.items()}
        )


class Parts:
    """The plugin of these parts; its reference is the policy with every weight times `factor`."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    @hookimpl
    def dpoframe_modalities(self) -> Mapping[str, Any]:
        """Both toys."""
        return {"sharp": Sharp, "restless": Restless}

    @hookimpl
    def dpoframe_losses(self) -> Mapping[str, Any]:
        """The loss above."""
        return {"leaning": Leaning}

    @hookimpl
    def dpoframe_reference(self, modality: Any, policy: nn.Module, config: Any) -> nn.Module | None:
        """The scaled copy, where there is something to scale."""
        if self.factor == 1:
            return None
        made = copy_of(policy)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.set_(parameter * self.factor)  # type: ignore[no-untyped-call]
        return made


def go(run: Any, host: Any, kind: str, precision: str, factor: float, **sections: Any) -> Any:
    """One step with a reference of a kind whose weights are `factor` times the policy's."""
    host.register(Parts(factor if kind != "adapter" else 1.0), "watched")
    modality = {"name": "sharp", "adapter": kind == "adapter", "start": factor - 1 if kind == "adapter" else 0}
    changes = (f"trainer.precision={precision}", "trainer.max_steps=1", "trainer.tokens_per_batch=60")
    given = {"modality": modality, "data": {"name": "toy", "count": 20}, "reference": {"kind": kind}, **sections}
    return run(f"{kind}-{factor}", "plugins=[toy, parts, watched]", *changes, **given)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("kind", ["copy", "adapter", "cached"])
def test_a_reference_that_is_off_by_a_twentieth_is_told(kind: str, precision: str, run: Any, host: Any) -> None:
    """Weights times 1.05 (of an adapter: the head's) are no rounding, whatever the precision."""
    with pytest.warns(RuntimeWarning, match=DIFFERS):
        go(run, host, kind, precision, 1.05)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
@pytest.mark.parametrize("kind", ["copy", "adapter", "cached"])
def test_a_right_reference_is_not(kind: str, precision: str, run: Any, host: Any, look: Any) -> None:
    """No warning, which would be an error here, and the loss is ln 2."""
    row = look.rows(go(run, host, kind, precision, 1.0))[0]
    assert row["loss"] == pytest.approx(math.log(2), abs=1e-2)
    assert not any(name.startswith("start/") for name in row)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "64-true"])
@pytest.mark.parametrize("kind", ["copy", "adapter", "cached"])
def test_a_language_model_in_packed_batches_is_not(kind: str, precision: str, run: Any, host: Any) -> None:
    """Shared prompts, micro-batches and bfloat16 round within the tolerance."""
    text = pytest.importorskip("dpoframe_text")
    if not STORIES.is_dir():
        pytest.skip(f"the model {STORIES.name} is not beside this checkout")
    host.register(text, "text")
    lora = {"r": 4} if kind == "adapter" else None
    modality = {"name": "text", "model": str(STORIES.resolve()), "lora": lora}
    changes = (f"trainer.precision={precision}", "trainer.max_steps=1", "trainer.accumulate_grad_batches=2", "plugins=[toy, text]")
    run("run", *changes, modality=modality, data={"name": "toy", "count": 24}, reference={"kind": kind})


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_judged_by_itself(weighted: bool, run: Any, host: Any) -> None:
    """Where scores agree and the loss is not that of equal scores, the step is told with both losses."""
    host.register(Parts(), "watched")
    data = {"name": "weighted" if weighted else "toy", "count": 16}
    expected = sum(1.0 + number % 3 for number in range(16)) / 16 if weighted else 1
    with pytest.warns(RuntimeWarning, match=DIFFERS) as caught:
        run(
            "run",
            "plugins=[toy, parts, watched]",
            "trainer.batch_size=16",
            modality={"name": "restless"},
            loss={"name": "leaning"},
            data=data,
        )
    told = str(caught[0].message)
    assert f"the loss is {1.25 * expected:.6g}; of equal scores it is {expected:.6g}" in told


def test_the_tolerance_grows_as_rounding_does() -> None:
    """With the root of the length, with the precision's unit or the weights' own, and for scores of other batches."""
    model = nn.Linear(2, 2)
    units = [rounding(name, model) for name in ("32-true", "16-mixed", "bf16-mixed", "transformer-engine")]
    assert units == [2**-20, 2**-11, 2**-8, 2**-4]
    assert rounding("32-true", model.bfloat16()) == 2**-8
    short, long = (score_tolerance("copy", 2**-8, -2.0 * length, length) for length in (25, 100))
    assert long == pytest.approx(2 * short)
    assert score_tolerance("cached", 2**-8, -50, 25) == pytest.approx(3 * short)
    assert score_tolerance("copy", 2**-8, -69, 30) < 0.2


@pytest.mark.parametrize(("kind", "rate"), [(torch.bfloat16, 1e-5), (torch.float16, 1e-6)])
def test_updates_that_are_lost_in_rounding(kind: torch.dtype, rate: float) -> None:
    """The share that is told is of weights that one step of Adam leaves as they are, nearly all of them below it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weight = torch.nn.Parameter((torch.randn(20_000) * 0.02).to(kind))
    before = weight.detach().clone()
    told = lost_share([weight], rate)
    weight.grad = torch.ones_like(weight)
    torch.optim.Adam([weight], lr=rate, fused=False).step()
    stayed = float((weight == before).float().mean())
    assert 0.3 < told <= stayed + 1e-3
    assert stayed - told < 0.35


def test_float32_loses_nothing() -> None:
    """Nor do weights that are frozen."""
    assert lost_share([torch.nn.Parameter(torch.ones(3))], 1e-6) == 0
    assert lost_share([torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16), requires_grad=False)], 1e-6) == 0


def test_a_rate_too_small_for_the_weights(run: Any) -> None:
    """A run that trains weights of 16 bits says so where most updates are lost, and not where they count."""
    with pytest.warns(RuntimeWarning, match=r"an update is lost in rounding for \d+% of the trained weights"):
        run("lost", "trainer.precision=bf16-true", "trainer.lr=1e-6")
    run("kept", "trainer.precision=bf16-true", "trainer.lr=0.1", "trainer.max_steps=1")
