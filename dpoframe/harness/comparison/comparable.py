"""Whether two evaluations may be compared: all that differs between them and may not, in one message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dpoframe.errors import DataError
from dpoframe.harness.storage.folder import EvalFolder

MANIFEST_KEYS = ("suite", "suite_version", "suite_digest", "model", "prompts", "pairs", "samples", "order", "evaluators")
_COUNTED = {"prompts": "prompts", "pairs": "held-out pairs", "samples": "answers a prompt", "seed": "seed"}


def required(folder: EvalFolder, name: str, *keys: str) -> dict[str, Any]:
    """A document of an evaluation; DataError where it is missing, unreadable, or lacks one of the keys."""
    found = folder.document(name)
    if lacking := [key for key in keys if key not in found]:
        told = f"{folder.path / name} lacks {', '.join(lacking)}: it is no document of an evaluation, or an old one."
        raise DataError(f"{told} Evaluate again.")
    return found


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
    if old.get("base_digest") != new.get("base_digest"):
        relative = [name for name, spec in new["evaluators"].items() if spec.get("needs") in ("pair", "base_logp", "logratio")]
        if relative:
            yield f"Each was measured against a base of its own ({old['base']}, {new['base']}): {', '.join(sorted(relative))}."
    known, other = old.get("versions") or {}, new.get("versions") or {}
    shared = sorted(set(known) & set(other))
    moved = [f"{name} {known[name]} against {other[name]}" for name in shared if known[name] != other[name]]
    if moved:
        yield f"Made with other versions: {', '.join(moved)}."


def unfinished(results: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Why an evaluation is no evidence yet; empty where it is whole, or whole but for a limit that was asked for."""
    if results.get("complete") or about.get("limit") is not None:
        return ""
    if any(not figures.get("n") for figures in results["metrics"].values()):
        return ""  # an evaluator that could score nothing leaves no figure, and says so itself
    return "some samples were not asked about or not scored yet"
