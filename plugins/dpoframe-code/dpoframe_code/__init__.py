"""Code synthesis for dpoframe.

This module is what the entry point names; it imports nothing heavy. The sandbox is `dpoframe_code.sandbox` and is usable
alone; what turns a benchmark's tests into calls and expected answers is `dpoframe_code.oracle`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dpoframe import hookimpl

__version__ = "0.1.0"

_RECIPES, _SUITES = (Path(__file__).parent / name for name in ("recipes", "suites"))


@hookimpl
def dpoframe_datasets() -> Mapping[str, str]:
    """Problems of code benchmarks, from their published files, and pairs of programs that were run."""
    return {
        "code_pairs": "dpoframe_code.problems.built:code_pairs",
        "code_problems": "dpoframe_code.problems.dataset:code_problems",
    }


@hookimpl
def dpoframe_evaluators() -> Mapping[str, str]:
    """Scores of programs."""
    return {
        "code_quality": "dpoframe_code.evaluators.code_quality:CodeQuality",
        "pass_at_k": "dpoframe_code.evaluators.pass_at_k:PassAtK",
        "runtime_ratio": "dpoframe_code.evaluators.runtime_ratio:RuntimeRatio",
    }


@hookimpl
def dpoframe_suites() -> Mapping[str, Path]:
    """Every YAML file beside this module in `suites/`, by its file name without the ending."""
    return {path.stem: path for path in sorted(_SUITES.glob("*.yaml"))}


@hookimpl
def dpoframe_recipes() -> Mapping[str, Path]:
    """Every YAML file beside this module in `recipes/`, by its file name without the ending."""
    return {path.stem: path for path in sorted(_RECIPES.glob("*.yaml"))}
