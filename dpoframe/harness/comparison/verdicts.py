"""The verdicts of an evaluation, read strictly: a comparison rests on all of them or on none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dpoframe.errors import DataError
from dpoframe.harness.storage.folder import EvalFolder, Score

_AGAIN = "Run `dpoframe eval` again with the same arguments: it writes the file anew."


def verdicts_of(folder: EvalFolder, about: Mapping[str, Any]) -> dict[str, dict[str, Score]]:
    """Each evaluator's verdicts by sample.

    Args:
        folder: The evaluation.
        about: Its manifest, which says how many samples each evaluator was given.

    Raises:
        DataError: scores.jsonl is missing, holds a line that is no verdict, or not as many as were asked for.
    """
    file = folder.path / "scores.jsonl"
    found: dict[str, dict[str, Score]] = {name: {} for name in about["evaluators"]}
    for one in _scores(file):
        found.setdefault(one.evaluator, {})[one.id] = one
    short = [
        f"{len(found[name])} of {name}, where {expected} were asked for"
        for name, spec in about["evaluators"].items()
        if len(found[name]) != (expected := asked(about, spec))
    ]
    if short:
        raise DataError(f"{file} does not hold every verdict: {'; '.join(short)}. {_AGAIN}")
    return found


def asked(about: Mapping[str, Any], spec: Mapping[str, Any]) -> int:
    """How many samples an evaluator was to read, by the manifest."""
    return int(about["pairs"] if spec.get("needs") == "pair" else about["prompts"] * about["samples"])


def _scores(file: Path) -> Iterator[Score]:
    try:
        with file.open(encoding="utf-8") as stream:
            for number, text in enumerate(stream, 1):
                yield _score(text, f"{file} line {number}")
    except FileNotFoundError as error:
        raise DataError(f"There is no {file}, so nothing is known of single samples. {_AGAIN}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text. {_AGAIN}") from error


def _score(text: str, where: str) -> Score:
    try:
        made = Score(**json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{where} is no verdict: {str(error)[:200]}. {_AGAIN}") from error
    named = all(isinstance(one, str) for one in (made.evaluator, made.id, made.reason, made.cluster))
    valued = made.values is None or (isinstance(made.values, dict) and all(map(_is_number, made.values.values())))
    if not named or not valued:
        raise DataError(f"{where} is no verdict: {text.strip()[:200]}. {_AGAIN}")
    return made


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float)
