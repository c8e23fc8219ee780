"""Whether two evaluations may be compared: all that differs between them and may not, in one message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dpoframe.errors import DataError
from dpoframe.harness.storage.folder import AGAIN, EvalFolder, Score

OF_THE_BASE = ("pair", "base_logp", "logratio")
"""The needs of evaluators that are given something of the base."""

MANIFEST_KEYS = ("suite", "suite_version", "suite_digest", "model", "prompts", "pairs", "samples", "order", "evaluators")
NOT_SCORED = "not scored"
"""Why a sample has no verdict where no evaluator has read it."""

_KINDS: Mapping[str, type] = {"evaluators": dict, "metrics": dict, "order": list, "prompts": int, "pairs": int, "samples": int}
_COUNTED = {"prompts": "prompts", "pairs": "held-out pairs", "samples": "answers a prompt", "seed": "seed"}


def against_base(spec: Mapping[str, Any]) -> bool:
    """Whether an evaluator, as a manifest describes it, holds a model against its base."""
    return spec.get("needs") in OF_THE_BASE and bool(spec.get("relative", True))


def required(folder: EvalFolder, name: str, *keys: str) -> dict[str, Any]:
    """A document of an evaluation; DataError where it is missing, unreadable, or lacks one of the keys."""
    try:
        found = folder.document(name)
    except TypeError as error:
        raise DataError(f"{folder.path / name} is no JSON object: it is no document of an evaluation. Evaluate again.") from error
    if lacking := [key for key in keys if key not in found]:
        told = f"{folder.path / name} lacks {', '.join(lacking)}: it is no document of an evaluation, or an old one."
        raise DataError(f"{told} Evaluate again.")
    if wrong := [key for key in keys if not _well_formed(key, found[key])]:
        told = f"{folder.path / name} holds {', '.join(wrong)} in another form than an evaluation writes."
        raise DataError(f"{told} Evaluate again.")
    return found


def _well_formed(key: str, value: Any) -> bool:
    """Whether a document's value is what its readers rely on: of its kind, and a mapping to mappings where it is a mapping."""
    if _KINDS.get(key) is dict:
        return isinstance(value, dict) and all(isinstance(one, dict) for one in value.values())
    return isinstance(value, _KINDS.get(key, object))


