"""One run of lm-evaluation-harness: the subject as its model, its documents as samples of a suite."""

from __future__ import annotations

import contextlib
import logging
import math
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dpoframe.errors import DataError, DpoframeError
from dpoframe.harness.backends.base import Backend
from dpoframe.harness.lm_eval.model import language_model
from dpoframe.harness.lm_eval.suite import VALUES, LmEvalSuite, TaskMetric, metric_of, refused
from dpoframe.harness.storage.folder import EvalFolder
from dpoframe.harness.suites.suite import Prompt, Suite
from dpoframe.types import Request, Sample

if TYPE_CHECKING:
    from dpoframe.harness.result import SuiteResult
    from dpoframe.harness.subject import Progress, Subject


@dataclass(frozen=True)
class Told(Backend):
    """Answers that are there already, by prompt id."""

    samples: Mapping[str, Sample]
    suite: str
    settings: Mapping[str, Any]

    kind: ClassVar[str] = "lm_eval"

    def answers(self, subject: Subject, requests: Sequence[Request]) -> Iterator[Sample]:
        """The answers, under the requests' ids."""
        for request in requests:
            yield replace(self.samples[request.id.rpartition("#")[0]], id=request.id, prompt=request.prompt)

    def digest(self, subject: Subject) -> str:
        """Of the subject, and of what lm-evaluation-harness was asked to do."""
        return f"{subject.digest}/{self.suite}"

    def described(self) -> dict[str, Any]:
        """Its kind, and how the task was run."""
        return {"kind": self.kind, **self.settings}


@dataclass(frozen=True)
class Documents(Suite):
    """The documents of a task as a suite, under the digest of the suite that asked for them.

    Attributes:
        origin: Digest of that suite, before it was cut to a limit.
        asked: Digest of what was asked.
    """

    origin: str = ""
    asked: str = ""

    def digest(self) -> str:
        """The asking suite's: what the documents hold follows from it."""
        return self.origin

    def limited(self, count: int) -> Documents:
        """All documents: lm-evaluation-harness has cut them already. It is another suite by its digest."""
        return replace(self, origin=self.asked)


def evaluate(suite: LmEvalSuite, subject: Subject, out: Path, base: Subject, progress: Progress | None) -> SuiteResult:
    """Runs the task on the subject, then the harness's own phases over what came of it."""
    from dpoframe.harness.run import run_suite
    from dpoframe.harness.subject import silent

    if (kept := _kept(suite, subject, base, out)) is not None:
        return kept
    told = progress or silent
    told("generate", 0, 1)
    results = _simple_evaluate(suite, subject)
    told("generate", 1, 1)
    return run_suite(subject, documents(suite, results), out, base=base, progress=silent, limit=suite.cut)


def _kept(suite: LmEvalSuite, subject: Subject, base: Subject, out: Path) -> SuiteResult | None:
    """What a whole evaluation of the same model on the same task left in the folder; None where there is none."""
    from dpoframe.harness.result import Metric, SuiteResult
    from dpoframe.harness.stats import Interval

    folder = EvalFolder(out)
    try:
        about, found = folder.document("manifest.json"), folder.document("results.json")
    except DataError:
        return None
    asked = (suite.digest(), subject.digest, base.digest, suite.cut)
    if asked != (about["suite_digest"], about["model_digest"], about["base_digest"], about["limit"]):
        return None
    # With a limit it is never complete; what was asked is there all the same where every figure is.
    if not found["complete"] and (suite.cut is None or not all(one["n"] for one in found["metrics"].values())):
        return None
    metrics = {}
    for name, one in found["metrics"].items():
        value, low, high, error = (
            math.nan if one[part] is None else float(one[part]) for part in ("value", "ci_low", "ci_high", "stderr")
        )
        metrics[name] = Metric(name, Interval(value, low, high, error, int(one["n"])), int(one["unscored"]), one.get("reason", ""))
    return SuiteResult(suite.name, subject.name, out, metrics, bool(found["complete"]), suite.cut)


