"""Whether programs pass the tests of their problems."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from annotated_types import Ge, Le

from dpoframe import Available, Evaluator, EvaluatorSpec, Refused, Sample, Scale, Scored
from dpoframe_code.evaluators.estimator import pass_at_k
from dpoframe_code.evaluators.example import EXAMPLES
from dpoframe_code.evaluators.running import tried, usable
from dpoframe_code.evaluators.spec import SpecOf
from dpoframe_code.extraction import STOPS
from dpoframe_code.sandbox import Limits, Status

STATUSES = (
    Status.PASSED,
    Status.WRONG,
    Status.RAISED,
    Status.TIMEOUT,
    Status.DIED,
    Status.LOAD_FAILED,
    Status.UNENCODABLE,
)
"""What may become of a program that was run; see `Status`. `infra_error` is none of them: it leaves the sample unscored."""

CHILDREN = 8
"""Locked processes that one answer may need: program and tests, and before that the problem's solution and tests; and all
of them again where the tests came to no end."""

_SHARE = Scale(0, 1, "share")


@dataclass(frozen=True)
class PassAtK(Evaluator):
    """Runs the program in every answer against its problem's tests, in a sandbox, with the tests outside of it.

    Without `k` the figure is `passed`, the share of answers that pass: from one greedy answer a problem, the greedy pass rate.
    With `k`, pass@k is estimated from the n drawn answers of each problem (Chen et al. 2021, arXiv 2107.03374), for each k,
    and averaged over problems. pass@1 of drawn answers is another figure than the greedy pass rate, and has another id.
    More draws than answers are refused.

    Each status has its own share: passed, wrong, raised, timeout, died, load_failed, unencodable. `compiles` is the share of
    answers in which a program was found that is Python. Where the sandbox or the tests fail the answer is unscored, with a
    reason that begins with `infra_error`. Kept with every score are `tier`, the locks the program ran under (1: namespaces,
    Landlock and seccomp; 2: without namespaces), and `rule`, how the program was found (the numbers of `Rule`).

    Attributes:
        k: Sizes of the draw, such as [1, 10].
        cpu_seconds: Processor time of a program, loading and all tests together.
        memory_mb: Its address space.
        check_solutions: Whether a problem whose own solution fails its tests is left unscored.
        stops: What ends the continuation of a base model; the default is after HumanEval's own. They move results by much,
            so they are part of what an evaluation is known by.
    """

    k: tuple[Annotated[int, Ge(1)], ...] = ()
    cpu_seconds: Annotated[int, Ge(1), Le(600)] = 5
    memory_mb: Annotated[int, Ge(64)] = 512
    check_solutions: bool = True
    stops: tuple[str, ...] = STOPS

    spec: ClassVar[EvaluatorSpec] = SpecOf(  # type: ignore[assignment]
        EvaluatorSpec(
            "passed",
            "0.1.0",
            "response",
            {**{one.value: replace(_SHARE, better=None) for one in STATUSES}, "passed": _SHARE, "compiles": _SHARE},
            "passed",
            carried=("tier", "rule"),
        )
    )

    def __post_init__(self) -> None:
        """ValueError where a size is named twice."""
        if len(set(self.k)) < len(self.k):
            raise ValueError(f"k names a size twice: {', '.join(map(str, self.k))}.")

    def own(self, plain: EvaluatorSpec) -> EvaluatorSpec:
        """The spec with a figure for each k, and a limit that no answer can reach by itself."""
        spec = replace(plain, limit=CHILDREN * (self._limits.wall + 1) + 30)
        if not self.k:
            return spec
        names = {f"pass@{size}": _SHARE for size in self.k}
        return replace(spec, id="pass_at_k", aggregates=names, primary=f"pass@{self.k[0]}")

    @property
    def _limits(self) -> Limits:
        return Limits(cpu_seconds=self.cpu_seconds, memory_bytes=self.memory_mb << 20)

    def probe(self) -> Available | Refused:
        """Whether a sandbox holds here."""
        return usable()

    def at_once(self) -> int:
        """As many programs as processors: they wait for the sandbox, not for Python."""
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1

    def score(self, sample: Sample) -> Mapping[str, float] | None:
        """The status as a share of one each, and what is carried."""
        found = tried(sample, self._limits, check_solution=self.check_solutions, stops=self.stops)
        if found is None:
            return None
        shares = {one.value: float(found.outcome.status is one) for one in STATUSES}
        told = {"compiles": float(found.extracted.compiles), "tier": found.tier, "rule": float(found.extracted.rule)}
        return {**shares, **told}

    def aggregate(self, scores: Sequence[Scored]) -> Mapping[str, float]:
        """pass@k for each k.

        Raises:
            ValueError: A problem has fewer answers than are drawn.
        """
        if not self.k:
            return {}
        problems: dict[str, list[Scored]] = {}
        for one in scores:
            problems.setdefault(one.cluster or one.id, []).append(one)
        counts = [(len(some), round(sum(one.values["passed"] for one in some))) for some in problems.values()]
        for size in self.k:
            if short := [some for some in problems.values() if len(some) < size]:
                raise ValueError(_too_few(size, short[0]))
        return {f"pass@{size}": _mean([pass_at_k(n, c, size) for n, c in counts]) for size in self.k}

    @classmethod
    def example_samples(cls) -> list[Sample]:
        """What `dpoframe plugins check` scores."""
        return list(EXAMPLES)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _too_few(size: int, some: Sequence[Scored]) -> str:
    name, count = some[0].id.partition("#")[0], len(some)
    said = f"pass@{size} needs {size} scored answers a problem, and {name} has {count}"
    return f"{said}. Ask for more (--set samples={size}), run again where some were unscored, or leave {size} out of k."
