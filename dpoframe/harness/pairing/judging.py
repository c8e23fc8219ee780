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
from dpoframe.harness.phases.work import Telling, gather
from dpoframe.harness.sharding import ALONE, Ranks
from dpoframe.harness.storage.folder import Row, Score
from dpoframe.harness.storage.keeping import Keeping
from dpoframe.harness.storage.keys import digest, evaluator_key
from dpoframe.harness.storage.store import FOLDER, Store, claimed, opened, prepare
from dpoframe.harness.subject import Progress
from dpoframe.types import Media


def judge(found: Gathered, measure: Measure, folder: Path, progress: Progress, ranks: Ranks = ALONE) -> Verdicts:
    """Asks the evaluator about every candidate on which `folder` holds no verdict of it, within its limits, as an evaluation does.

    Each process asks about its share; the verdicts on all candidates that it holds, which in the first process are all there
    are, come back.

    Raises:
        ConfigError: another command is at work in the folder.
        MachineError: the folder cannot be written.
    """
    needs = measure.evaluator.spec.needs
    rows = [row_of(one, needs) for one in found.mine]
    keys = {id(one): _key(row) for one, row in zip(found.mine, rows, strict=True)}
    with claimed(folder) if ranks.first else contextlib.nullcontext():
        if ranks.first:
            prepare(folder)
        ranks.wait()
        with opened(folder, ranks.rank) as store:
            _score(store, measure.evaluator, dict(zip(keys.values(), rows, strict=True)), progress)
            gather(store, ranks)
            others = (one for some in found.prompts.values() for one in some if id(one) not in keys)
            keys |= {id(one): _key(row_of(one, needs)) for one in others}
            return _rated(found, measure, keys, store.judged(evaluator_key(measure.evaluator), list(keys.values())))


def _rated(found: Gathered, measure: Measure, keys: Mapping[int, str], verdicts: Mapping[str, Any]) -> Verdicts:
    """The candidates with what was said of each."""
    made = Verdicts()
    for prompt, some in found.prompts.items():
        for one in some:
            verdict = verdicts[keys[id(one)]]
            values = verdict["values"] or {}
            if measure.name not in values:
                made.unscored[verdict["reason"] or f"it has no {measure.name}"] += 1
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


def _score(store: Store, evaluator: Evaluator, rows: Mapping[str, Row], progress: Progress) -> None:
    """Has the store hold a verdict on each row. One whose trouble was not the sample's is asked for again."""
    kept = Keeping(store, evaluator_key(evaluator))
    spec = evaluator.spec
    known = {seen: Score(spec.id, "", **verdict) for seen, verdict in store.judged(kept.evaluator, list(rows)).items()}
    missing = [seen for seen in rows if seen not in known or to_ask_again(known[seen])]
    told = Telling(progress, "score", len(rows))
    if len(missing) < len(rows):
        told.more(len(rows) - len(missing))
    with kept.until_the_end():
        for seen, score in zip(missing, score_all(evaluator, (rows[seen] for seen in missing)), strict=True):
            kept.put(seen, score)
            told.more(1)


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
