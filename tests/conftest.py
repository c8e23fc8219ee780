"""What tests of several parts share: an evaluation's folder, written from scores that a test makes up."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest

Values: TypeAlias = Mapping[str, float] | float | None
EvaluationWriter: TypeAlias = Callable[..., Path]

SCALES: dict[str, dict[str, Any]] = {
    "right": {"low": 0.0, "high": 1.0, "unit": "share", "better": "higher"},
    "loops": {"low": 0.0, "high": 1.0, "unit": "share", "better": "lower"},
    "reward": {"low": None, "high": None, "unit": "nats", "better": "higher"},
    "words": {"low": 0.0, "high": None, "unit": "words", "better": None},
}


@pytest.fixture
def evaluation() -> EvaluationWriter:
    """Writes the folder of an evaluation by the contract: one evaluator a key of `scores`, each with a metric of SCALES."""

    def write(folder: Path, scores: Mapping[str, Mapping[str, Values]], **changes: Any) -> Path:
        samples = {sample: None for one in scores.values() for sample in one}
        prompts = len({sample.partition("#")[0] for sample in samples})
        about = {
            "suite": "chat",
            "suite_version": "1",
            "suite_digest": f"{prompts} prompts",
            "requests_digest": f"{prompts} prompts",
            "suite_source": "chat",
            "limit": None,
            "model": folder.name,
            "model_digest": f"weights of {folder}",
            "base": "base",
            "base_digest": "weights of base",
            "digest": f"all of {folder}",
            "prompts": prompts,
            "pairs": 0,
            "samples": max(1, len(samples) // max(1, prompts)),
            "generation": {"max_new_tokens": 16},
            "seed": 0,
            "versions": {"torch": "2.13.0"},
            "order": list(scores),
            "evaluators": {name: _evaluator(name) for name in scores},
        } | changes
        lines = [_score(name, sample, value) for name, one in scores.items() for sample, value in one.items()]
        rest = {"finished": True, "detail": {}, "meta": {}}
        rows = [{"key": sample, "id": sample, "prompt": sample, "response": f"answer to {sample}", **rest} for sample in samples]
        results = {"suite": about["suite"], "model": about["model"], "digest": about["digest"], "complete": about["limit"] is None}
        metrics = {name: _figures(one) for name, one in scores.items()}
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps(about))
        (folder / "results.json").write_text(json.dumps({**results, "metrics": metrics}))
        (folder / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    return write


def _evaluator(name: str) -> dict[str, Any]:
    metrics = {name: {"name": name, **SCALES[name]}}
    return {"version": "1", "needs": "response", "arguments": f"{name}()", "primary": name, "aggregates": [], "metrics": metrics}


def _score(name: str, sample: str, value: Values) -> dict[str, Any]:
    values = {name: value} if isinstance(value, int | float) else value
    return {"evaluator": name, "id": sample, "values": values, "reason": "", "cluster": sample.partition("#")[0]}


def _figures(scores: Mapping[str, Values]) -> dict[str, Any]:
    from dpoframe.harness.stats import mean_interval

    known = {sample: float(value) for sample, value in scores.items() if isinstance(value, int | float)}
    if not known:
        return {"value": None, "ci_low": None, "ci_high": None, "stderr": None, "n": 0, "unscored": len(scores)}
    one = mean_interval(list(known.values()), [sample.partition("#")[0] for sample in known])
    figures = {"value": one.value, "ci_low": one.low, "ci_high": one.high, "stderr": one.stderr, "n": one.n}
    return {**figures, "unscored": len(scores) - len(known)}