def documents(suite: LmEvalSuite, results: Mapping[str, Any]) -> Suite:
    """What lm-evaluation-harness returned, as a suite whose answers are there already."""
    prompts: dict[str, Prompt] = {}
    samples: dict[str, Sample] = {}
    values: dict[str, dict[str, Any]] = {}
    columns: dict[str, Column] = {}
    for task, rows in results["samples"].items():
        several = len({row["filter"] for row in rows}) > 1
        for row in rows:
            name = f"{task}/{row['doc_id']}"
            if name not in prompts:
                prompts[name] = Prompt(name, _asked(row), {"task": task, "target": str(row["target"])[:2000]})
                samples[name] = Sample(name, prompts[name].content, _answered(row))
            for metric in row["metrics"]:
                key = f"{metric}/{row['filter']}" if several else metric
                values.setdefault(name, {})[key] = row[metric]
                columns.setdefault(key, Column(metric, row["filter"])).values.setdefault(task, []).append(row[metric])
    evaluators = _evaluators(suite, results, columns)
    for name, sample in samples.items():
        plain = {one.metric: _plain(values[name][one.metric]) for one in evaluators if one.metric in values[name]}
        samples[name] = replace(sample, meta={**sample.meta, VALUES: plain})
    return Documents(
        name=suite.name,
        version=_version(suite, results),
        description=suite.description,
        prompts=tuple(prompts.values()),
        pairs=(),
        generation={},
        samples=1,
        seed=suite.seed,
        evaluators=tuple(evaluators),
        backend=Told(samples, suite.digest(), suite.settings()),
        source=suite.source,
        origin=suite.uncut or suite.digest(),
        asked=suite.digest(),
    )


def _simple_evaluate(suite: LmEvalSuite, subject: Subject) -> Mapping[str, Any]:
    """lm-evaluation-harness's results. What goes wrong there is one error of ours."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    keys = suite.task
    if keys.unsafe_code:
        told = f"lm_eval.unsafe_code: code that {subject.name} writes runs on this machine, in no sandbox."
        warnings.warn(told, RuntimeWarning, stacklevel=2)
    try:
        with _apart(), subject._ready():
            manager = TaskManager(include_path=str(keys.include) if keys.include else None)
            found = simple_evaluate(
                model=language_model(subject, keys, suite.seed),
                tasks=[str(suite.task_file or keys.task)],
                num_fewshot=keys.num_fewshot,
                limit=keys.limit,
                bootstrap_iters=0,
                log_samples=True,
                system_instruction=suite.framing.system or None,
                apply_chat_template=keys.chat,
                fewshot_as_multiturn=keys.multiturn and keys.chat,
                gen_kwargs=dict(keys.generation) or None,
                task_manager=manager,
                random_seed=suite.seed,
                numpy_random_seed=suite.seed,
                torch_random_seed=suite.seed,
                fewshot_random_seed=suite.seed,
                confirm_run_unsafe_code=keys.unsafe_code,
            )
    except DpoframeError:
        raise
    except Exception as error:  # it raises errors of many libraries: its own, those of data sets, hub and network
        raise refused(f"{type(error).__name__}: {str(error).strip()[:500]}", suite) from error
    if not found or not found.get("samples"):
        raise refused("it gave no result.", suite)
    return dict(found)


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """Context whose seeding, warnings and log reach nobody outside: lm-evaluation-harness seeds the whole process."""
    import numpy
    import torch

    states = numpy.random.get_state(), random.getstate()
    log = logging.getLogger("lm_eval")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
        numpy.random.set_state(states[0])
        random.setstate(states[1])


@dataclass(frozen=True)
class Column:
    """One metric of all documents, by task; `filter` says which reading of the answers it is of."""

    metric: str
    filter: str
    values: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def parts(self) -> int:
        """Numbers that each document has: 1, the length of its tuples, or 0 where they are no numbers."""
        every = [value if isinstance(value, list | tuple) else [value] for one in self.values.values() for value in one]
        widths = {len(value) for value in every}
        return widths.pop() if len(widths) == 1 and all(_is_number(part) for value in every for part in value) else 0

    @property
    def share(self) -> bool:
        """Whether every value is 0 or 1."""
        return self.parts == 1 and all(value in (0, 1) for one in self.values.values() for value in one)

    def fits(self, form: Callable[[list[Any]], Any], figures: Mapping[str, Any]) -> bool:
        """Whether `form` makes, of each task's values, the figure that lm-evaluation-harness gave."""
        try:
            pairs = [(form(one), figures[task][f"{self.metric},{self.filter}"]) for task, one in self.values.items()]
            return all(math.isclose(float(mine), float(given), rel_tol=1e-6, abs_tol=1e-9) for mine, given in pairs)
        except (KeyError, TypeError, ValueError, ArithmeticError):
            return False


