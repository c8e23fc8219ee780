"""Evaluators that score several samples in one call: what they say counts, and what goes wrong is asked about one by one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from dpoframe import Evaluator, EvaluatorSpec, PluginError, Sample, Scale, UnscoredError
from dpoframe.harness.phases import limits
from dpoframe.harness.phases.limits import AGAIN, NO_RIVAL, PATIENCE, score_all
from dpoframe.harness.storage.folder import Row
from dpoframe.types import as_text


@dataclass(frozen=True)
class Lengths(Evaluator):
    """The length of an answer, several at a time; `bad` cannot be scored, and `batched` holds the ids of each batch."""

    size: int = 3
    meddle: Callable[[Sequence[Sample]], Any] = field(default=lambda samples: None)
    batched: list[list[str]] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)
    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec("lengths", "1", "response", {"length": Scale(0)}, "length", limit=0.3)

    def score(self, sample: Sample) -> Mapping[str, float]:
        """Of one."""
        self.alone.append(sample.id)
        return self._length(sample)

    def batch_size(self) -> int:
        """As the field says."""
        return self.size

    def score_batch(self, samples: Sequence[Sample]) -> Any:
        """Of several, or what the field `meddle` makes of them."""
        self.batched.append([sample.id for sample in samples])
        found = self.meddle(samples)
        return [self._item(sample) for sample in samples] if found is None else found

    def _length(self, sample: Sample) -> Mapping[str, float]:
        if sample.response == "bad":
            raise UnscoredError("it is bad")
        return {"length": float(len(as_text(sample.response)))}

    def _item(self, sample: Sample) -> Mapping[str, float] | UnscoredError:
        try:
            return self._length(sample)
        except UnscoredError as error:
            return error


@dataclass(frozen=True)
class Rivals(Lengths):
    """The same, of samples with a rival."""

    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec("rivals", "1", "rival", {"length": Scale(0)}, "length", limit=0.3)


def rows(*responses: str) -> list[Row]:
    """One row a response."""
    return [Row(f"k{number}", f"s{number}", "q", response) for number, response in enumerate(responses)]


def raises(samples: Sequence[Sample]) -> None:
    """Fails as a whole."""
    raise RuntimeError("out of memory")


@pytest.fixture(params=["timer", "threads"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of holding the limit."""
    if request.param == "threads":
        monkeypatch.setattr(limits, "_has_timer", lambda: False)


def test_batches_in_order() -> None:
    """Samples come to `score_batch` in their order, as many as it takes, and `score` is not asked."""
    lengths = Lengths()
    scores = list(score_all(lengths, rows("a", "bb", "bad", "dddd", "e", "ffffff", "g")))
    assert [one.values and one.values["length"] for one in scores] == [1.0, 2.0, None, 4.0, 1.0, 6.0, 1.0]
    assert [one.id for one in scores] == [f"s{number}" for number in range(7)]
    assert scores[2].reason == "it is bad"
    assert lengths.batched == [["s0", "s1", "s2"], ["s3", "s4", "s5"], ["s6"]]
    assert lengths.alone == []


def test_the_batch_that_fails_is_asked_one_by_one() -> None:
    """One sample that breaks its batch costs the others nothing; the next batch is tried again."""
    lengths = Lengths(meddle=lambda samples: raises(samples) if any(one.response == "bb" for one in samples) else None)
    scores = list(score_all(lengths, rows("a", "bb", "bad", "dddd", "e")))
    assert [one.values and one.values["length"] for one in scores] == [1.0, 2.0, None, 4.0, 1.0]
    assert lengths.alone == ["s0", "s1", "s2"]
    assert lengths.batched == [["s0", "s1", "s2"], ["s3", "s4"]]


@pytest.mark.parametrize("meddle", [raises, lambda samples: time.sleep(8), lambda samples: 5], ids=["raises", "hangs", "number"])
def test_batches_that_keep_failing_are_given_up(meddle: Callable[[Sequence[Sample]], Any]) -> None:
    """After three batches that raised, hung or returned no list, the rest is asked one by one."""
    lengths = Lengths(size=2, meddle=meddle)
    assert [one.values for one in score_all(lengths, rows(*["a"] * 12))] == [{"length": 1.0}] * 12
    assert len(lengths.batched) == PATIENCE
    assert len(lengths.alone) == 12


def test_a_service_that_is_down_is_asked_no_more() -> None:
    """Failures that are not the samples' own use up the patience in batches as well."""
    lengths = Lengths(meddle=lambda samples: [UnscoredError("no answer", again=True) for _ in samples])
    scores = list(score_all(lengths, rows(*["a"] * 30)))
    assert scores[-1].reason == f"not asked after {PATIENCE} failures in a row: no answer {AGAIN}"
    assert lengths.batched == [["s0", "s1", "s2"]]
    assert lengths.alone == []


def test_samples_without_a_rival_are_in_no_batch() -> None:
    """What has nothing to be compared with is not given to the evaluator."""
    lengths = Rivals(size=4)
    given = [Row(f"k{n}", f"s{n}", "q", "aa", meta={"rival": "b"} if n % 2 else {}) for n in range(4)]
    scores = list(score_all(lengths, given))
    assert [one.reason for one in scores] == [NO_RIVAL, "", NO_RIVAL, ""]
    assert lengths.batched == [["s1", "s3"]]


@pytest.mark.parametrize("found", [[], [{"length": 1.0}] * 4])
def test_another_number_of_verdicts_is_an_error(found: list[Any]) -> None:
    """Verdicts that cannot be told apart are no verdicts."""
    with pytest.raises(PluginError, match=f"gave {len(found)} verdicts on a batch of 3"):
        list(score_all(Lengths(meddle=lambda samples: found), rows("a", "b", "c")))


def test_items_are_read_as_scores_are() -> None:
    """None, numbers that are none, and metrics outside the spec are in a batch what they are alone."""
    items = [None, {"length": float("nan")}, {"length": -1.0}, ValueError("odd"), {"length": 2}]
    scores = list(score_all(Lengths(size=5, meddle=lambda samples: items), rows(*"abcde")))
    assert [one.values for one in scores] == [None] * 4 + [{"length": 2.0}]
    assert scores[1].reason == "length is not a finite number"
    assert scores[3].reason == "ValueError: odd"
    with pytest.raises(PluginError, match="lenght"):
        list(score_all(Lengths(size=1 + 1, meddle=lambda samples: [{"lenght": 1.0}] * 2), rows("a", "b")))


def test_it_streams_batch_by_batch() -> None:
    """No more rows are read than one batch, and no thread is left when the reader stops half-way."""
    read: list[str] = []
    before = threading.active_count()

    def source() -> Iterator[Row]:
        for row in rows(*["x"] * 50):
            read.append(row.id)
            yield row

    scores = score_all(Lengths(size=8), source())
    assert next(scores).id == "s0"
    assert len(read) == 8
    scores.close()  # type: ignore[attr-defined]
    end = time.monotonic() + 6
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() == before
