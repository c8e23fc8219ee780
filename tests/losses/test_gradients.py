"""Gradients of every loss against finite differences, and where there must be none."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dpoframe import PairScores, losses

SIDES = ("policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected")
STEP = {
    "policy_mismatched": [-4.0, -3.5, -3.2, -6.0],
    "reference_mismatched": [-4.6, -3.6, -3.4, -6.1],
    "state/mean": 0.13,
    "step/chosen_length": 5.5,
}
MODIFIED: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in losses.names()),
    *(("sigmoid", {"f_divergence": kind}) for kind in ("forward_kl", "js_divergence", "alpha_divergence")),
    *((name, {"ld_alpha": 0.3}) for name in ("sigmoid", "ipo", "aot", "bco_pair", "dpop")),
    *((name, {"wpo": True}) for name in ("sigmoid", "simpo", "orpo", "cpo")),
    ("sigmoid", {"label_smoothing": 0.2, "ld_alpha": 0.3, "wpo": True, "f_divergence": "js_divergence"}),
]


def from_leaves(*leaves: torch.Tensor) -> PairScores:
    """Scores whose values and shared parts are the given (4,) leaves; everything else is fixed."""
    values = dict(zip(SIDES, leaves[:4], strict=True))
    detail = {name: torch.tensor(value, dtype=torch.float64) for name, value in STEP.items()}
    detail |= {f"{side}/shared": leaf for side, leaf in zip(SIDES, leaves[4:], strict=True)}
    detail |= {f"{side}/wpo": torch.tensor([-0.3, 0.1, -0.2, -0.5], dtype=torch.float64) for side in SIDES}
    lengths = torch.tensor([3, 2, 4, 8]), torch.tensor([2, 4, 1, 5])
    return PairScores(**values, chosen_length=lengths[0], rejected_length=lengths[1], detail=detail)


def leaves() -> list[torch.Tensor]:
    """Eight random (4,) leaves, no log-ratio at a kink or a tie."""
    generator = torch.Generator().manual_seed(7)
    return [(-5 + 2 * torch.randn(4, generator=generator, dtype=torch.float64)).requires_grad_() for _ in range(8)]


@pytest.mark.parametrize(("name", "fields"), MODIFIED, ids=str)
def test_gradient_is_the_derivative(name: str, fields: dict[str, Any]) -> None:
    """Backward through the loss gives what finite differences give, by values and by shared parts."""
    loss = losses.create(name, **fields)
    assert torch.autograd.gradcheck(lambda *parts: loss(from_leaves(*parts)), leaves())


def test_kto_divergence_has_no_gradient() -> None:
    """The divergence z moves the loss but is a constant to backward."""
    mismatched = torch.tensor(STEP["policy_mismatched"], dtype=torch.float64, requires_grad=True)
    scores = from_leaves(*leaves())
    scores = scores.replace(detail={**scores.detail, "policy_mismatched": mismatched})
    losses.create("kto")(scores).sum().backward()
    assert mismatched.grad is None


def test_state_carries_no_graph() -> None:
    """What bco_pair remembers holds no graph, so a step's memory is freed."""
    state = losses.create("bco_pair").update({}, from_leaves(*leaves()))
    assert not any(value.requires_grad for value in state.values())


@pytest.mark.parametrize("name", ["aot", "aot_unpaired", "kto"])
def test_coupled_losses_reach_across_pairs(name: str) -> None:
    """Moving the first pair alone changes the loss of others: what couples_pairs warns of is there."""
    scores = from_leaves(*(leaf.detach() for leaf in leaves()))
    shift = torch.tensor([20.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    moved = scores.replace(
        policy_rejected=scores.policy_rejected - shift,
        reference_rejected=scores.reference_rejected + shift,
        detail={**scores.detail, "policy_mismatched": scores.detail["policy_mismatched"] + shift},
    )
    loss = losses.create(name)
    assert loss.couples_pairs
    assert (loss(moved) - loss(scores))[1:].abs().max() > 1e-3
