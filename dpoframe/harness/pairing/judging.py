"""Has an evaluator read candidates, each verdict kept as soon as it is there, so that a command that was cut off goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpoframe.evaluator import Evaluator
from dpoframe.harness.pairing.candidates import Gathered
from dpoframe.harness.pairing.choosing import Rated
from dpoframe.harness.pairing.scored import Measure, Verdicts, row_of
from dpoframe.harness.phases.limits import score_all, to_ask_again
from dpoframe.harness.storage.folder import Row, Score
from dpoframe.harness.storage.keeping import Keeping
from dpoframe.harness.storage.keys import digest, evaluator_key
from dpoframe.harness.storage.store import FOLDER, Store, claimed, opened, prepare
from dpoframe.harness.subject import Progress
from dpoframe.types import Media


def judge(found: Gathered, measure: Measure, folder: Path, progress: Progress) -> Verdicts:
    """Asks the evaluator about every candidate on which `folder` holds no verdict of it, within its limits, as an evaluation does.

    Raises:
        ConfigError: another process is at work in the folder.
        MachineError: the folder cannot be written.
    """
    needs, made = measure.evaluator.spec.needs, Verdicts()
    asked = [(prompt, one, row_of(one, needs)) for prompt, some in found.prompts.items() for one in some]
    keys = [_key(row) for _, _, row in asked]
    with claimed(folder):
        prepare(folder)
        with opened(folder) as store:
            rows = dict(zip(keys, (row for _, _, row in asked), strict=True))
            scores = _scores(store, measure.evaluator, rows, progress)
    for (prompt, one, _), key in zip(asked, keys, strict=True):
        values = scores[key].values or {}
        if measure.name not in values:
            made.unscored[scores[key].reason or f"it has no {measure.name}"] += 1
        else:
            rated = Rated(one, measure.oriented(values[measure.name]), values.get(measure.error, 0.0), values)
            made.prompts.setdefault(prompt, []).append(rated)
    return made


def forget(folder: Path) -> None:
    """Removes the verdicts that `judge` kept in a folder, and the folder where nothing else lies in it."""
    store = folder / FOLDER
    for file in (*store.glob("rank-*.sqlite*"), *store.glob(".claim*")):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        store.rmdir()
        folder.rmdir()


def _scores(store: Store, evaluator: Evaluator, rows: Mapping[str, Row], progress: Progress) -> dict[str, Score]:
    """The verdict on each row, known or new. One whose trouble was not the sample's is asked for again."""
    kept = Keeping(store, evaluator_key(evaluator))
    spec = evaluator.spec
    known = {seen: Score(spec.id, "", **verdict) for seen, verdict in store.judged(kept.evaluator, list(rows)).items()}
    scores = {seen: score for seen, score in known.items() if not to_ask_again(score)}
    missing = [seen for seen in rows if seen not in scores]
    if scores:
        progress("score", len(scores), len(rows))
    with kept.until_the_end():
        for seen, score in zip(missing, score_all(evaluator, (rows[seen] for seen in missing)), strict=True):
            scores[seen] = score
            kept.put(seen, score)
            progress("score", len(scores), len(rows))
    return scores


def _key(row: Row) -> str:
    """Digest of what the evaluator sees of a row."""
    return digest("seen", _named(vars(row)))


def _named(value: Any) -> Any:
    """A value with each picture or sound replaced by what tells it from others, its bytes, wherever they lie."""
    if isinstance(value, Media):
        return {"media": value.kind, "digest": value.digest()}
    if isinstance(value, Mapping):
        return {str(name): _named(one) for name, one in value.items()}
    return [_named(one) for one in value] if isinstance(value, list | tuple) else value
