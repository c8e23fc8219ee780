"""dpoframe: align any generative model with human preferences by Direct Preference Optimization, and prove the result.

Everything a plugin needs is here. Importing this package imports no torch: what needs it, and what reads data, loads on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dpoframe.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DpoframeError,
    Fault,
    MachineError,
    MissingExtraError,
    PluginError,
    TrainingError,
    UnknownNameError,
    UnscoredError,
)
from dpoframe.evaluator import Asset, Available, Evaluator, EvaluatorSpec, Refused, Scale, Scored
from dpoframe.hookspecs import hookimpl
from dpoframe.loss import Loss
from dpoframe.modality import Batch, GradientHint, Modality, blocks_of
from dpoframe.reporter import Reporter, ReporterSession, RunInfo
from dpoframe.rng import generator, seed_of
from dpoframe.types import (
    Content,
    Example,
    Measure,
    Media,
    Message,
    PairScores,
    PreferencePair,
    RefusedRow,
    Request,
    Sample,
    Scores,
    as_text,
    content_digest,
)

if TYPE_CHECKING:
    from dpoframe import losses, metrics
    from dpoframe.builtin.judge import AnyJudge
    from dpoframe.cli.output import emit, say
    from dpoframe.data.media import is_inside
    from dpoframe.data.raw import read_rows
    from dpoframe.data.rows import RawRow

__version__ = "0.1.0"

__all__ = [
    "AnyJudge",
    "Asset",
    "Available",
    "Batch",
    "CheckpointError",
    "ConfigError",
    "Content",
    "DataError",
    "DpoframeError",
    "Evaluator",
    "EvaluatorSpec",
    "Example",
    "Fault",
    "GradientHint",
    "Loss",
    "MachineError",
    "Measure",
    "Media",
    "Message",
    "MissingExtraError",
    "Modality",
    "PairScores",
    "PluginError",
    "PreferencePair",
    "RawRow",
    "Refused",
    "RefusedRow",
    "Reporter",
    "ReporterSession",
    "Request",
    "RunInfo",
    "Sample",
    "Scale",
    "Scored",
    "Scores",
    "TrainingError",
    "UnknownNameError",
    "UnscoredError",
    "as_text",
    "blocks_of",
    "content_digest",
    "emit",
    "generator",
    "hookimpl",
    "is_inside",
    "losses",
    "metrics",
    "read_rows",
    "say",
    "seed_of",
]

_LAZY = {
    "losses": "losses",
    "metrics": "metrics",
    "AnyJudge": "builtin.judge",
    "RawRow": "data.rows",
    "read_rows": "data.raw",
    "is_inside": "data.media",
    "emit": "cli.output",
    "say": "cli.output",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module = importlib.import_module(f"dpoframe.{_LAZY[name]}")
        return getattr(module, name, module)
    raise AttributeError(f"module 'dpoframe' has no attribute {name!r}")
