"""The heads of LAION's aesthetic predictors."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpoframe_diffusion.evaluators.weights import MissingWeightsError, sha256

if TYPE_CHECKING:
    from torch import Tensor

ADDRESS = "https://github.com/christophschuhmann/improved-aesthetic-predictor/raw/main/sac%2Blogos%2Bava1-l14-linearMSE.pth"
"""Where version 2 lies."""

_FETCH = f"Fetch it again: curl -LO {ADDRESS}"


@dataclass(frozen=True)
class AestheticHead:
    """Linear layers one after the other, as (weight, bias).

    Both published heads are no more than that: version 2 was trained with dropout between its layers, which is off in use, and
    has no activations.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]

    @property
    def inputs(self) -> int:
        """Length of the vectors it takes."""
        return int(self.layers[0][0].shape[1])

    def rating(self, vector: Tensor) -> float:
        """The rating of a CLIP vector (D,) of length 1."""
        import torch

        found = vector.float().cpu()
        for weight, bias in self.layers:
            found = torch.nn.functional.linear(found, weight, bias)
        return float(found)


def kind_of(file: Path) -> str:
    """`v1` for one layer, `v2` for several; errors as for `read_head`."""
    return "v1" if len(read_head(file).layers) == 1 else "v2"


def read_head(file: Path) -> AestheticHead:
    """Reads a head, once a process.

    Raises:
        MissingWeightsError: the file is no state dict of linear layers that end in one number.
    """
    return _read(file, sha256(file))


@functools.lru_cache(maxsize=8)
def _read(file: Path, mark: str) -> AestheticHead:
    import torch

    try:
        state: Any = torch.load(file, map_location="cpu", weights_only=True)
        names = sorted((name.removesuffix("weight") for name in state if name.endswith("weight")), key=_place)
        layers = tuple((state[f"{name}weight"].float(), state[f"{name}bias"].float()) for name in names)
        widths = [weight.shape[0] for weight, _ in layers]
        fits = bool(layers) and [weight.shape[1] for weight, _ in layers[1:]] == widths[:-1] and widths[-1] == 1
    except Exception as error:  # a file of any kind may stand there
        raise MissingWeightsError(f"{file} cannot be read as weights ({type(error).__name__})", _FETCH) from error
    if not fits or len(state) != 2 * len(layers):
        raise MissingWeightsError(f"{file} is no head of linear layers that end in one number", _FETCH)
    return AestheticHead(layers)


def _place(name: str) -> int:
    """The number in `layers.4.`, by which the layers follow each other."""
    return int("".join(filter(str.isdigit, name)) or 0)
