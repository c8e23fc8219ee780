"""Everything a plugin author needs to test a part: contracts to subclass, a toy modality, fixtures.

    from dpoframe.testing import ModalityContract

    class TestMine(ModalityContract):
        modality = Mine(width=8)

Importing this package imports no torch: pytest loads its fixtures in every project where dpoframe is installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpoframe.testing.dataset import DatasetContract
    from dpoframe.testing.evaluator import EvaluatorContract
    from dpoframe.testing.loss import LossContract
    from dpoframe.testing.modality import ModalityContract
    from dpoframe.testing.ranks import in_ranks
    from dpoframe.testing.reporter import ReporterContract
    from dpoframe.testing.toy import ToyLoss, ToyModality, toy_pairs

__all__ = [
    "DatasetContract",
    "EvaluatorContract",
    "LossContract",
    "ModalityContract",
    "ReporterContract",
    "ToyLoss",
    "ToyModality",
    "in_ranks",
    "toy_pairs",
]

_HOMES = {
    "DatasetContract": "dataset",
    "EvaluatorContract": "evaluator",
    "LossContract": "loss",
    "ModalityContract": "modality",
    "ReporterContract": "reporter",
    "ToyLoss": "toy",
    "ToyModality": "toy",
    "in_ranks": "ranks",
    "toy_pairs": "toy",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"dpoframe.testing.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'dpoframe.testing' has no attribute {name!r}")
