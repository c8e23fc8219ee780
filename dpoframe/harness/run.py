"""Runs a suite on a model in phases, each of which does only what is not in the store yet.

    generate   the suite's requests that have no stored answer are answered
    weigh      answers and held-out pairs get their scores under the model and the base
    score      every evaluator reads every sample it has not read
    aggregate  figures with intervals
    export     the folder's files, for readers

Everything stored lies under a digest of what made it, so a run that was cut off goes on where it stood, one model's answers
are never taken for another's, and a changed evaluator reads the stored answers again without a model writing any.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from dpoframe.harness.phases.figures import Figures, aggregate_stored, results, scores_of
from dpoframe.harness.phases.generating import generate
from dpoframe.harness.phases.laying import RIVAL, lay_out
from dpoframe.harness.phases.manifest import manifest
from dpoframe.harness.phases.scoring import score_stored
from dpoframe.harness.phases.weighing import weigh
from dpoframe.harness.phases.work import Work
from dpoframe.harness.result import SuiteResult
from dpoframe.harness.sharding import ALONE, Ranks
from dpoframe.harness.storage.folder import EvalFolder, line
from dpoframe.harness.storage.store import claimed, opened, prepare
from dpoframe.harness.subject import Progress, Subject, silent
from dpoframe.harness.suites.suite import Suite


def run_suite(
    subject: Subject,
    suite: Suite,
    out: Path,
    *,
    base: Subject | None = None,
    progress: Progress = silent,
    rivals: Path | None = None,
    limit: int | None = None,
    ranks: Ranks = ALONE,
) -> SuiteResult:
    """Evaluates `subject` on `suite` into the folder `out`, reusing what lies there and still holds.

    Args:
        subject: The model to evaluate.
        suite: What to measure.
        out: Folder of this evaluation; made where missing.
        base: The model before training, for margins and for the log-probability of answers; `subject` itself where
            None, which makes every margin 0.
        progress: Told of every batch of this process's share; stages are `generate`, `answers`, `pairs` and `score`, and
            `prepare answers` and `prepare pairs` where the modality has frozen work to do.
        rivals: Folder of the base's evaluation on this suite, whose answers are compared with; the `reference` of each
            prompt where None.
        limit: Only the first so many prompts and pairs; the results say so and are never complete.
        ranks: This process among those that share the work. All see the same `out`, and all return the same.

    Raises:
        ConfigError: Another evaluation is writing into `out`, or the model does not take the suite's settings.
        DataError: The prompts do not suit the model, or `rivals` holds no answers to them.
        MachineError: The folder or the disk does not allow it.
    """
    cut = suite if limit is None else suite.limited(limit)
    limit = None if limit is None or cut.digest() == suite.digest() else limit
    if cut.runs_itself:
        whole = _foreign(subject, cut, out, base, progress, ranks)
        return whole if limit is None else replace(whole, complete=False, limit=limit)
    base, folder = base or subject, EvalFolder(out)
    with claimed(out) if ranks.first else contextlib.nullcontext():
        if ranks.first:
            folder.sweep()
            prepare(out)
        ranks.wait()
        with opened(out, ranks.rank) as store:
            work = Work(cut, folder, store, ranks, progress)
            found = _phases(work, subject, base, rivals)
            about = manifest(subject, base, cut, limit=limit, rivals=_digest(rivals) if work.needs(RIVAL) else None)
            if ranks.first:
                export(work, about, found, limited=limit is not None)
            ranks.wait()
    return SuiteResult(suite.name, subject.name, out, found.metrics, found.complete and limit is None, limit)


def export(work: Work, about: Mapping[str, object], figures: Figures, *, limited: bool = False) -> None:
    """Writes the files of the contract from the store; results.json last, so that a folder that has it is whole."""
    folder, store = work.folder, work.store
    folder.withdraw()
    folder.write_lines("samples.jsonl", store.lines("answer"))
    folder.write_table(store.lines("answer"))
    folder.write_lines("pairs.jsonl", store.lines("pair"))
    folder.write_lines("scores.jsonl", _verdicts(work))
    folder.write_document("manifest.json", about)
    folder.write_document("results.json", results(about, figures, limited=limited))


def _phases(work: Work, subject: Subject, base: Subject, rivals: Path | None) -> Figures:
    plan = generate(work, subject)
    weights = weigh(work, subject, base, plan)
    work.gather()
    if work.ranks.first:
        lay_out(work, plan, weights, rivals)
    score_stored(work)
    work.gather()
    return aggregate_stored(work)


def _verdicts(work: Work) -> Iterator[str]:
    for evaluator in work.suite.evaluators:
        yield from map(line, scores_of(work, evaluator))


def _digest(rivals: Path | None) -> str | None:
    return str(EvalFolder(rivals).document("manifest.json")["digest"]) if rivals is not None else None


def _foreign(subject: Subject, suite: Suite, out: Path, base: Subject | None, progress: Progress, ranks: Ranks) -> SuiteResult:
    """A suite that another harness runs: in the first process alone."""
    found = suite.run(subject, out, base=base, progress=progress) if ranks.first else None
    ranks.wait()
    return found or SuiteResult(suite.name, subject.name, out, {}, complete=False)
