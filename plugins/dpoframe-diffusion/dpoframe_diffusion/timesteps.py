"""Which times of the noising process are trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    import torch

_FARTHEST = 30.0
"""Standard deviations from the mean beyond which next to nothing of a normal distribution lies, and float64 ends."""


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
        found = [f"timesteps.{message}" for wrong, message in rules if wrong]
        if not found and self.distribution == "logit_normal" and self._distance() > _FARTHEST:
            found = [
                f"timesteps.low and high, {self.low} and {self.high}, hold next to nothing of a logit-normal distribution of "
                f"mean {self.mean} and std {self.std}; widen them, or move the mean."
            ]
        return found

    def _distance(self) -> float:
        """How many standard deviations the mean lies outside of what is drawn from."""
        low, high = (
            math.log(end / (1 - end)) if 0 < end < 1 else math.copysign(math.inf, end - 0.5) for end in (self.low, self.high)
        )
        return max(low - self.mean, self.mean - high, 0.0) / self.std

    def draw(self, generator: torch.Generator) -> float:
        """One place from `low` to below `high`; takes a single number from the generator."""
        import torch

        share = torch.rand((), generator=generator, dtype=torch.float64)
        if self.distribution == "uniform":
            place = self.low + (self.high - self.low) * share
        else:
            # The inverse of the distribution function, within the part of it that lies between low and high.
            ends = (torch.tensor([self.low, self.high], dtype=torch.float64).logit() - self.mean) / self.std
            # Above the mean from the other side: close to 1 a float64 cannot tell the values of the function apart.
            side = -1 if ends[0] > 0 else 1
            # By erfc, which is exact far out, where torch's ndtr is 0.
            first, last = torch.special.erfc(-side * ends / math.sqrt(2)) / 2
            place = (self.mean + self.std * side * torch.special.ndtri(first + (last - first) * share)).sigmoid()
        # Rounding must not carry it over the ends: the last index of a noise schedule is below 1.
        return min(max(float(place), self.low), math.nextafter(self.high, 0))
