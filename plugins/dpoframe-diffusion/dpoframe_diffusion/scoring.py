"""The score of a batch: minus half the mean squared error of what the denoiser predicts."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dpoframe import DataError, Scores

if TYPE_CHECKING:
    from dpoframe_diffusion.batch import Group, ImageBatch
    from dpoframe_diffusion.families import Family


def score_batch(family: Family, denoiser: nn.Module, batch: ImageBatch, details: Collection[str] = ()) -> Scores:
    """Scores (N,) in float64 (float32 where the device has none): -1/2 the mean over the latent of (prediction - target)^2.

    With weights it is the weighted mean. The mean, not the sum, so that `beta` is that of Diffusion-DPO (arXiv 2311.12908,
    where 5000 goes with -log s(-beta/2 (...)) on mean errors).

    Args:
        family: How the denoiser is called.
        denoiser: The model.
        batch: N examples.
        details: `residual` for (N, D) prediction minus target, times the root of the weight: the score is minus half the
            mean of its squares.

    Raises:
        DataError: residuals are asked for, and the latents are of different sizes.
    """
    residuals = [residual(family, denoiser, group, batch.prompts) for group in batch.groups]
    order = torch.cat([group.place for group in batch.groups]).argsort()
    value = torch.cat([-found.square().mean(1) / 2 for found in residuals])[order]
    detail = {"residual": _joined(residuals)[order]} if "residual" in details else {}
    return Scores(value, torch.ones_like(order), detail)


def residual(family: Family, denoiser: nn.Module, group: Group, prompts: dict[str, Tensor]) -> Tensor:
    """(n, D) prediction minus target of a group, times the root of the weights."""
    # Adapters are float32 on weights of any type: a weight that is not tells what the layers compute with.
    kind = _dtype(denoiser)
    conditions = {name: encoded[group.prompt].to(kind) for name, encoded in prompts.items()}
    prediction = family.predict(denoiser, group.noisy.to(kind), group.time, conditions, group.sizes)
    wide = torch.float32 if prediction.device.type == "mps" else torch.float64
    found = prediction.to(wide) - group.target.to(wide)
    if group.weight is not None:
        found = found * group.weight.to(wide).sqrt()
    return found.flatten(1)


def _dtype(denoiser: nn.Module) -> torch.dtype:
    types = [parameter.dtype for parameter in denoiser.parameters() if parameter.is_floating_point()]
    return next((kind for kind in types if kind != torch.float32), types[0])


def _joined(residuals: list[Tensor]) -> Tensor:
    if len({found.shape[1] for found in residuals}) > 1:
        raise DataError(
            "The loss compares residuals, and the pictures of this batch have different sizes. "
            "Set framing.buckets: false, or trainer.batch_size: 1."
        )
    return torch.cat(residuals)
