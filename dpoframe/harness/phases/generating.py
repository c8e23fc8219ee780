"""The phase `generate`: the requests of the suite that have no stored answer are answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpoframe.harness.phases.work import Telling, Work
from dpoframe.harness.storage.keys import sample_key
from dpoframe.harness.subject import Subject
from dpoframe.harness.suites.suite import Suite
from dpoframe.types import Measure, Request, Sample, content_digest


class Plan:
    """The requests of a suite by the keys of their answers, in the suite's order.

    Attributes:
        requests: By key. Requests that differ in nothing but their id have one answer.
        keys: The key of each request's answer, in order.
        sizes: Length of each prompt as the model sees it.
    """

    def __init__(self, subject: Subject, suite: Suite) -> None:
        writer = suite.backend.digest(subject)
        self.asked = suite.requests()
        self.keys: list[str] = []
        self.requests: dict[str, Request] = {}
        self.sizes: dict[str, int] = {}
        last: Any = None
        content, measure = "", Measure(0, 0, "", "")
        for request in self.asked:
            if request.prompt is not last:  # the answers to one prompt are asked for one after the other
                last, content, measure = request.prompt, content_digest(request.prompt), subject.measure(request)
            key = sample_key(writer, request, content, measure.prompt_digest)
            self.keys.append(key)
            self.requests.setdefault(key, request)
            self.sizes[key] = measure.prompt


def generate(work: Work, subject: Subject) -> Plan:
    """Answers this process's share of what has no stored answer. Every answer is stored as soon as it is there."""
    plan = Plan(subject, work.suite)
    work.gather()
    known = work.store.known("samples", plan.keys)
    portions = work.ranks.share(_portions(work, subject, plan))
    missing = [key for portion in portions if not known.issuperset(portion) for key in portion]
    told = Telling(work.progress, "generate", sum(map(len, portions)))
    if told.total:
        told.more(told.total - len(missing))
    waiting = {plan.requests[key].id: key for key in missing}
    for sample in work.suite.backend.answers(subject, [plan.requests[key] for key in missing]) if missing else ():
        work.store.put("samples", {waiting[sample.id]: content_of(work, sample)})
        told.more(1)
    return plan


def _portions(work: Work, subject: Subject, plan: Plan) -> list[list[str]]:
    """What must be asked for together. A backend of its own promises that answers do not depend on their neighbours."""
    if work.suite.backend.kind != "modality":
        return [[key] for key in plan.requests]
    return subject.portions(plan.requests, plan.sizes)


def content_of(work: Work, sample: Sample) -> Mapping[str, Any]:
    """What the store holds of an answer; its media go to `blobs/`."""
    return {
        "response": work.folder.blobs.stored(sample.response),
        "finished": sample.finished,
        "detail": dict(sample.detail),
        "meta": work.folder.blobs.stored(dict(sample.meta)),
    }
