"""The contract of an evaluator."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias, get_args

from dpoframe import Available, Evaluator, EvaluatorSpec, Refused, Sample, Scale, Scored, UnscoredError, content_digest
from dpoframe.evaluator import Need
from dpoframe.testing.contract import PartContract, expect, skip

Values: TypeAlias = "Mapping[str, float] | None"

SAMPLES = (
    Sample("a", "What is the capital of France?", "Paris is the capital of France.", meta={"expect": ["Paris"]}),
    Sample("b", "Name a colour.", "Blue", meta={"expect": ["blue"]}),
    Sample("c", "Count to three.", "one two three one two three one two three", finished=False, meta={"expect": ["four"]}),
    Sample("d", "Say nothing.", "", meta={"expect": []}),
)
NUMBERS = {
    "length": 7.0,
    "margin": 0.4,
    "policy_margin": -1.5,
    "chosen_length": 7.0,
    "rejected_length": 9.0,
    "base_logp": -12.5,
    "base_length": 7.0,
    "policy_logp": -11.0,
}
FACTS = {"rival": "I would rather not say."}
ODD_ANSWERS = ("", " \n\t", "\0", "\u2028", "{\\", "\u202eabc e\u0301", "\U0001f642\u200d\U0001f469", "\u4f60\u597d", "y " * 4000)
"""Answers that a model may well give: none, white space, control and direction marks, emoji, no spaces between words, a loop."""

DIGEST = re.compile(r"([a-z0-9-]+:)?[0-9a-fA-F]{16,}")
DRAWS = 20


class EvaluatorContract(PartContract):
    """What every evaluator must hold to. Set `evaluator`, and `samples` where it needs certain answers or facts.

    Class attributes:
        evaluator: the instance to check.
        samples: what to score; the details and the rival that `needs` may promise are added to each where they are missing.
    """

    kind: ClassVar[str] = "evaluator"
    evaluator: ClassVar[Evaluator]
    samples: ClassVar[Sequence[Sample]] = SAMPLES

    def part(self) -> Evaluator:
        """The evaluator."""
        return self.evaluator

    def scored(self) -> list[Values]:
        """The scores of all samples, None where nothing is scored; skips the check where the evaluator cannot run here."""
        return [self._score(sample) for sample in self._ready()]

    def test_spec_is_whole(self) -> None:
        """The spec has an id, a version, a known need, a limit, figures with scales, and a primary that is one of them.

        If this fails: set the class attribute `spec = EvaluatorSpec(...)`; its `primary` must be a key of its `metrics` or of
        its `aggregates`, no name may be in both, and `limit` is in seconds.
        """
        spec: Any = getattr(self.evaluator, "spec", None)
        expect(isinstance(spec, EvaluatorSpec), f"spec is {spec!r}, expected a dpoframe.EvaluatorSpec")
        expect(bool(spec.id and spec.version), "spec.id and spec.version must not be empty")
        expect(spec.needs in get_args(Need), f"spec.needs is {spec.needs!r}, expected one of {', '.join(get_args(Need))}")
        known = [*spec.metrics, *spec.aggregates]
        expect(spec.primary in known, f"spec.primary {spec.primary!r} is none of the figures {sorted(known)}")
        expect(len(known) == len(set(known)), f"a name is both a metric and an aggregate: {sorted(known)}")
        twice = sorted(set(spec.carried) & set(known))
        expect(not twice, f"what is carried for `aggregate` alone is a figure too: {twice}")
        expect(math.isfinite(spec.limit) and spec.limit > 0, f"spec.limit is {spec.limit}, expected seconds above 0")

    def test_scales_are_sound(self) -> None:
        """Each scale's lower bound is below its upper one, and says `higher`, `lower` or None for what is better.

        If this fails: write `Scale(0, 1, "share")`, with None for a bound that does not exist and `better=None` for a figure
        that is neither better high nor low.
        """
        for name, scale in _figures(self.evaluator.spec).items():
            low, high = _bounds(scale)
            expect(low < high, f"the scale of {name} reaches from {low} to {high}")
            expect(scale.better in ("higher", "lower", None), f"the scale of {name} has better={scale.better!r}")

    def test_assets_are_identified(self) -> None:
        """Each file or model that the evaluator relies on has a name, a digest of its bytes and a licence.

        If this fails: give `Asset(name, digest, licence)` a hexadecimal digest (`sha256:...`, or the commit of a model), and a
        licence as SPDX writes it. The digest keeps scores made with another file from being taken for these.
        """
        for asset in self.evaluator.spec.assets:
            expect(bool(asset.name and asset.licence), f"{asset!r} lacks a name or a licence")
            expect(DIGEST.fullmatch(asset.digest) is not None, f"the digest of {asset.name!r} is {asset.digest!r}")

    def test_prints_what_it_is(self) -> None:
        """The evaluator prints the same after pickling, without an object's address: its repr enters digests of results.

        If this fails: keep to fields of plain values; a class of your own in a field must be a dataclass too.
        """
        printed, again = repr(self.evaluator), repr(pickle.loads(pickle.dumps(self.evaluator)))
        expect(printed == again, f"it prints {printed}, and after pickling {again}")
        expect(re.search(r"\bat 0x[0-9a-fA-F]+", printed) is None, f"it prints an address: {printed}")

    def test_probe_answers(self) -> None:
        """`probe` says Available, or Refused with a reason and a fix.

        If this fails: return dpoframe.Available() or dpoframe.Refused(reason, fix); do not raise.
        """
        probe = self.evaluator.probe()
        expect(isinstance(probe, Available | Refused), f"probe returned {probe!r}")
        if isinstance(probe, Refused):
            expect(bool(probe.reason and probe.fix), "a refusal must say why and how to mend it")

    def test_scores_what_the_spec_names(self) -> None:
        """Each score is None or holds metrics of the spec alone, the primary one among them, finite and within their scales.

        If this fails: return only metrics that `spec.metrics` names, and None for a sample that cannot be scored, never 0 or NaN.
        """
        for sample in self._ready():
            self._require_sound(f"sample {sample.id!r}", self._told(sample))

    def test_scores_something(self) -> None:
        """At least one of the contract's samples is scored.

        If this fails: give the contract `samples` that carry what your evaluator reads (facts in `meta`, answers in `response`).
        """
        scored = self.scored()
        expect(any(score is not None for score in scored), f"all of {len(scored)} samples are unscored")

    def test_bears_odd_answers(self) -> None:
        """No answer and strange ones are scored within the scales, or are unscored: nothing is raised.

        If this fails: an empty answer has no words to divide by; return None where there is nothing to measure, or raise
        dpoframe.UnscoredError with the reason.
        """
        texts = [sample for sample in self._ready() if isinstance(sample.response, str)]
        for answer in ODD_ANSWERS if texts else ():
            self._require_sound(f"the answer {answer[:12]!r}", self._told(dataclasses.replace(texts[0], response=answer)))

    def test_lacking_facts_are_no_zeros(self) -> None:
        """Samples without the facts in `meta` that decide their scores are unscored, not 0 throughout.

        If this fails: return None where `sample.meta` lacks what the sample is to be compared with.
        """
        primary, samples = self.evaluator.spec.primary, self._ready()
        bare = [dataclasses.replace(sample, meta={}) for sample in samples]
        before, after = [self._primary(one) for one in samples], [self._primary(one) for one in bare]
        turned = [old != 0 and new == 0 for old, new in zip(before, after, strict=True) if old is not None]
        zeros = any(turned) and all(value == 0 for value in after)
        expect(not zeros, f"without meta, {primary} is 0 for every sample: {before} became {after}")

    def test_repeats_itself(self) -> None:
        """Scoring the same samples again gives the same numbers.

        If this fails: draw from `dpoframe.generator(dpoframe.seed_of(sample.id))` where something must be drawn.
        """
        first, second = self.scored(), self.scored()
        expect(first == second, f"scores differ between two calls: {first} and {second}")

    def test_order_does_not_matter(self) -> None:
        """A sample's score does not depend on the samples scored before it.

        If this fails: keep nothing from one call of `score` to the next; figures over all samples belong into `aggregate`.
        """
        ahead, back = self.scored(), [self._score(sample) for sample in reversed(self._ready())]
        expect(ahead == back[::-1], f"scores differ in the other order: {ahead} and {back[::-1]}")

    def test_batches_say_the_same(self) -> None:
        """`score_batch` says of each sample what `score` says of it, but for rounding, whatever shares its batch.

        If this fails: return one item a sample, in the order of the samples, with an UnscoredError where `score` would raise
        it; mask the padding of a batch; where rounding alone is more than 1e-4, compute in float32.
        """
        if self.evaluator.batch_size() > 1:
            alone, samples = self.scored(), self._ready()
            _require_alike(alone, self.evaluator.score_batch(samples))
            _require_alike(alone[:1], self.evaluator.score_batch(samples[:1]))
            _require_alike(alone[::-1], self.evaluator.score_batch(samples[::-1]))

    def test_leaves_samples_as_they_are(self) -> None:
        """Scoring changes nothing in a sample: other evaluators read it too.

        If this fails: copy what you sort, pop from or add to.
        """
        samples = self._ready()
        kept = copy.deepcopy(samples)
        for sample in samples:
            self._score(sample)
        expect(samples == kept, "a sample's detail or meta differs after scoring")

    def test_aggregates_what_the_spec_names(self) -> None:
        """`aggregate` gives every figure of `spec.aggregates` and no other, finite and within its scale.

        If this fails: name in `spec.aggregates` what `aggregate` returns. A mean over samples is a metric and needs none.
        """
        self._require_figures("all samples", self._drawn(None), finite=True)

    def test_aggregate_is_pure(self) -> None:
        """`aggregate` gives the same figures again, in any order of the scores, and leaves them as they are.

        If this fails: sort where the order matters, and draw nothing without a seed of its own.
        """
        scores = self._drawn(None)
        kept, first = copy.deepcopy(scores), self.evaluator.aggregate(scores)
        again, back = self.evaluator.aggregate(scores), self.evaluator.aggregate(scores[::-1])
        expect(scores == kept, "the scores differ after aggregating")
        expect(dict(first) == dict(again), f"figures differ between two calls: {dict(first)} and {dict(again)}")
        near = all(math.isclose(first[name], back[name], rel_tol=1e-9, abs_tol=1e-9) for name in first)
        expect(near, f"figures differ in the other order of scores: {dict(first)} and {dict(back)}")

    def test_aggregate_bears_resamples(self) -> None:
        """`aggregate` gives figures within their scales, or nan, for samples drawn with replacement: intervals are made so.

        If this fails: a draw may hold one sample many times, and lack every loss or every win; return nan for a figure that
        cannot be formed from it.
        """
        for seed in range(DRAWS if self.evaluator.spec.aggregates else 0):
            self._require_figures(f"draw {seed}", self._drawn(seed), finite=False)

    def _told(self, sample: Sample) -> Values:
        """The score of one sample; a reason raised as such is unscored like None."""
        try:
            return self.evaluator.score(sample)
        except UnscoredError:
            return None
        except Exception as error:
            raise AssertionError(
                f"score raised {type(error).__name__}: {error} for sample {sample.id!r}, {sample.response!r:.40}"
            ) from error

    def _score(self, sample: Sample) -> Values:
        """The same, for checks that are not about what is raised: it is unscored to them, as it is to the harness."""
        try:
            return self._told(sample)
        except AssertionError:
            return None

    def _primary(self, sample: Sample) -> float | None:
        """The primary metric of a sample, None where it has none."""
        found = self._score(sample)
        return found.get(self.evaluator.spec.primary) if isinstance(found, Mapping) else None

    def _ready(self) -> list[Sample]:
        """The samples with what every kind of need promises; skips the check where the evaluator cannot run here."""
        probe = self.evaluator.probe()
        if isinstance(probe, Refused):
            skip(f"the evaluator refuses to run here: {probe.reason} {probe.fix}")
        return [
            dataclasses.replace(sample, detail={**NUMBERS, **sample.detail}, meta={**FACTS, **sample.meta})
            for sample in self.samples
        ]

    def _drawn(self, seed: int | None) -> list[Scored]:
        """The scores as `aggregate` gets them, those of one prompt together; drawn with replacement where there is a seed."""
        given = [
            Scored(sample.id, content_digest(sample.prompt), score)
            for sample, score in zip(self.samples, self.once("scored", self.scored), strict=True)
            if isinstance(score, Mapping)
        ]
        expect(bool(given), "no sample is scored, so there is nothing to aggregate")
        return given if seed is None else random.Random(seed).choices(given, k=len(given))

    def _require_sound(self, what: str, score: Values) -> None:
        spec = self.evaluator.spec
        if score is None:
            return
        expect(isinstance(score, Mapping), f"score returned {score!r} for {what}")
        scales = {**dict.fromkeys(spec.carried, Scale(better=None)), **spec.metrics}
        expect(set(score) <= set(scales), f"{what} has the metrics {sorted(score)}, the spec names {sorted(scales)}")
        wanted = spec.primary in score or spec.primary in spec.aggregates
        expect(wanted, f"{what} has the metrics {sorted(score)}, but not the primary one, {spec.primary!r}")
        for name, value in score.items():
            _require_within(f"{name} of {what}", value, scales[name])

    def _require_figures(self, what: str, scores: Sequence[Scored], *, finite: bool) -> None:
        spec, found = self.evaluator.spec, self.evaluator.aggregate(scores)
        named = sorted(found) == sorted(spec.aggregates)
        expect(named, f"aggregate returned {sorted(found)} for {what}, the spec names {sorted(spec.aggregates)}")
        for name, value in found.items():
            if finite or not math.isnan(value):
                _require_within(f"{name} of {what}", value, spec.aggregates[name])


def _require_alike(alone: Sequence[Values], together: Sequence[Any]) -> None:
    expect(len(together) == len(alone), f"score_batch gave {len(together)} verdicts on {len(alone)} samples")
    for one, other in zip(alone, together, strict=True):
        found = None if isinstance(other, UnscoredError) else other
        same = one == found or (one is not None and found is not None and _near(one, found))
        expect(same, f"score gives {one}, score_batch {found}")


def _near(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return set(one) == set(other) and all(math.isclose(one[name], other[name], rel_tol=1e-4, abs_tol=1e-4) for name in one)


def _figures(spec: EvaluatorSpec) -> dict[str, Scale]:
    return {**spec.metrics, **spec.aggregates}


def _bounds(scale: Scale) -> tuple[float, float]:
    return -math.inf if scale.low is None else scale.low, math.inf if scale.high is None else scale.high


def _require_within(what: str, value: float, scale: Scale) -> None:
    low, high = _bounds(scale)
    expect(math.isfinite(value) and low <= value <= high, f"{what} is {value}, outside {low} to {high}")