def _evaluators(suite: LmEvalSuite, results: Mapping[str, Any], columns: Mapping[str, Column]) -> list[TaskMetric]:
    """One evaluator a metric. One whose figure cannot be formed again from single documents is named and left out.

    Intervals and comparisons need the figure of any choice of documents, so how it is formed is found out and checked
    against lm-evaluation-harness's own figure.
    """
    higher = {metric: better for known in (results.get("higher_is_better") or {}).values() for metric, better in known.items()}
    made = []
    for name, column in columns.items():
        forms = [form for form in (_mean, _aggregation(column.metric)) if form is not None]
        form = next((form for form in forms if column.parts and column.fits(form, results["results"])), None)
        if form is None:
            told = (
                f"The metric {name} of {suite.task.task} is left out: its figure does not follow from numbers of single documents."
            )
            warnings.warn(told, RuntimeWarning, stacklevel=2)
            continue
        summarise = None if form is _mean else form
        made.append(metric_of(name, suite.task.task, column.parts, higher.get(column.metric), column.share, summarise))
    if not made:
        raise refused("none of its metrics can be formed from single documents.", suite)
    return made


def _mean(values: Sequence[Any]) -> float:
    return sum(map(float, values)) / len(values)


def _aggregation(metric: str) -> Callable[[list[Any]], Any] | None:
    """How lm-evaluation-harness forms a metric's figure; None where it does not say."""
    from lm_eval.api.registry import get_metric_aggregation

    try:
        found: Callable[[list[Any]], Any] | None = get_metric_aggregation(metric)
    except Exception:  # an unknown metric is a task's own
        return None
    return found


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, str | list | tuple) and math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _asked(row: Mapping[str, Any]) -> str:
    """What the model was given first."""
    first = row["arguments"][0] if row["arguments"] else ("",)
    return str(first[0] if isinstance(first, list | tuple) else first)


def _answered(row: Mapping[str, Any]) -> str:
    """The text written, or the continuation that the model found likeliest."""
    found = row["filtered_resps"]
    if found and isinstance(found[0], str):
        return str(found[0])
    scores = [one[0] if isinstance(one, list | tuple) else one for one in found]
    if not scores or not all(map(_is_number, scores)):
        return str(found[0]) if found else ""
    arguments = row["arguments"][max(range(len(scores)), key=lambda number: float(scores[number]))]
    return str(arguments[1]) if isinstance(arguments, list | tuple) and len(arguments) > 1 else ""


def _plain(value: Any) -> Any:
    return [float(part) for part in value] if isinstance(value, list | tuple) else float(value)


def _version(suite: LmEvalSuite, results: Mapping[str, Any]) -> str:
    """The task's own version, as its file has it, beside lm-evaluation-harness's."""
    from dpoframe.harness.lm_eval.suite import versions

    own = {str(one) for one in (results.get("versions") or {}).values() if one not in (None, "N/A", "Yaml")}
    return " ".join([*sorted(own), *(f"lm_eval {one}" for one in versions().values())]) or suite.version
