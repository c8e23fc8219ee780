"""What an evaluator says of candidates, as numbers of which the higher is the better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from dpoframe.config import paths
from dpoframe.config.assembly import Assembly
from dpoframe.config.overrides import apply
from dpoframe.errors import ConfigError, Fault, MachineError
from dpoframe.evaluator import Evaluator, Need, Scale
from dpoframe.harness.pairing.candidates import Candidate
from dpoframe.harness.pairing.choosing import Rated
from dpoframe.harness.phases.laying import RIVAL, seen_by
from dpoframe.harness.storage.folder import Row
from dpoframe.harness.suites.needs import refusal_of
from dpoframe.harness.suites.suite_file import SuiteDocument
from dpoframe.types import Media, as_text

if TYPE_CHECKING:
    from dpoframe.plugins import PluginHost

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Measure:
    """The metric that decides: whose it is, its scale, and which way is better."""

    evaluator: Evaluator
    name: str
    scale: Scale
    better: Better

    def oriented(self, value: float) -> float:
        """The value, its sign changed where a lower one is better."""
        return value if self.better == "higher" else -value

    @property
    def error(self) -> str:
        """Under which an evaluator that measures gives the standard error of the metric, beside it."""
        return f"{self.name}_error"

    @property
    def worst(self) -> float | None:
        """The end of the scale that is bad, oriented; None where the scale has none."""
        end = self.scale.low if self.better == "higher" else self.scale.high
        return None if end is None else self.oriented(end)


@dataclass
class Verdicts:
    """Candidates of one prompt after another with what was said of them; those without a score are counted, by the reason."""

    prompts: dict[str, list[Rated]] = field(default_factory=dict)
    unscored: Counter[str] = field(default_factory=Counter)


def named_evaluator(name: str, changes: Sequence[str], plugins: PluginHost) -> Evaluator:
    """An evaluator by its name, or by `./mine.py:Class`, with its keys set.

    Args:
        name: What a suite would name it.
        changes: `key.sub=value`.
        plugins: Where it is looked up.

    Raises:
        ConfigError: the name or a key is wrong; all faults at once.
        MachineError: it cannot run here.
    """
    document = SuiteDocument({"evaluators": [{"name": name}]}, "--evaluator", kind="suite")
    document.given.add(("evaluators",))
    build = Assembly(document, plugins)
    build.faults += apply(document, [f"evaluators.0.{change}" for change in changes])
    paths.resolve(document, ("evaluators",))
    part = build.part("evaluator", document.data["evaluators"][0], ("evaluators", 0))
    faults = [*build.faults, *(Fault("", str(error)) for error in build.machine if build.faults)]
    if faults:
        raise ConfigError(f"The evaluator {name} cannot be used:", [replace(one, where=_as_given(one.where)) for one in faults])
    if build.machine or part is None:
        raise build.machine[0] if build.machine else ConfigError(f"The evaluator {name} cannot be used.")
    evaluator: Evaluator = part.value
    if refusal := refusal_of(evaluator):
        raise MachineError(str(refusal))
    return evaluator


def _as_given(where: str) -> str:
    """A place in the made-up suite as the command line has it."""
    return (
        where.replace("evaluators.0.name (--set)", "--evaluator")
        .replace("evaluators.0.", "")
        .replace("evaluators.0", "--evaluator")
    )


def measure_of(evaluator: Evaluator, metric: str | None, better: Better | None) -> Measure:
    """The metric of an evaluator that decides: the named one, else its primary; ConfigError where it cannot decide."""
    spec = evaluator.spec
    if spec.needs == "pair":
        raise ConfigError(f"The evaluator {spec.id} reads held-out pairs, not answers. Name one that scores answers.")
    known = ", ".join(spec.metrics) or "none"
    name = metric or spec.primary
    if name not in spec.metrics:
        what = "is a figure over all samples" if name in spec.aggregates else "is none of its metrics"
        raise ConfigError(f"{name!r} {what} of the evaluator {spec.id}. Name one with --metric; a sample has: {known}.")
    scale = spec.metrics[name]
    way = better or scale.better
    if way is None:
        raise ConfigError(f"The metric {name} of {spec.id} does not say which way is better. Say --better higher or lower.")
    return Measure(evaluator, name, scale, way)


def row_of(one: Candidate, needs: Need) -> Row:
    """A candidate as evaluators get it; the rival is the row's right answer, as in a suite without a base."""
    right = one.sample.meta.get("reference")
    if needs != RIVAL or RIVAL in one.sample.meta or not isinstance(right, str | Media) or not right:
        return seen_by(Row("", **vars(one.sample)), needs)
    return seen_by(Row("", **{**vars(one.sample), "meta": {**one.sample.meta, RIVAL: as_text(right)}}), needs)
