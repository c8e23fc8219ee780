"""Pair metrics against arithmetic written out."""

from __future__ import annotations

import pytest
import torch

from dpoframe import PairScores, losses, metrics

ROWS = [
    # policy chosen, policy rejected, reference chosen, reference rejected, chosen length, rejected length
    (-3.0, -2.5, -4.0, -2.0, 3, 2),
    (-2.5, -4.0, -1.5, -3.0, 2, 8),
    (-3.0, -3.0, -3.5, -1.0, 4, 1),
    (-9.0, -0.5, -2.5, -7.0, 9, 5),
]


def scores() -> PairScores:
    """The rows as float64 scores; the second pair's rewards are equal, the fourth's are the wrong way round."""
    return PairScores(*(torch.tensor(column, dtype=torch.float64) for column in zip(*ROWS, strict=True)))


def test_pair_metrics() -> None:
    """Every metric of the run folder's contract is a mean over the pairs; rewards are beta times log-ratios."""
    found = metrics.pair_metrics(scores(), torch.tensor([1.0, 2.0, 3.0, 6.0]), reward_scale=0.1)
    chosen, rejected = [1.0, -1.0, 0.5, -6.5], [-0.5, -1.0, -2.0, 6.5]
    expected = {
        "loss": 3.0,
        "rewards/chosen": 0.1 * sum(chosen) / 4,
        "rewards/rejected": 0.1 * sum(rejected) / 4,
        "rewards/margins": 0.1 * (sum(chosen) - sum(rejected)) / 4,
        "rewards/accuracies": (1 + 0.5 + 1 + 0) / 4,
        "logps/chosen": -17.5 / 4,
        "logps/rejected": -10.0 / 4,
    }
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=1e-12)


def test_ties_count_one_half() -> None:
    """Before the first step all rewards are equal and the accuracy is 1/2, not 0."""
    same = scores().replace(reference_chosen=scores().policy_chosen, reference_rejected=scores().policy_rejected)
    found = metrics.pair_metrics(same, torch.zeros(4))
    assert found["rewards/accuracies"].item() == 0.5
    assert found["rewards/margins"].item() == 0.0


@pytest.mark.parametrize(
    ("name", "chosen", "rejected"),
    [
        ("sigmoid", lambda pc, rc, m: 0.5 * (pc - rc), lambda pr, rr, n: 0.5 * (pr - rr)),
        ("ipo", lambda pc, rc, m: 0.5 * (pc - rc) / m, lambda pr, rr, n: 0.5 * (pr - rr) / n),
        ("sigmoid_norm", lambda pc, rc, m: 0.5 * (pc - rc) / m, lambda pr, rr, n: 0.5 * (pr - rr) / n),
        ("simpo", lambda pc, rc, m: 0.5 * pc / m, lambda pr, rr, n: 0.5 * pr / n),
        ("orpo", lambda pc, rc, m: 0.5 * pc / m, lambda pr, rr, n: 0.5 * pr / n),
        ("cpo", lambda pc, rc, m: 0.5 * pc, lambda pr, rr, n: 0.5 * pr),
        ("kto", lambda pc, rc, m: 0.5 * (pc - rc), lambda pr, rr, n: 0.5 * (pr - rr)),
    ],
)
def test_rewards_are_the_losses_own(name: str, chosen: object, rejected: object) -> None:
    """Accuracy is judged on what the loss compares: log-ratios or, without a reference, log-probabilities; a token or summed."""
    left = [chosen(pc, rc, m) for pc, _, rc, _, m, _ in ROWS]  # type: ignore[operator]
    right = [rejected(pr, rr, n) for _, pr, _, rr, _, n in ROWS]  # type: ignore[operator]
    rewards = losses.create(name, beta=0.5).rewards(scores())
    assert [side.tolist() for side in rewards] == [pytest.approx(left, rel=1e-12), pytest.approx(right, rel=1e-12)]
    found = metrics.pair_metrics(scores(), torch.zeros(4), rewards=rewards)["rewards/accuracies"].item()
    assert found == sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in zip(left, right, strict=True)) / 4


def test_metrics_hold_no_graph() -> None:
    """Metrics carry no gradient, so that keeping them keeps no activations."""
    leaf = scores().policy_chosen.clone().requires_grad_()
    given = scores().replace(policy_chosen=leaf)
    found = metrics.pair_metrics(given, losses.create("sigmoid")(given))
    assert not any(value.requires_grad for value in found.values())