def require_comparable(before: Path, after: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raises DataError with every reason why the evaluations of the manifests `old` and `new` do not compare."""
    if old["suite_digest"] == new["suite_digest"]:
        return
    reasons = list(differing(old, new))
    listed = "".join(f"\n  - {reason}" for reason in reasons)
    raise DataError(
        f"{before} and {after} do not compare, because they were not asked or not judged alike:{listed}\n"
        "Evaluate both models with the same version of one suite, with the same settings and without, or with the same, --limit."
    )


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """What is not the same in two manifests, one sentence each; never nothing."""
    if old["suite"] != new["suite"]:
        yield f"suite {old['suite']} against {new['suite']}"
        return
    found = [*_asked(old, new), *_judged(old, new)]
    yield from found or ["the text of prompts or pairs, or what their rows say besides"]


def _asked(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    if old["suite_version"] != new["suite_version"]:
        yield f"suite version {old['suite_version']} against {new['suite_version']}"
    if (limits := (old.get("limit"), new.get("limit"))) != (None, None) and limits[0] != limits[1]:
        one, two = ("the whole suite" if limit is None else f"its first {limit} prompts and pairs" for limit in limits)
        yield f"{one} against {two} (--limit)"
    elif old.get("requests_digest") != new.get("requests_digest"):
        yield from (
            f"{_shown(old.get(key))} {word} against {_shown(new.get(key))}"
            for key, word in _COUNTED.items()
            if old.get(key) != new.get(key)
        )
    yield from _changed("generation", old.get("generation") or {}, new.get("generation") or {})
    yield from _changed("backend", old.get("backend") or {}, new.get("backend") or {})


def _judged(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    mine, other = old["evaluators"], new["evaluators"]
    for side, missing in (("first", set(other) - set(mine)), ("second", set(mine) - set(other))):
        if missing:
            yield f"only the {'second' if side == 'first' else 'first'} has the evaluators {', '.join(sorted(missing))}"
    for name in sorted(set(mine) & set(other)):
        if mine[name]["version"] != other[name]["version"]:
            yield f"evaluator {name} version {mine[name]['version']} against {other[name]['version']}"
        elif mine[name].get("arguments") != other[name].get("arguments"):
            yield f"evaluator {name} as {mine[name].get('arguments')} against {other[name].get('arguments')}"
        elif (assets := _assets(mine[name])) != (others := _assets(other[name])):
            yield f"evaluator {name} with {assets or 'no assets'} against {others or 'no assets'}"


def _assets(spec: Mapping[str, Any]) -> str:
    """The assets of an evaluator with the beginnings of their digests."""
    return ", ".join(sorted(f"{one['name']} {str(one['digest'])[:12]}" for one in spec.get("assets") or ()))


def _changed(section: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(set(old) | set(new)):
        if old.get(key) != new.get(key):
            yield f"{section}.{key} {_shown(old.get(key))} against {_shown(new.get(key))}"


def _shown(value: Any) -> str:
    return "unset" if value is None else str(value)


def remarks(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """What a reader should know of two evaluations that do compare."""
    if old.get("limit") is not None:
        yield f"Only the first {old['limit']} prompts and pairs were asked for (--limit): a look, no evidence."
    if old.get("model_digest") == new.get("model_digest"):
        yield "Both are evaluations of the same weights."
    known, other = old.get("versions") or {}, new.get("versions") or {}
    shared = sorted(set(known) & set(other))
    moved = [f"{name} {known[name]} against {other[name]}" for name in shared if known[name] != other[name]]
    if moved:
        yield f"Made with other versions: {', '.join(moved)}."


def left_out(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """By metric, why two figures that were both measured have no difference: what each was held against is not the same.

    Margins and log-ratios are held against a base, win rates against other answers.
    """
    found: dict[str, str] = {}
    for spec in new["evaluators"].values():
        why = ""
        if against_base(spec) and old.get("base_digest") != new.get("base_digest"):
            bases = f"{old.get('base')} the first, {new.get('base')} the second"
            why = f"each was measured against a base of its own ({bases}). Evaluate both with one --base."
        if spec.get("needs") == "rival" and old.get("rivals") != new.get("rivals"):
            rivals = f"{_rivals(old)} the first, {_rivals(new)} the second"
            why = (
                f"each was judged against other answers ({rivals}). A win rate is even at 0.5: bound the second's own with "
                "at_least or at_most, or evaluate both with one --base."
            )
        if why:
            found |= dict.fromkeys(spec["metrics"], why)
    return found


def _rivals(about: Mapping[str, Any]) -> str:
    return "the references" if about.get("rivals") is None else f"answers of {about.get('base')}"


def unfinished(
    results: Mapping[str, Any], about: Mapping[str, Any], verdicts: Mapping[str, Mapping[str, Score]] | None = None
) -> str:
    """Why an evaluation is no evidence yet; empty where it is whole, or whole but for a limit that was asked for.

    With the `verdicts` of each evaluator by sample, those that are to be asked for again are counted; that another evaluator
    could score nothing, or that a limit was set, hides none of them.
    """
    waiting = {name: sum(map(_waits, found.values())) for name, found in (verdicts or {}).items()}
    if told := [f"{count} of {name}" for name, count in waiting.items() if count]:
        return f"some samples are to be asked about again ({', '.join(told)})"
    if results.get("complete") or about.get("limit") is not None:
        return ""
    if any(not figures.get("n") for figures in results["metrics"].values()):
        return ""  # an evaluator that could score nothing leaves no figure, and says so itself
    return "some samples were not asked about or not scored yet"


def _waits(score: Score) -> bool:
    """Whether a sample has no verdict yet: it was not read, or what went wrong was not the sample's."""
    return score.values is None and (score.reason.endswith(AGAIN) or score.reason == NOT_SCORED)
