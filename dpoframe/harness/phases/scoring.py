"""The phase `score`: every evaluator reads every sample that it has not read before. No model is needed."""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

from dpoframe.evaluator import Evaluator
from dpoframe.harness.phases.laying import seen_by
from dpoframe.harness.phases.limits import score_all, to_ask_again
from dpoframe.harness.phases.work import Telling, Work
from dpoframe.harness.storage.folder import EvalFolder, Row, Score, line
from dpoframe.harness.storage.keeping import Keeping
from dpoframe.harness.storage.keys import evaluator_key
from dpoframe.harness.suites.suite import Suite

_AT_ONCE = 256

Item = TypeVar("Item")


def score_stored(work: Work) -> None:
    """Has every evaluator of the suite read this process's share of what it has no verdict on."""
    work.gather()
    told = Telling(work.progress, "score", sum(_expected(work, one) for one in work.suite.evaluators))
    for evaluator in work.suite.evaluators:
        _judge(work, evaluator, told)


def kind_of(evaluator: Evaluator) -> str:
    """Which rows an evaluator reads."""
    return "pair" if evaluator.spec.needs == "pair" else "answer"


def as_score(evaluator: Evaluator, name: str, cluster: str, verdict: dict[str, object] | None) -> Score:
    """A stored verdict as it is exported."""
    values, reason = (verdict["values"], verdict["reason"]) if verdict is not None else (None, "not scored")
    return Score(evaluator.spec.id, name, values, str(reason), cluster)  # type: ignore[arg-type]


def score(suite: Suite, folder: EvalFolder) -> None:
    """Scores what samples.jsonl and pairs.jsonl hold, whatever the store holds, and writes scores.jsonl."""
    rows = {"answer": folder.samples if suite.prompts else list, "pair": folder.pairs if suite.pairs else list}

    def lines() -> Iterator[str]:
        for one in suite.evaluators:
            seen = (seen_by(row, one.spec.needs) for row in rows[kind_of(one)]())
            yield from map(line, score_all(one, seen))

    folder.write_lines("scores.jsonl", lines())


def _expected(work: Work, evaluator: Evaluator) -> int:
    """How many samples of an evaluator are this process's."""
    whole = len(work.suite.pairs) if kind_of(evaluator) == "pair" else len(work.suite.prompts) * work.suite.samples
    return sum(work.ranks.has(number, evaluator.batch_size()) for number in range(whole))


def _judge(work: Work, evaluator: Evaluator, told: Telling) -> None:
    """One evaluator; verdicts are stored as they come, and those whose trouble was not the sample's are asked for again."""
    key = evaluator_key(evaluator)
    read: deque[str] = deque()

    def missing() -> Iterator[Row]:
        for some in _portions(_shared(work, evaluator), _AT_ONCE):
            known = work.store.judged(key, [digest for digest, _ in some])
            for digest, text in some:
                if digest in known and not to_ask_again(Score(evaluator.spec.id, "", **known[digest])):
                    told.more(1)
                else:
                    read.append(digest)
                    yield seen_by(work.folder.row(json.loads(text)), evaluator.spec.needs)

    kept = Keeping(work.store, key, each=evaluator.at_once() > 1)
    with kept.until_the_end():
        for score in score_all(evaluator, missing()):
            kept.put(read.popleft(), score)
            told.more(1)


def _shared(work: Work, evaluator: Evaluator) -> Iterator[tuple[str, str]]:
    """What this process's share of an evaluator's samples looks like."""
    rows = work.store.asked(kind_of(evaluator), evaluator.spec.needs)
    together = evaluator.batch_size()  # what is scored in one call does not depend on the number of processes
    return (row for number, row in enumerate(rows) if work.ranks.has(number, together))


def _portions(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    there = iter(items)
    while some := list(itertools.islice(there, size)):
        yield some
