"""Which times of the noising process are trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TimestepSection:
    """Distribution of the place on the time line at which a picture is made noisy: 0 is clean, 1 is pure noise.

    Attributes:
        distribution: `uniform`, as in Diffusion-DPO (arXiv 2311.12908), or `logit_normal`, as in Stable Diffusion 3
            (arXiv 2403.03206, section 3.1): the logistic function of a normal draw, which prefers the middle.
        low: Where the part of the line begins that is drawn from.
        high: Where it ends. Both distributions are cut off at these two, not stretched between them.
        mean: Mean of the normal draw of `logit_normal`; below 0 prefers clean pictures.
        std: Its standard deviation.
    """

    distribution: Literal["uniform", "logit_normal"] = "uniform"
    low: float = 0.0
    high: float = 1.0
    mean: float = 0.0
    std: float = 1.0

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def faults(self) -> list[str]:
        """Everything wrong with the values, each in a sentence."""
        rules = [
            (
                not 0 <= self.low < self.high <= 1,
                f"low and high are {self.low} and {self.high}; they must be 0 <= low < high <= 1.",
            ),
            (not math.isfinite(self.mean), f"mean is {self.mean}; it must be a finite number."),
            (not 0 < self.std < math.inf, f"std is {self.std}; it must be above 0 and finite."),
        ]
        return [f"timesteps.{message}" for wrong, message in rules if wrong]

    def draw(self, generator: torch.Generator) -> float:
        """One place from `low` to below `high`; takes a single number from the generator."""
        import torch

        share = torch.rand((), generator=generator, dtype=torch.float64)
        if self.distribution == "uniform":
            place = self.low + (self.high - self.low) * share
        else:
            # The inverse of the distribution function, within the part of it that lies between low and high.
            ends = torch.special.ndtr((torch.tensor([self.low, self.high], dtype=torch.float64).logit() - self.mean) / self.std)
            place = (self.mean + self.std * torch.special.ndtri(ends[0] + (ends[1] - ends[0]) * share)).sigmoid()
        # Rounding must not carry it over the ends: the last index of a noise schedule is below 1.
        return min(max(float(place), self.low), math.nextafter(self.high, 0))
