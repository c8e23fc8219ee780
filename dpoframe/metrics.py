"""Numbers that a run logs about its pairs: pure functions of rewards, scores and losses, all without gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dpoframe.types import PairScores

if TYPE_CHECKING:
    from torch import Tensor


def reward_metrics(chosen: Tensor, rejected: Tensor) -> Mapping[str, Tensor]:
    """`rewards/chosen`, `/rejected`, `/margins`, `/accuracies` of (B,) rewards, each the mean over pairs, 0-dim.

    The accuracy of a pair is 1 where the chosen response has the higher reward, 1/2 where they are equal, else 0.
    """
    chosen, rejected = chosen.detach(), rejected.detach()
    accuracies = (chosen > rejected).to(chosen) + (chosen == rejected).to(chosen) / 2
    return {
        "rewards/chosen": chosen.mean(),
        "rewards/rejected": rejected.mean(),
        "rewards/margins": (chosen - rejected).mean(),
        "rewards/accuracies": accuracies.mean(),
    }


def score_metrics(scores: PairScores) -> Mapping[str, Tensor]:
    """`logps/chosen` and `logps/rejected`: the policy's scores, the mean over pairs, 0-dim; nats for text."""
    return {
        "logps/chosen": scores.policy_chosen.detach().mean(),
        "logps/rejected": scores.policy_rejected.detach().mean(),
    }


def pair_metrics(
    scores: PairScores,
    losses: Tensor,
    reward_scale: float = 1.0,
    rewards: tuple[Tensor, Tensor] | None = None,
) -> Mapping[str, Tensor]:
    """Every metric of a set of pairs: `loss`, `rewards/...`, `logps/...`, each 0-dim.

    Args:
        scores: Scores of B pairs.
        losses: (B,) their losses.
        reward_scale: Factor from log-ratio to reward, used where `rewards` is not given.
        rewards: What `Loss.rewards(scores)` returns; give it wherever the loss is at hand, because losses without a
            reference, or of means a token, compare something else than the log-ratio.
    """
    chosen, rejected = rewards or (reward_scale * scores.chosen_logratio, reward_scale * scores.rejected_logratio)
    return {"loss": losses.detach().mean(), **reward_metrics(chosen, rejected), **score_metrics(scores)}
