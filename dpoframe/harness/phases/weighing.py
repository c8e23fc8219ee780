"""The phase `weigh`: answers and held-out pairs get their scores under the model and the base, as evaluators ask for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dpoframe.harness.phases.generating import Plan
from dpoframe.harness.phases.work import Telling, Work
from dpoframe.harness.storage.keys import logp_key
from dpoframe.harness.subject import Subject
from dpoframe.modality import Modality
from dpoframe.rng import seed_of
from dpoframe.types import Example


@dataclass(frozen=True)
class Weights:
    """Keys of stored scores, in the order of the suite: of answers one each, of pairs two (chosen, rejected).

    Empty where no evaluator asks for them.
    """

    answers_policy: Sequence[str] = ()
    answers_base: Sequence[str] = ()
    pairs_policy: Sequence[str] = ()
    pairs_base: Sequence[str] = ()


def weigh(work: Work, subject: Subject, base: Subject, plan: Plan) -> Weights:
    """Scores this process's share of what has no stored score."""
    work.gather()
    asked = []
    if work.needs("base_logp", "logratio"):
        asked.append(base)
    if work.needs("logratio"):
        asked.append(subject)
    answers = _Examples(work, "answers", _answers(work, plan) if asked else [])
    pairs = _Examples(work, "pairs", _pairs(work))
    found = {id(one): keys for one, keys in zip(asked, answers.weighed(asked), strict=True)}
    policy, before = pairs.weighed([subject, base]) if pairs.examples else ([], [])
    own = found[id(subject)] if work.needs("logratio") else []
    return Weights(own, found.get(id(base), []), policy, before)


@dataclass
class _Examples:
    """Examples of one stage, scored under one model after the other."""

    work: Work
    stage: str
    examples: Sequence[Example]

    def weighed(self, subjects: Sequence[Subject]) -> list[list[str]]:
        """Keys of the examples' scores under each subject, which are in the store afterwards once all processes are done."""
        distinct = list({one.digest: one for one in subjects}.values())
        plans = {one.digest: self._plan(one) for one in distinct}
        for one in distinct:
            self._prepare(one, plans[one.digest][1])
        total = sum(len(batch) for _, batches in plans.values() for batch in batches)
        told = Telling(self.work.progress, self.stage, total)
        for one in distinct:
            keys, batches = plans[one.digest]
            known = self.work.store.known("logps", keys)
            for batch in batches:
                # As a whole or not at all: the last digits depend on what shares a batch.
                if not known.issuperset(batch):
                    self.work.store.put("logps", one.scores_of(batch))
                told.more(len(batch))
        return [plans[one.digest][0] for one in subjects]

    def _prepare(self, subject: Subject, batches: Sequence[Mapping[str, Example]]) -> None:
        """Has the modality do its frozen work for what this process will score; all processes go on together."""
        if type(subject.modality).prepare is Modality.prepare:
            return
        known = self.work.store.known("logps", [key for batch in batches for key in batch])
        mine = {id(example) for batch in batches if not known.issuperset(batch) for example in batch.values()}
        told = Telling(self.work.progress, f"prepare {self.stage}", len(mine))
        subject.modality.prepare(self._taken(mine, told))
        self.work.ranks.wait()

    def _taken(self, mine: set[int], told: Telling) -> Iterator[Example]:
        """The examples in the suite's order, in which the two of a pair come one after the other."""
        for example in self.examples:
            if id(example) in mine:
                yield example
                told.more(1)

    def _plan(self, subject: Subject) -> tuple[list[str], list[dict[str, Example]]]:
        """Keys in order, and this process's share of the batches."""
        sizes = [subject.modality.measure(one) for one in self.examples]
        keys = [logp_key(subject.digest, one, size) for one, size in zip(self.examples, sizes, strict=True)]
        batches = subject.batches(dict(zip(keys, self.examples, strict=True)), dict(zip(keys, sizes, strict=True)))
        return keys, self.work.ranks.share(batches)


def _answers(work: Work, plan: Plan) -> list[Example]:
    contents = work.store.contents("samples", list(plan.requests))
    made = []
    for request, key in zip(plan.asked, plan.keys, strict=True):
        response, finished = work.folder.blobs.restored(contents[key]["response"]), bool(contents[key]["finished"])
        # An answer without text has nothing but its end to score.
        made.append(
            Example(request.prompt, response, seed_of(work.suite.seed, request.id), request.id, finished=finished or not response)
        )
    return made


def _pairs(work: Work) -> list[Example]:
    return [
        Example(pair.prompt, response, seed_of(work.suite.seed, pair.id), pair.id)
        for pair in work.suite.pairs
        for response in (pair.chosen, pair.rejected)
    ]
