"""Brings together what the store holds of a suite into rows in the suite's order: what evaluators read, and what is exported."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpoframe.errors import DataError
from dpoframe.evaluator import Need
from dpoframe.harness.phases.generating import Plan
from dpoframe.harness.phases.weighing import Weights
from dpoframe.harness.phases.work import Work
from dpoframe.harness.storage.folder import EvalFolder, Row, line
from dpoframe.harness.storage.keys import digest
from dpoframe.harness.suites.suite import Suite
from dpoframe.types import as_text, content_digest

RIVAL = "rival"

_AT_ONCE = 500
_ASKED_FOR: Mapping[str, tuple[str, ...]] = {
    "base_logp": ("base_logp", "base_length"),
    "logratio": ("base_logp", "base_length", "policy_logp"),
}
_EXTRA = {name for names in _ASKED_FOR.values() for name in names}


def lay_out(work: Work, plan: Plan, weights: Weights, rivals: Path | None) -> None:
    """Writes the rows of answers and pairs, in the place of those of an earlier run. For the first process alone."""
    others = rivals_of(work.suite, rivals) if work.needs(RIVAL) else {}
    needs: list[Need] = sorted({one.spec.needs for one in work.suite.evaluators if one.spec.needs != "pair"} | {"response"})
    answers = (_laid(*found, needs) for found in _answers(work, plan, weights, others))
    work.store.lay_out("answer", answers)
    work.store.lay_out("pair", (_laid(*found, ["pair"]) for found in _pairs(work, weights)))


def seen_by(row: Row, need: Need) -> Row:
    """A row with what evaluators of this need are promised, and nothing that others asked for.

    So a verdict does not depend on which other evaluators a suite has.
    """
    mine = _ASKED_FOR.get(need, ())
    if _EXTRA.isdisjoint(set(row.detail).difference(mine)) and (need == RIVAL or RIVAL not in row.meta):
        return row
    detail = {name: value for name, value in row.detail.items() if name in mine or name not in _EXTRA}
    meta = row.meta if need == RIVAL else {name: value for name, value in row.meta.items() if name != RIVAL}
    return replace(row, detail=detail, meta=meta)


def rivals_of(suite: Suite, base: Path | None) -> dict[str, str]:
    """By request, the other answer to it: the base's where its evaluation is given, else the `reference` of the prompt.

    Raises:
        DataError: the base's evaluation is unfinished, or of other prompts.
    """
    prompts = {prompt.id: prompt for prompt in suite.prompts}
    if base is None:
        found = {request.id: prompts[request.id.rpartition("#")[0]].meta.get("reference") for request in suite.requests()}
        return {name: as_text(text) for name, text in found.items() if text}
    EvalFolder(base).document("manifest.json")
    rows = {row.id: row for row in EvalFolder(base).samples()}
    made = {}
    for request in suite.requests():
        row = rows.get(request.id)
        if row is None or content_digest(row.prompt) != content_digest(request.prompt):
            raise DataError(
                f"{base} holds no answer to {request.id} of the suite {suite.name}, so its answers cannot be compared with. "
                "Evaluate the base with the same suite first."
            )
        made[request.id] = as_text(row.response)
    return made


def rows_of(work: Work, plan: Plan) -> Iterator[Row]:
    """The answers as they are, in the order of the suite."""
    return (row for _, row in _answers(work, plan, Weights(), {}))


def _laid(cluster: str, row: Row, needs: Sequence[Need]) -> tuple[str, str, str, dict[str, str]]:
    """Id, cluster, line and what each need's evaluators see."""
    text = line(row)
    seen = {need: text if (mine := seen_by(row, need)) is row else line(mine) for need in needs}
    return row.id, cluster, text, {need: digest("seen", one) for need, one in seen.items()}


def _answers(work: Work, plan: Plan, weights: Weights, rivals: Mapping[str, str]) -> Iterator[tuple[str, Row]]:
    """The answers with their clusters, in order."""
    blobs, prompts = work.folder.blobs, {prompt.id: prompt for prompt in work.suite.prompts}
    for start in range(0, len(plan.keys), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        contents = work.store.contents("samples", plan.keys[part])
        details = _details(work, weights, part)
        for request, key in zip(plan.asked[part], plan.keys[part], strict=True):
            content, prompt = contents[key], prompts[request.id.rpartition("#")[0]]
            rival = {RIVAL: rivals[request.id]} if request.id in rivals else {}
            meta = {**blobs.stored(dict(prompt.meta)), **content["meta"], **rival}
            detail = {**content["detail"], **next(details)}
            asked, response = blobs.stored(request.prompt), content["response"]
            row = Row(key, request.id, asked, response, content["finished"], detail, meta)
            yield content_digest(request.prompt), row


def _details(work: Work, weights: Weights, part: slice) -> Iterator[dict[str, float]]:
    """Log-probabilities of some answers, as far as they were asked for; without end, and empty, where none were."""
    base, policy = weights.answers_base[part], weights.answers_policy[part]
    if not base:
        yield from itertools.repeat({})
    found = work.store.contents("logps", [*base, *policy])
    for number, key in enumerate(base):
        value, length = found[key]
        own = {"policy_logp": found[policy[number]][0]} if policy else {}
        yield {"base_logp": value, "base_length": length, **own}


def _pairs(work: Work, weights: Weights) -> Iterator[tuple[str, Row]]:
    """The held-out pairs with their clusters, in order."""
    blobs = work.folder.blobs
    for start in range(0, len(work.suite.pairs), _AT_ONCE):
        part = slice(2 * start, 2 * (start + _AT_ONCE))
        own, before = weights.pairs_policy[part], weights.pairs_base[part]
        found: dict[str, Any] = work.store.contents("logps", [*own, *before])
        for number, pair in enumerate(work.suite.pairs[start : start + _AT_ONCE]):
            (chosen, chosen_length), (rejected, rejected_length) = (found[key] for key in own[2 * number : 2 * number + 2])
            (chosen_base, _), (rejected_base, _) = (found[key] for key in before[2 * number : 2 * number + 2])
            detail = {
                "policy_margin": chosen - rejected,
                "margin": (chosen - chosen_base) - (rejected - rejected_base),
                "chosen_logratio": chosen - chosen_base,
                "chosen_length": chosen_length,
                "rejected_length": rejected_length,
            }
            key = content_digest(pair.prompt, pair.chosen, pair.rejected)
            meta = {**blobs.stored(dict(pair.meta)), "rejected": blobs.stored(pair.rejected)}
            row = Row(key, pair.id, blobs.stored(pair.prompt), blobs.stored(pair.chosen), True, detail, meta)
            yield content_digest(pair.prompt), row
