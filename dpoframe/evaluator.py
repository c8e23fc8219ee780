"""The contract of an evaluator: one measurement of a model's outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from dpoframe.errors import UnscoredError
from dpoframe.types import Sample

Need: TypeAlias = Literal["response", "pair", "base_logp", "logratio", "rival"]


@dataclass(frozen=True)
class Available:
    """The evaluator can run here. `found` says with what, where that is worth telling: `dpoframe doctor` shows it."""

    found: str = ""


@dataclass(frozen=True)
class Refused:
    """The evaluator cannot run here: why, and the command or step that mends it."""

    reason: str
    fix: str


@dataclass(frozen=True)
class Scale:
    """What a metric's numbers mean: bounds (None where open), unit, and which way is better (None where neither)."""

    low: float | None = None
    high: float | None = None
    unit: str = ""
    better: Literal["higher", "lower"] | None = "higher"


@dataclass(frozen=True)
class Asset:
    """A file or model that an evaluator relies on: name, digest of its bytes, licence."""

    name: str
    digest: str
    licence: str


@dataclass(frozen=True)
class EvaluatorSpec:
    """Who an evaluator is.

    Attributes:
        id: The metric's id; it changes whenever numbers of the old and the new would not compare.
        version: Version of the evaluator's code.
        needs: What a sample must carry. `response`: a generated answer. `pair`: `detail` holds `margin`
            (log-ratio of chosen minus rejected, in nats, against the base model), `policy_margin` (the same without
            the base), `chosen_length`, `rejected_length`. `base_logp`: `detail` holds `base_logp`, the summed
            log-probability of the response under the base model, and `base_length`, the units it sums over.
            `logratio`: as `base_logp`, and `policy_logp`, the same sum under the model that wrote the response.
            `rival`: `meta["rival"]` holds another answer to the same request: the base's where the suite runs on an
            aligned model, else the `reference` of the prompt's row; samples without one are not given to `score`.
        relative: Whether an evaluator that is given something of the base (all needs but `response` and `rival`) reads it. False
            for one that takes the model's own numbers alone, such as `policy_margin`: its figures compare whatever the bases.
        metrics: Scale of each metric that `score` returns; the figure of a metric is its mean over samples.
        primary: The metric to read first, of `metrics` or `aggregates`.
        assets: Files and models it relies on.
        aggregates: Scale of each figure that `aggregate` returns: figures over all samples that are no means.
        carried: Names of numbers that `score` returns for `aggregate` alone, such as a picture's vector: they are kept with
            the sample's verdict, and are no figures. One called `<metric>_error` is the standard error of that metric's
            measurement: `dpoframe data build` makes no pair of answers that differ by less than two standard errors of
            the difference.
        limit: Seconds that one `score`, one `score_batch` or one `aggregate` may take; it is stopped then, and leaves the sample
            unscored or the figure unknown. The samples of a batch that was stopped are asked about one by one.
    """

    id: str
    version: str
    needs: Need
    metrics: Mapping[str, Scale]
    primary: str
    assets: tuple[Asset, ...] = ()
    aggregates: Mapping[str, Scale] = field(default_factory=dict)
    limit: float = 60.0
    carried: tuple[str, ...] = ()
    relative: bool = True


@dataclass(frozen=True)
class Scored:
    """What `score` said of one sample. Samples of one `cluster` answer the same prompt and are not independent."""

    id: str
    cluster: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Evaluator(ABC):
    """One measurement. Subclass as a frozen dataclass: its fields are its keys in a suite.

    `None` from `score` means unscored: the sample is counted and shown as such, never as 0.
    """

    spec: ClassVar[EvaluatorSpec]
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def probe(self) -> Available | Refused:
        """Whether the evaluator can run on this machine. Cheap; called before any sample is made."""
        return Available()

    @abstractmethod
    def score(self, sample: Sample) -> Mapping[str, float] | None:
        """The metrics of one sample by name, and what the spec says is carried, or None where it has nothing to say of it.

        A metric that this sample does not have is left out.

        Raises:
            UnscoredError: The sample cannot be scored, for the reason in the message. Whatever else is raised leaves the
                sample unscored as well.
        """

    def aggregate(self, scores: Sequence[Scored]) -> Mapping[str, float]:
        """The figures of `spec.aggregates` over all scored samples; none by default.

        It is called again on samples drawn with replacement, cluster by cluster, for the intervals: pure, and quick. A
        figure that some samples do not yield is nan.
        """
        return {}

    def at_once(self) -> int:
        """How many samples `score` may be asked about at once, in threads; more than 1 pays where it waits for a service."""
        return 1

    def batch_size(self) -> int:
        """How many samples `score_batch` is given at a time; 1, the default, leaves them to `score`."""
        return 1

    def score_batch(self, samples: Sequence[Sample]) -> Sequence[Mapping[str, float] | UnscoredError | None]:
        """What `score` says of each sample, in order: for models that take several at once, or work that is shared out.

        Called where `batch_size` is above 1, and `at_once` is then of no effect. `score` stays: it is asked about each sample
        of a batch on which this raises, and gives the same numbers but for rounding. A sample's number must not hang on which
        others share its batch.

        Args:
            samples: At least one, at most `batch_size`, in the order of the suite: sort them by length here where that pays.

        Returns:
            One item a sample: what `score` returns, or the UnscoredError that it would raise.
        """
        return [_said(self, sample) for sample in samples]


def _said(evaluator: Evaluator, sample: Sample) -> Mapping[str, float] | UnscoredError | None:
    try:
        return evaluator.score(sample)
    except UnscoredError as error:
        return error
