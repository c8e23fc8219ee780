"""Benchmark suites for dpoframe, every YAML file in `suites/` by its name, and the evaluators that read their rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dpoframe import hookimpl

__version__ = "0.1.0"

_SUITES = Path(__file__).parent / "suites"


@hookimpl
def dpoframe_suites() -> Mapping[str, Path]:
    """Every suite of this distribution."""
    return {path.stem: path for path in sorted(_SUITES.glob("*.yaml"))}


@hookimpl
def dpoframe_evaluators() -> Mapping[str, str]:
    """Checks of form, and of refusals where none is called for."""
    return {"complied": "dpoframe_evals.complied:Complied", "follows_format": "dpoframe_evals.follows_format:FollowsFormat"}
