"""Pairs of programs that were run, as `dpoframe data build` writes them: `data: {name: code_pairs, path: ...}`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from dpoframe import Content, DataError, PreferencePair, RefusedRow, read_rows

_SIDES = ("prompt", "chosen", "rejected")
_LONGEST = 200
_BUILD = (
    "Pairs are made of programs that were run. Of a model's own, with MBPP's file of problems:\n"
    "  dpoframe data build --model MODEL --prompts mbpp --set prompts.path=mbpp.jsonl --set prompts.part=train --samples 8 \\\n"
    "    --set generation.temperature=0.8 --answers drawn --evaluator pass_at_k --out code-pairs/passed.jsonl\n"
    "of stored programs, in rows with `prompt`, `response` and the columns of the benchmark:\n"
    "  dpoframe data build programs.jsonl --evaluator pass_at_k --out code-pairs/passed.jsonl\n"
    "Then name what was written: --set data.path=code-pairs"
)


def code_pairs(
    path: str | list[str] = "", per_problem: Annotated[int, Ge(1)] | None = None
) -> Iterator[PreferencePair | RefusedRow]:
    """Pairs of programs with the evidence of each in `meta`: scores, statuses, times, findings, tier of the sandbox.

    Args:
        path: A file of `dpoframe data build`, a list of them, or a folder that holds nothing else.
        per_problem: Most pairs of one problem, over all files, the first ones read; None for all. The problem is what
            `chosen_id` names before its number, and the prompt where that is missing.

    Raises:
        DataError: No such file is there; the message says how pairs are built.
    """
    places = [path] if isinstance(path, str) else list(path)
    missing = [place for place in places if not place or not Path(place).expanduser().exists()]
    if missing or not places:
        said = f"{missing[0]} is not there (looked for from {Path.cwd()})." if any(missing) else "No file of pairs is given."
        raise DataError(f"{said} {_BUILD}")
    return _balanced(path, per_problem)


def _balanced(path: str | list[str], most: int | None) -> Iterator[PreferencePair | RefusedRow]:
    given: Counter[str] = Counter()
    for row in read_rows(path):
        if isinstance(row, RefusedRow):
            yield row
            continue
        values = row.values
        if missing := [name for name in _SIDES if not _is_content(values.get(name))]:
            yield row.refuse(
                "no-pair", f"{', '.join(missing)} should be text or chat messages. Rows come from `dpoframe data build`."
            )
            continue
        problem = _problem(values)
        given[problem] += 1
        if most is not None and given[problem] > most:
            yield row.refuse("balanced", f"The problem {problem:.60} has given {most} already, and per_problem is {most}.")
            continue
        prompt, chosen, rejected = (values[name] for name in _SIDES)
        yield PreferencePair(prompt, chosen, rejected, meta=_evidence(values, row.source, row.row))


def _problem(values: Mapping[str, Any]) -> str:
    name = values.get("chosen_id")
    return name.rpartition("#")[0] or name if isinstance(name, str) and name else str(values["prompt"])


def _evidence(values: Mapping[str, Any], source: str, number: int) -> dict[str, Any]:
    kept = {key: value for key, value in values.items() if key not in _SIDES and _is_short(value)}
    return {**kept, "origin": source, "row": number}


def _is_short(value: object) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _LONGEST)


def _is_content(value: Content | None) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) and "role" in one for one in value)


# What `dpoframe plugins check` reads: pairs for two problems of our own.
code_pairs.example_options = {"path": str(Path(__file__).parent / "example_pairs.jsonl"), "per_problem": 2}  # type: ignore[attr-defined]
