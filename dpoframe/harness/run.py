"""Runs a suite on a model in phases, each of which reads what the one before left in the folder.

    generate   the suite's requests that have no stored answer are answered
    weigh      answers and held-out pairs get their scores under the model and the base
    score      every evaluator reads every sample
    aggregate  figures with intervals

Stored answers carry a digest of everything that made them, so a run that was cut off goes on where it stood, and one
model's answers are never taken for another's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import dpoframe
from dpoframe.errors import ConfigError
from dpoframe.evaluator import Evaluator
from dpoframe.harness.folder import NOT_APPLICABLE, EvalFolder, Row, Score, storable
from dpoframe.harness.stats import Interval, mean_interval
from dpoframe.harness.subject import Progress, Subject, silent
from dpoframe.harness.suite import Suite
from dpoframe.rng import seed_of
from dpoframe.types import Example, Request, content_digest


@dataclass(frozen=True)
class Metric:
    """One figure of a suite: `unscored` counts the samples its evaluator could not score."""

    id: str
    interval: Interval
    unscored: int


@dataclass(frozen=True)
class SuiteResult:
    """What a suite says of a model."""

    suite: str
    model: str
    folder: Path
    metrics: Mapping[str, Metric]
    complete: bool


def run_suite(
    subject: Subject, suite: Suite, out: Path, *, base: Subject | None = None, progress: Progress = silent
) -> SuiteResult:
    """Evaluates `subject` on `suite` into the folder `out`, reusing what lies there and still holds.

    Args:
        subject: The model to evaluate.
        suite: What to measure.
        out: Folder of this evaluation; made where missing.
        base: The model before training, for margins and for the log-probability of answers; `subject` itself where
            None, which makes every margin 0.
        progress: Told of every batch; stages are `generate`, `answers` and `pairs`.
    """
    folder = EvalFolder(out)
    base = base or subject
    rows = generate(subject, suite, folder, progress)
    rows = weigh_answers(base, suite, folder, rows, progress)
    folder.write_table(rows)
    weigh_pairs(subject, base, suite, folder, progress)
    folder.write_document("manifest.json", manifest(subject, base, suite))
    score(suite, folder)
    return aggregate(suite, folder)


def generate(subject: Subject, suite: Suite, folder: EvalFolder, progress: Progress = silent) -> list[Row]:
    """Answers what has no stored answer; returns all rows in the order of the suite."""
    if not suite.prompts:
        return []
    asked = {_sample_key(subject, request): request for request in suite.requests()}
    prompts = {prompt.id: prompt for prompt in suite.prompts}
    kept = {row.key: row for row in folder.samples() if row.key in asked}
    # Written anew before anything is appended: the last line may have been cut short.
    folder.write_rows("samples.jsonl", kept.values())
    missing = {request.id: (key, request) for key, request in asked.items() if key not in kept}
    progress("generate", len(kept), len(asked))
    for sample in subject.answers([request for _, request in missing.values()]):
        key, request = missing[sample.id]
        meta = {**prompts[sample.id.rpartition("#")[0]].meta, **sample.meta}
        row = Row(key, sample.id, storable(request.prompt), storable(sample.response), sample.finished, dict(sample.detail), meta)
        folder.append(row)
        kept[key] = row
        progress("generate", len(kept), len(asked))
    return [kept[key] for key in asked]


def weigh_answers(base: Subject, suite: Suite, folder: EvalFolder, rows: Sequence[Row], progress: Progress = silent) -> list[Row]:
    """Adds `base_logp` and `base_length` to the answers where an evaluator asks for them, and writes the rows."""
    if not any(one.spec.needs == "base_logp" for one in suite.evaluators):
        return list(rows)
    # An answer without text has nothing but its end to score.
    examples = [
        Example(row.prompt, row.response, seed_of(suite.seed, row.id), row.id, finished=row.finished or not row.response)
        for row in rows
    ]
    found = base.scores(examples, "answers", progress)
    weighed = [
        replace(row, detail={**row.detail, "base_logp": value, "base_length": length})
        for row, (value, length) in zip(rows, found, strict=True)
    ]
    folder.write_rows("samples.jsonl", weighed)
    return weighed


def weigh_pairs(subject: Subject, base: Subject, suite: Suite, folder: EvalFolder, progress: Progress = silent) -> None:
    """Scores the held-out pairs under model and base, and writes pairs.jsonl."""
    if not suite.pairs:
        return
    examples = [
        Example(pair.prompt, response, seed_of(suite.seed, pair.id), pair.id)
        for pair in suite.pairs
        for response in (pair.chosen, pair.rejected)
    ]
    own = subject.scores(examples, "pairs", progress)
    before = own if base is subject else base.scores(examples, "pairs", progress)
    rows = []
    for number, pair in enumerate(suite.pairs):
        (chosen, chosen_length), (rejected, rejected_length) = own[2 * number : 2 * number + 2]
        detail = {
            "policy_margin": chosen - rejected,
            "margin": (chosen - before[2 * number][0]) - (rejected - before[2 * number + 1][0]),
            "chosen_logratio": chosen - before[2 * number][0],
            "chosen_length": chosen_length,
            "rejected_length": rejected_length,
        }
        key = content_digest(pair.prompt, pair.chosen, pair.rejected)
        meta = {**dict(pair.meta), "rejected": storable(pair.rejected)}
        rows.append(Row(key, pair.id, storable(pair.prompt), storable(pair.chosen), True, detail, meta))
    folder.write_rows("pairs.jsonl", rows)


def score(suite: Suite, folder: EvalFolder) -> None:
    """Asks every evaluator about every stored sample; writes scores.jsonl. No model is needed."""
    answers, pairs = folder.samples() if suite.prompts else [], folder.pairs() if suite.pairs else []
    scores = [
        _verdict(evaluator, row) for evaluator in suite.evaluators for row in (pairs if evaluator.spec.needs == "pair" else answers)
    ]
    folder.write_rows("scores.jsonl", scores)


def aggregate(suite: Suite, folder: EvalFolder) -> SuiteResult:
    """Figures from the stored scores; writes results.json by the contract of the run folder."""
    about = folder.document("manifest.json")
    scores = folder.scores()
    metrics = {
        name: metric
        for evaluator in suite.evaluators
        for name, metric in _metrics(evaluator, [one for one in scores if one.evaluator == evaluator.spec.id]).items()
    }
    expected = sum(len(suite.pairs) if one.spec.needs == "pair" else len(suite.requests()) for one in suite.evaluators)
    complete = len(scores) == expected and not any(metric.interval.n == 0 for metric in metrics.values())
    folder.write_document(
        "results.json",
        {
            "suite": suite.name,
            "model": about["model"],
            "digest": about["digest"],
            "metrics": {name: _figures(metric) for name, metric in metrics.items()},
            "complete": complete,
        },
    )
    return SuiteResult(suite.name, about["model"], folder.path, metrics, complete)


def metric_id(evaluator: Evaluator, name: str) -> str:
    """The id of an evaluator's metric in results: the evaluator's own id for its primary metric, else `id/name`."""
    return evaluator.spec.id if name == evaluator.spec.primary else f"{evaluator.spec.id}/{name}"


def manifest(subject: Subject, base: Subject, suite: Suite) -> dict[str, object]:
    """What was evaluated, on what, with which versions; no clock, so equal runs give equal files."""
    import torch

    return {
        "suite": suite.name,
        "suite_version": suite.version,
        "suite_digest": suite.digest(),
        "description": suite.description,
        "model": subject.name,
        "model_digest": subject.digest,
        "base": base.name,
        "base_digest": base.digest,
        "digest": hashlib.blake2b(f"{subject.digest} {base.digest} {suite.digest()}".encode(), digest_size=16).hexdigest(),
        "prompts": len(suite.prompts),
        "pairs": len(suite.pairs),
        "samples": suite.samples,
        "generation": dict(suite.generation),
        "seed": suite.seed,
        "versions": {"dpoframe": dpoframe.__version__, "torch": torch.__version__},
        "order": [one.spec.id for one in suite.evaluators],
        "evaluators": {
            one.spec.id: {
                "version": one.spec.version,
                "about": (type(one).__doc__ or "").strip().split("\n\n")[0],
                "needs": one.spec.needs,
                "metrics": {
                    metric_id(one, name): {
                        "name": name,
                        "low": scale.low,
                        "high": scale.high,
                        "unit": scale.unit,
                        "better": scale.better,
                    }
                    for name, scale in one.spec.metrics.items()
                },
            }
            for one in suite.evaluators
        },
    }


def _sample_key(subject: Subject, request: Request) -> str:
    settings = sorted(dict(request.settings).items())
    parts = f"{subject.digest} {request.id} {content_digest(request.prompt)} {request.seed} {settings}"
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()


def _verdict(evaluator: Evaluator, row: Row) -> Score:
    """One evaluator on one sample. What an evaluator raises, or a value that is no number, leaves the sample unscored."""
    made = partial(Score, evaluator.spec.id, row.id, cluster=content_digest(row.prompt))
    try:
        values = evaluator.score(row.sample)
        plain = None if values is None else {name: float(value) for name, value in values.items()}
    except Exception as error:
        return made(None, f"{type(error).__name__}: {error}")
    if plain is None:
        return made(None, NOT_APPLICABLE)
    if unknown := sorted(set(plain) - set(evaluator.spec.metrics)):
        raise ConfigError(f"The evaluator {evaluator.spec.id!r} gave {', '.join(unknown)}, which its spec does not name.")
    if bad := sorted(name for name, value in plain.items() if not math.isfinite(value)):
        return made(None, f"{', '.join(bad)} is not a finite number")
    return made(plain)


def _metrics(evaluator: Evaluator, scores: Sequence[Score]) -> dict[str, Metric]:
    found = {}
    for name, scale in evaluator.spec.metrics.items():
        known = [(one.values[name], one.cluster) for one in scores if one.values and name in one.values]
        if not known and name != evaluator.spec.primary:
            continue
        values, clusters = [value for value, _ in known], [cluster for _, cluster in known]
        interval = (
            mean_interval(values, clusters, share=(scale.low, scale.high) == (0.0, 1.0))
            if known
            else Interval(math.nan, math.nan, math.nan, math.nan, 0)
        )
        found[metric_id(evaluator, name)] = Metric(metric_id(evaluator, name), interval, len(scores) - len(known))
    return found


def _figures(metric: Metric) -> dict[str, float | int]:
    interval = metric.interval
    return {
        "value": interval.value,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "stderr": interval.stderr,
        "n": interval.n,
        "unscored": metric.unscored,
    }
