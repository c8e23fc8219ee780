"""The noising processes whose reversal a denoiser learns: what it is shown, and what it should say."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dpoframe import ConfigError

if TYPE_CHECKING:
    from dpoframe_diffusion.timesteps import TimestepSection

PREDICTIONS = ("epsilon", "v_prediction", "sample")
_BETAS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")

# Schedulers of other processes, by parts of their names: some of them too say that the model predicts epsilon.
_FOREIGN = ("EDM", "FlowMatch", "ScoreSde", "KarrasVe", "CMStochastic")

_CORRECT = "Correct scheduler_config.json, or copy it again from where the pipeline came from."


class Process(ABC):
    """How a clean latent becomes a noisy one. All latents are (n, C, h, w), all times (n,)."""

    @abstractmethod
    def draw(self, generator: torch.Generator, section: TimestepSection) -> Tensor:
        """A time, 0-dim, in the units of this process."""

    @abstractmethod
    def noisy(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """What the denoiser is shown."""

    @abstractmethod
    def target(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """What the denoiser should predict."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """What decides `noisy` and `target`: plain JSON values, equal for equal processes."""


@dataclass(frozen=True, eq=False)
class Ddpm(Process):
    """Denoising diffusion in discrete steps (Ho et al. 2020, arXiv 2006.11239): x_t = a x_0 + b e, a^2 + b^2 = 1.

    Times are the numbers of steps, int64, from 0.

    Attributes:
        alphas_cumprod: (T,) a^2 of each step.
        prediction: `epsilon`: the noise e; `v_prediction`: a e - b x_0 (Salimans and Ho 2022, arXiv 2202.00512);
            `sample`: x_0.
    """

    alphas_cumprod: Tensor
    prediction: str = "epsilon"

    @classmethod
    def from_scheduler(cls, config: Mapping[str, Any]) -> Ddpm:
        """The process for which a scheduler of diffusers undoes the noise.

        Args:
            config: What `scheduler_config.json` holds.

        Raises:
            ConfigError: its `prediction_type` is none of `PREDICTIONS`, it is the scheduler of another process, or its
                schedule of noise is none.
        """
        name = str(config.get("_class_name", ""))
        if any(part in name for part in _FOREIGN):
            raise ConfigError(
                f"The pipeline's scheduler is {name}, which undoes noise of another kind than diffusion in steps (DDPM, DDIM, "
                "Euler, DPM-Solver and the like). Models of that kind cannot be aligned; take another pipeline."
            )
        prediction = str(config.get("prediction_type", "epsilon"))
        if prediction not in PREDICTIONS:
            raise ConfigError(
                f"The scheduler {name} has prediction_type {prediction!r}; this pipeline can be trained "
                f"for {', '.join(PREDICTIONS)}. Take a pipeline of one of these, or correct scheduler_config.json."
            )
        return cls(_schedule({name: config[name] for name in _BETAS if name in config}), prediction)

    def draw(self, generator: torch.Generator, section: TimestepSection) -> Tensor:
        """The number of a step."""
        return torch.tensor(int(section.draw(generator) * len(self.alphas_cumprod)))

    def noisy(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """The mixture a x_0 + b e."""
        signal, spread = self._factors(clean, time)
        return signal * clean + spread * noise

    def target(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """By `prediction`: e, a e - b x_0 or x_0."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return clean
        signal, spread = self._factors(clean, time)
        return signal * noise - spread * clean

    def fingerprint(self) -> dict[str, Any]:
        """The kind of prediction, and a digest of the schedule."""
        schedule = hashlib.blake2b(self.alphas_cumprod.double().numpy().tobytes(), digest_size=16).hexdigest()
        return {"kind": "ddpm", "prediction": self.prediction, "schedule": schedule}

    def _factors(self, like: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """The factors a and b of each time, (n, 1, 1, 1)."""
        kept = self.alphas_cumprod.to(like)[time].view(-1, *[1] * (like.ndim - 1))
        return kept.sqrt(), (1 - kept).sqrt()


def _schedule(betas: Mapping[str, Any]) -> Tensor:
    """The `alphas_cumprod` (T,) of what a scheduler's config says of its noise; ConfigError where that makes none."""
    from diffusers import DDPMScheduler

    kind: Any = DDPMScheduler
    told = ", ".join(f"{name} {value!r}"[:80] for name, value in betas.items() if value is not None)
    try:
        kept: Tensor = kind(**betas).alphas_cumprod
    except Exception as error:  # the library raises what the arithmetic does
        raise ConfigError(f"The pipeline's scheduler makes no schedule of noise of {told} ({error}). {_CORRECT}") from error
    if not (len(kept) and bool(((kept >= 0) & (kept <= 1)).all())):
        raise ConfigError(f"The pipeline's scheduler makes no schedule of noise of {told}. {_CORRECT}")
    return kept


@dataclass(frozen=True)
class Flow(Process):
    """Rectified flow (Liu et al. 2022, arXiv 2209.03003): x_s = (1 - s) x_0 + s e, and the target is e - x_0.

    Times s are float32, from 0 (clean) to 1 (noise).

    Attributes:
        shift: Moves times towards the noise, as larger pictures need it: s = shift u / (1 + (shift - 1) u)
            (arXiv 2403.03206, section 5.3.2).
    """

    shift: float = 1.0

    @classmethod
    def from_scheduler(cls, config: Mapping[str, Any]) -> Flow:
        """The process for which a flow matching scheduler of diffusers undoes the noise.

        A shift that the scheduler makes depend on the picture's size belongs to drawing pictures; training draws without it.

        Args:
            config: What `scheduler_config.json` holds.

        Raises:
            ConfigError: it is the scheduler of another process, or its shift is none.
        """
        name = str(config.get("_class_name", ""))
        if "FlowMatch" not in name:
            raise ConfigError(
                f"The pipeline's scheduler is {name or 'unknown'}; a flow matching model needs one such as "
                "FlowMatchEulerDiscreteScheduler. Correct scheduler_config.json, or take another pipeline."
            )
        shift = config.get("shift")
        if config.get("use_dynamic_shifting") or shift is None:
            return cls()
        if isinstance(shift, bool) or not isinstance(shift, int | float) or not 0 < shift < math.inf:
            raise ConfigError(f"The pipeline's scheduler has shift {shift!r}, expected a number above 0. {_CORRECT}")
        return cls(float(shift))

    def draw(self, generator: torch.Generator, section: TimestepSection) -> Tensor:
        """A time s; `section` speaks of it before the shift."""
        place = section.draw(generator)
        return torch.tensor(self.shift * place / (1 + (self.shift - 1) * place), dtype=torch.float32)

    def noisy(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """(1 - s) x_0 + s e."""
        share = time.to(clean).view(-1, *[1] * (clean.ndim - 1))
        return (1 - share) * clean + share * noise

    def target(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """The straight way from the picture to the noise, e - x_0."""
        return noise - clean

    def fingerprint(self) -> dict[str, Any]:
        """The shift."""
        return {"kind": "flow", "shift": self.shift}
