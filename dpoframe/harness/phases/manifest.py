"""What an evaluation was of: manifest.json. It holds no clock and no place, so equal runs give equal files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from dpoframe.checkpoint.model import versions
from dpoframe.config.secrets import printed, scrubbed
from dpoframe.evaluator import Evaluator
from dpoframe.harness.phases.figures import metric_id
from dpoframe.harness.storage.keys import digest
from dpoframe.harness.subject import Subject
from dpoframe.harness.suites.suite import Suite


def manifest(
    subject: Subject, base: Subject, suite: Suite, *, limit: int | None = None, rivals: str | None = None
) -> dict[str, object]:
    """What was evaluated, on what, with which versions.

    Args:
        subject: The model.
        base: The model before training, or `subject` itself.
        suite: What was measured, cut to the limit already.
        limit: Prompts and pairs that were asked for at most; results of a suite that it cut are never complete.
        rivals: Digest of the evaluation whose answers were compared with.
    """
    measured = suite.digest()
    return {
        "suite": suite.name,
        "suite_version": suite.version,
        "suite_digest": measured,
        "requests_digest": replace(suite, evaluators=()).digest(),
        "suite_source": suite.source,
        "suite_changes": [scrubbed(one) for one in suite.changes],
        "description": scrubbed(suite.description),
        "limit": limit,
        "model": subject.name,
        "model_digest": subject.digest,
        "base": base.name,
        "base_digest": base.digest,
        "rivals": rivals,
        "digest": digest(subject.digest, base.digest, measured, rivals),
        "prompts": len(suite.prompts),
        "pairs": len(suite.pairs),
        "samples": suite.samples,
        "generation": dict(suite.generation),
        "backend": suite.backend.described(),
        "seed": suite.seed,
        "versions": versions(),
        "order": [one.spec.id for one in suite.evaluators],
        "evaluators": {one.spec.id: described(one) for one in suite.evaluators},
    }


def described(one: Evaluator) -> Mapping[str, Any]:
    """An evaluator in a manifest. `metrics` holds the scale of every figure; those in `aggregates` are no means."""
    spec = one.spec
    return {
        "version": spec.version,
        "about": (type(one).__doc__ or "").strip().split("\n\n")[0],
        "needs": spec.needs,
        "relative": spec.relative,
        "arguments": printed(one),
        "primary": metric_id(one, spec.primary),
        "aggregates": [metric_id(one, name) for name in spec.aggregates],
        "assets": [asdict(asset) for asset in spec.assets],
        "metrics": {
            metric_id(one, name): {
                "name": name,
                "low": scale.low,
                "high": scale.high,
                "unit": scale.unit,
                "better": scale.better,
            }
            for name, scale in {**spec.metrics, **spec.aggregates}.items()
        },
    }
