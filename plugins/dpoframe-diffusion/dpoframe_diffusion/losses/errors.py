"""Denoising errors out of scores."""

from __future__ import annotations

from torch import Tensor

from dpoframe import ConfigError, PairScores


def squared_error(value: Tensor) -> Tensor:
    """(B,) mean squared denoising error of scores (B,), which are minus half of it."""
    return -2 * value


def residual(scores: PairScores, who: str) -> Tensor:
    """(B, D) prediction minus target of `who` (such as `policy_chosen`); ConfigError where the scores came without it."""
    name = f"{who}/residual"
    if name not in scores.detail:
        given = ", ".join(sorted(scores.detail)) or "nothing"
        raise ConfigError(
            f"The loss dspo reads scores.detail[{name!r}], but the scores carry {given}. Switch the detail on with "
            "modality.with_details(loss.requires), and score both models live (reference kind copy or adapter)."
        )
    return scores.detail[name]
