"""One run of lm-evaluation-harness: the subject as its model, its documents as samples of a suite."""

from __future__ import annotations

import contextlib
import logging
import math
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dpoframe.errors import DpoframeError
from dpoframe.harness.backends.base import Backend
from dpoframe.harness.framing import Framing
from dpoframe.harness.lm_eval_model import language_model
from dpoframe.harness.lm_eval_suite import VALUES, LmEvalSuite, metric_class, refused
from dpoframe.harness.suite import Prompt, Suite
from dpoframe.types import Request, Sample

if TYPE_CHECKING:
    from dpoframe.evaluator import Evaluator
    from dpoframe.harness.run import SuiteResult
    from dpoframe.harness.subject import Progress, Subject

_SHARES = ("acc", "acc_norm", "acc_mutual_info", "exact_match", "em", "f1", "pass@1", "contains")


@dataclass(frozen=True)
class Told(Backend):
    """Answers that are there already, by prompt id."""

    samples: Mapping[str, Sample]
    suite: str

    kind: ClassVar[str] = "lm_eval"

    def answers(self, subject: Subject, requests: Sequence[Request]) -> Iterator[Sample]:
        """The answers, under the requests' ids."""
        for request in requests:
            yield replace(self.samples[request.id.rpartition("#")[0]], id=request.id, prompt=request.prompt)

    def digest(self, subject: Subject) -> str:
        """Of the subject, and of what lm-evaluation-harness was asked to do."""
        return f"{subject.digest}/{self.suite}"

    def described(self) -> dict[str, Any]:
        """Its kind."""
        return {"kind": self.kind}


@dataclass(frozen=True)
class Documents(Suite):
    """The documents of a task as a suite, under the digest of the suite that asked for them."""

    origin: str = ""

    def digest(self) -> str:
        """The asking suite's: what the documents hold follows from it."""
        return self.origin


def evaluate(suite: LmEvalSuite, subject: Subject, out: Path, base: Subject, progress: Progress | None) -> SuiteResult:
    """Runs the task on the subject, then the harness's own phases over what came of it."""
    from dpoframe.harness.run import run_suite
    from dpoframe.harness.subject import silent

    told = progress or silent
    told("generate", 0, 1)
    results = _simple_evaluate(suite, subject)
    told("generate", 1, 1)
    return run_suite(subject, documents(suite, results), out, base=base, progress=silent)


def documents(suite: LmEvalSuite, results: Mapping[str, Any]) -> Suite:
    """What lm-evaluation-harness returned, as a suite whose answers are there already."""
    prompts: dict[str, Prompt] = {}
    samples: dict[str, Sample] = {}
    values: dict[str, dict[str, Any]] = {}
    for task, rows in results["samples"].items():
        filters = {row["filter"] for row in rows}
        for row in rows:
            name = f"{task}/{row['doc_id']}"
            known = values.setdefault(name, {})
            known.update({_metric_id(metric, row["filter"], filters): row[metric] for metric in row["metrics"]})
            if name not in prompts:
                prompts[name] = Prompt(name, _asked(row), {"task": task, "target": str(row["target"])[:2000]})
                samples[name] = Sample(name, prompts[name].content, _answered(row))
    evaluators = _evaluators(suite, results, values)
    kept = {one.metric for one in evaluators}  # type: ignore[attr-defined]
    for name, sample in samples.items():
        plain = {metric: _plain(value) for metric, value in values[name].items() if metric in kept}
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
        framing=Framing(),
        backend=Told(samples, suite.digest()),
        source=suite.source,
        origin=suite.digest(),
    )


def _simple_evaluate(suite: LmEvalSuite, subject: Subject) -> Mapping[str, Any]:
    """lm-evaluation-harness's results. What goes wrong there is one error of ours."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    keys = suite.task
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


def _evaluators(suite: LmEvalSuite, results: Mapping[str, Any], values: Mapping[str, Mapping[str, Any]]) -> list[Evaluator]:
    """One evaluator a metric. A metric whose figure cannot be formed from what documents were given is named and left out."""
    names = list(dict.fromkeys(metric for known in values.values() for metric in known))
    higher = {metric: better for known in (results.get("higher_is_better") or {}).values() for metric, better in known.items()}
    made = []
    for name in names:
        column = [known[name] for known in values.values() if name in known]
        base, parts = name.partition("/")[0], _parts(column)
        summarise = None if _is_mean(column) else _aggregation(base)
        if parts == 0 or (summarise is None and not _is_mean(column)):
            warnings.warn(
                f"The metric {name} of {suite.task.task} is no mean of numbers, and is left out.", RuntimeWarning, stacklevel=2
            )
            continue
        share = summarise is None and (base in _SHARES or set(column) <= {0, 1}) and all(0 <= value <= 1 for value in column)
        made.append(metric_class(name, suite.task.task, parts, higher.get(base), share, summarise))
    if not made:
        raise refused("none of its metrics can be formed from single documents.", suite)
    return made


def _parts(column: Sequence[Any]) -> int:
    """Numbers that each document has: 1, the length of its tuples, or 0 where they are no numbers."""
    widths = {len(value) if isinstance(value, list | tuple) else 1 for value in column}
    flat = [part for value in column for part in (value if isinstance(value, list | tuple) else [value])]
    return widths.pop() if len(widths) == 1 and all(map(_is_number, flat)) else 0


def _is_mean(column: Sequence[Any]) -> bool:
    return all(map(_is_number, column))


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, str | list | tuple) and math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _aggregation(metric: str) -> Any:
    """How lm-evaluation-harness forms a metric's figure; None where it does not say."""
    from lm_eval.api.registry import get_metric_aggregation

    try:
        return get_metric_aggregation(metric)
    except Exception:  # an unknown metric is a task's own
        return None


def _metric_id(metric: str, name: str, filters: set[str]) -> str:
    """The metric, and the filter of the answer behind a slash where a task has several."""
    return metric if len(filters) == 1 else f"{metric}/{name}"


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
    from dpoframe.harness.lm_eval_suite import versions

    own = {str(one) for one in (results.get("versions") or {}).values() if one not in (None, "N/A", "Yaml")}
    return " ".join([*sorted(own), *(f"lm_eval {one}" for one in versions().values())]) or suite.version
