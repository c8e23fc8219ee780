"""A suite whose questions, prompts and metrics are a task of lm-evaluation-harness (Gao et al., the package `lm_eval`).

lm-evaluation-harness takes the place of the phase that generates: each of its documents becomes a stored sample that
carries the document's metrics. From there on it is a suite like any other: scores, intervals over documents, paired
comparison, report.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dpoframe.errors import ConfigError, MissingExtraError
from dpoframe.evaluator import Available, Evaluator, EvaluatorSpec, Refused, Scale, Scored
from dpoframe.harness.lm_eval.keys import LmEvalKeys
from dpoframe.harness.suites.suite import Suite, digest_of
from dpoframe.types import Sample

if TYPE_CHECKING:
    from dpoframe.harness.result import SuiteResult
    from dpoframe.harness.subject import Progress, Subject

INSTALL = 'pip install "dpoframe[lm-eval]"'
VALUES = "metrics"
"""The key of a sample's `meta` under which the task's metrics of its document stand."""


@dataclass(frozen=True)
class LmEvalSuite(Suite):
    """Runs one task, or a group of tasks; a group's figure is the mean over all its documents.

    Attributes:
        task: What is asked for.
        cut: Documents of each task that `limited` left; None where it left all that the suite's own keys ask for.
        uncut: Digest of the suite before that.
    """

    task: LmEvalKeys = field(default_factory=lambda: LmEvalKeys(""))
    cut: int | None = None
    uncut: str = ""

    @property
    def runs_itself(self) -> bool:
        """It does."""
        return True

    def probe(self) -> Available | Refused:
        """Whether lm-evaluation-harness is installed."""
        if importlib.util.find_spec("lm_eval") is None:
            return Refused("the package 'lm_eval' is not installed", f"Install it with: {INSTALL}")
        return Available()

    def requirements(self) -> list[str]:
        """The package, and the data that the task loads."""
        return [f"lm_eval ({INSTALL})", "the task's data set, which lm_eval loads"]

    def limited(self, count: int) -> LmEvalSuite:
        """The first `count` documents of each task."""
        kept = count if self.task.limit is None else min(count, self.task.limit)
        if kept == self.task.limit:
            return self
        return replace(self, task=replace(self.task, limit=kept), cut=kept, uncut=self.uncut or self.digest())

    def digest(self) -> str:
        """Digest of the task's name and settings and of lm-evaluation-harness's version, which fixes what the task asks."""
        own = self.task_file
        content = own.read_text(encoding="utf-8") if own and own.is_file() else ""
        whole = {"name": self.name, "system": self.framing.system, "seed": self.seed, "file": content}
        return digest_of({**whole, **self.settings(), **versions()})

    def settings(self) -> dict[str, Any]:
        """The keys that decide figures, without places on this machine."""
        kept = {name: value for name, value in vars(self.task).items() if name not in ("batch_size", "include")}
        return {**kept, "task": self.task_file.name} if self.task_file else kept

    @property
    def task_file(self) -> Path | None:
        """The task's own YAML file, where it is named by one."""
        file = Path(self.task.task).expanduser()
        return file if file.suffix in (".yaml", ".yml") else None

    def run(self, subject: Subject, out: Path, *, base: Subject | None = None, progress: Progress | None = None) -> SuiteResult:
        """Has lm-evaluation-harness ask the subject, stores what it says of every document, and forms the figures.

        Raises:
            MissingExtraError: lm-evaluation-harness is not installed.
            ConfigError: there is no such task, its data cannot be loaded, or the modality cannot do what it asks.
        """
        if importlib.util.find_spec("lm_eval") is None:
            raise MissingExtraError(f"The suite {self.name!r}", "lm_eval", INSTALL)
        from dpoframe.harness.lm_eval.run import evaluate

        return evaluate(self, subject, out, base or subject, progress)


def versions() -> dict[str, str]:
    """The version of lm-evaluation-harness, where it is installed."""
    try:
        return {"lm_eval": version("lm_eval")}
    except PackageNotFoundError:
        return {}


@dataclass(frozen=True)
class TaskMetric(Evaluator):
    """A metric that lm-evaluation-harness gave each document. Subclasses made by `metric_of` carry the spec."""

    metric: str = ""

    def score(self, sample: Sample) -> Mapping[str, float] | None:
        """What the sample's `meta` holds of it, None where its document was not given this metric."""
        value = dict(sample.meta.get(VALUES) or {}).get(self.metric)
        if value is None:
            return None
        parts = value if isinstance(value, list | tuple) else [value]
        return {_part(number, len(parts)): float(part) for number, part in enumerate(parts)}


def _part(number: int, count: int) -> str:
    return "value" if count == 1 else f"part{number}"


def metric_of(metric: str, task: str, parts: int, higher: bool | None, share: bool, summarise: Any = None) -> TaskMetric:
    """The evaluator of one metric.

    Args:
        metric: Its id: lm-evaluation-harness's name, with the filter after a slash where there are several.
        task: The task, for the description.
        parts: Numbers that a document has of it: 1, or more where the figure is no mean of one (perplexities).
        higher: Whether higher is better; None where the task does not say.
        share: Whether every value is 0 or 1.
        summarise: Makes the figure out of a list of the documents' tuples, where it is no mean.
    """
    better: Literal["higher", "lower"] | None = None if higher is None else ("higher" if higher else "lower")
    scale = Scale(0.0, 1.0, "share", better) if share else Scale(None, None, "", better)
    if summarise is None:
        spec = EvaluatorSpec(metric, version("lm_eval"), "response", {"value": scale}, "value")
    else:
        # Of values that are 0 or 1 the figure may be anything: a correlation is negative.
        open_scale = Scale(None, None, scale.unit, better)
        plain = {_part(number, parts): Scale(None, None, "", None) for number in range(parts)}
        spec = EvaluatorSpec(metric, version("lm_eval"), "response", plain, "figure", aggregates={"figure": open_scale})

    def aggregate(self: Evaluator, scores: Sequence[Scored]) -> Mapping[str, float]:
        return {"figure": float(summarise(list(_tuples(scores, parts))))} if summarise else {}

    doc = f"{metric} of the task {task}, as lm-evaluation-harness defines it."
    kind = type("TaskMetric", (TaskMetric,), {"spec": spec, "aggregate": aggregate, "__doc__": doc, "__module__": __name__})
    made: TaskMetric = kind(metric=metric)
    return made


def _tuples(scores: Sequence[Scored], parts: int) -> Iterable[Any]:
    for one in scores:
        values = [one.values[_part(number, parts)] for number in range(parts)]
        yield values[0] if parts == 1 else tuple(values)


def refused(reason: str, suite: LmEvalSuite) -> ConfigError:
    """An error of lm-evaluation-harness as one of ours."""
    return ConfigError(f"lm-evaluation-harness cannot run {suite.task.task!r}: {reason}")
