"""Trains the example's base from nothing: first the autoencoder on real digits, then text encoder and UNet on its latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dpoframe import generator, seed_of
from dpoframe_diffusion.example.base_settings import BaseSettings, Progress
from dpoframe_diffusion.example.digits import Digit, caption, digits
from dpoframe_diffusion.example.networks import untrained
from dpoframe_diffusion.quiet import quiet


@dataclass(frozen=True)
class Trained:
    """The base, a `StableDiffusionPipeline`, and the last losses of its two stages (means of the last tenth of the steps)."""

    pipeline: Any
    autoencoder_loss: float
    denoiser_loss: float


def train_base(settings: BaseSettings, progress: Progress) -> Trained:
    """Trains a pipeline on the digits of the share `train`, each by its own caption.

    Args:
        settings: How.
        progress: Told of every step, with the stages `autoencoder` and `denoiser`.
    """
    shown = digits("train")
    with _alone(settings):
        with quiet():  # importing pipelines makes other libraries talk
            pipeline: Any = untrained(sorted({one.caption for one in shown}), settings.sizes)
        pictures = _pictures(shown)
        first = _train_autoencoder(pipeline.vae, pictures, settings, progress)
        mean, deviation = _encoded(pipeline.vae, pictures)
        scale = 1.0 / float((mean + deviation * _noise(settings, "scale", mean.shape)).std())
        pipeline.vae.register_to_config(scaling_factor=scale)
        latents = _Latents(mean * scale, deviation * scale, torch.tensor([one.label for one in shown]))
        second = _train_denoiser(pipeline, latents, settings, progress)
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
        part.eval()
    return Trained(pipeline, first, second)


@dataclass(frozen=True)
class _Latents:
    """Means and deviations (n, 4, 8, 8) of the scaled latents, and the digits' labels (n,)."""

    mean: Tensor
    deviation: Tensor
    labels: Tensor


@contextmanager
def _alone(settings: BaseSettings) -> Iterator[None]:
    """Context with its own seed and thread count; what they were before is put back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            yield
    finally:
        torch.set_num_threads(threads)


def _pictures(shown: Sequence[Digit]) -> Tensor:
    """(n, 3, SIDE, SIDE) in [-1, 1], white 1."""
    grey = np.stack([np.asarray(one.picture(), dtype=np.float32) for one in shown])
    return torch.from_numpy(grey / 127.5 - 1.0).permute(0, 3, 1, 2).contiguous()


def _train_autoencoder(vae: Any, pictures: Tensor, settings: BaseSettings, progress: Progress) -> float:
    """Squared error of the picture, and a little of the divergence of the latent from a normal distribution."""
    draws = generator(seed_of(settings.seed, "autoencoder"))

    def loss(step: int) -> Tensor:
        shown = pictures[_chosen(len(pictures), settings.batch, draws)]
        posterior = vae.encode(shown).latent_dist
        drawn = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=draws)
        error = functional.mse_loss(vae.decode(drawn).sample, shown)
        divergence: Tensor = posterior.kl().mean() / drawn[0].numel()
        return error + settings.kl * divergence

    return _descend([vae], loss, settings.autoencoder_steps, settings.autoencoder_lr, _named(progress, "autoencoder"))


def _train_denoiser(pipeline: Any, latents: _Latents, settings: BaseSettings, progress: Progress) -> float:
    """The noise in a noisy latent is predicted from latent, timestep and caption (Ho et al. 2020, equation 14)."""
    draws, steps = generator(seed_of(settings.seed, "denoiser")), pipeline.scheduler.config.num_train_timesteps
    tokens = _tokens(pipeline.tokenizer)

    def loss(step: int) -> Tensor:
        some = _chosen(len(latents.labels), settings.batch, draws)
        shape = latents.mean[some].shape
        clean = latents.mean[some] + latents.deviation[some] * torch.randn(shape, generator=draws)
        noise = torch.randn(shape, generator=draws)
        time = torch.randint(0, steps, (len(some),), generator=draws)
        silent = torch.rand(len(some), generator=draws) < settings.unconditional
        prompts = pipeline.text_encoder(tokens).last_hidden_state
        asked = prompts[torch.where(silent, len(prompts) - 1, latents.labels[some])]
        noisy = pipeline.scheduler.add_noise(clean, noise, time)
        return functional.mse_loss(pipeline.unet(noisy, time, asked).sample, noise)

    parts = [pipeline.unet, pipeline.text_encoder]
    told = _named(progress, "denoiser")
    return _descend(parts, loss, settings.denoiser_steps, settings.denoiser_lr, told, averaging=settings.averaging)


def _descend(
    parts: Sequence[nn.Module],
    loss: Callable[[int], Tensor],
    steps: int,
    lr: float,
    told: Callable[[int, int], None],
    averaging: float | None = None,
) -> float:
    """AdamW with one cycle of the learning rate; returns the mean loss of the last tenth of the steps.

    With `averaging` the parts end with the exponential average of their weights, which draw better than the last ones.
    """
    weights = [weight for part in parts for weight in part.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=lr, weight_decay=1e-4)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1, pct_start=0.1)
    average = [weight.detach().clone() for weight in weights] if averaging is not None else []
    seen = []
    for part in parts:
        part.train()
    for step in range(steps):
        optimizer.zero_grad()
        found = loss(step)
        found.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        cycle.step()
        if averaging is not None:
            # The first steps count less: an average that starts at the untrained weights would keep them for long.
            keep = min(averaging, (1 + step) / (10 + step))
            torch._foreach_lerp_(average, [weight.detach() for weight in weights], 1.0 - keep)
        seen.append(found.detach())
        told(step + 1, steps)
    with torch.no_grad():
        for weight, mean in zip(weights, average, strict=False):
            weight.copy_(mean)
    last = seen[-max(1, steps // 10) :]
    return float(torch.stack(last).mean())


def _encoded(vae: Any, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every picture's latent, once."""
    vae.eval()
    with torch.no_grad():
        found = [vae.encode(some).latent_dist for some in pictures.split(100)]
    return torch.cat([one.mean for one in found]), torch.cat([one.std for one in found])


def _tokens(tokenizer: Any) -> Tensor:
    """(11, length) ids of the ten captions and of the empty one."""
    texts = [*(caption(label) for label in range(10)), ""]
    found: Tensor = tokenizer(texts, padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt").input_ids
    return found


def _chosen(count: int, batch: int, draws: torch.Generator) -> Tensor:
    return torch.randint(0, count, (batch,), generator=draws)


def _noise(settings: BaseSettings, name: str, shape: torch.Size) -> Tensor:
    return torch.randn(shape, generator=generator(seed_of(settings.seed, name)))


def _named(progress: Progress, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(stage, done, total)
