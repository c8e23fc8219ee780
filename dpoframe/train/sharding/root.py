"""The one way in which a model is asked for scores, whether it is whole or split over ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from dpoframe.modality import Batch, GradientHint, Modality
from dpoframe.types import Scores

ROOT = "_dpoframe_root"
"""Where a split model keeps its root; no submodule, so that names of parameters are those of a whole one."""


class Root(nn.Module):
    """Around a split model: its forward is a whole call of `Modality.score`.

    A modality reads weights where it likes (the output layer's, tile by tile), not only by calling modules. The parameters
    that belong to no block are gathered when this forward begins and let go when it ends, and again in the backward.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, run: Callable[[], Scores]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """What `run` gives, as plain tensors: the backward's hooks go on these."""
        found = run()
        return _owned(found.value), found.length, {name: _owned(value) for name, value in found.detail.items()}


def score(modality: Modality, model: nn.Module, inputs: Batch, hint: GradientHint | None = None) -> Scores:
    """Scores by a model, whole or split; with a hint, see `Modality.score_with_hint`."""

    def run() -> Scores:
        return modality.score(model, inputs) if hint is None else modality.score_with_hint(model, inputs, hint)

    root: Any = model.__dict__.get(ROOT)
    return run() if root is None else Scores(*root(run))


def is_split(model: nn.Module) -> bool:
    """Whether the model's parameters lie on several ranks."""
    return ROOT in model.__dict__


def _owned(value: Tensor) -> Tensor:
    """A tensor that is no view, since the hooks of one would be lost where it is changed in place."""
    return value.clone() if value._base is not None else value
