"""Problems from files and data sets, and out of the samples of a suite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from dpoframe import RefusedRow, Sample, UnscoredError, read_rows
from dpoframe_code.problems.layouts import BrokenError, problem_in
from dpoframe_code.problems.problem import KEY, Problem

Part: TypeAlias = Literal["all", "prompt", "test", "validation", "train"]

_PARTS: dict[str, range] = {"prompt": range(1, 11), "test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}
"""MBPP's task ids by part (Austin et al. 2021, section 2.1): the file that is published has all of them."""


def read_problems(
    path: str | Path | Sequence[str | Path],
    *,
    part: Part = "all",
    split: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
) -> Iterator[Problem | RefusedRow]:
    """Problems, and a refusal with row and reason for every row that makes none.

    Args:
        path: A file of JSON Lines, JSON, CSV or Parquet, also compressed, or a data set: `hub:owner/name`. The layouts are
            those of HumanEval, HumanEval+ (both that are published), MBPP, sanitized MBPP, and `evalplus/mbppplus`.
        part: Of MBPP's own file, the problems of this part alone; other files are not divided.
        split: As for `dpoframe.read_rows`.
        subset: The same.
        revision: The same.

    Raises:
        DataError: Nothing is there, or it is damaged.
        MissingExtraError: A data set is named, and `datasets` is not installed.
    """
    seen: set[str] = set()
    for row in read_rows(path, split, subset=subset, revision=revision):
        if isinstance(row, RefusedRow):
            yield row
            continue
        if part != "all" and _outside(row.values.get("task_id"), row.values, part):
            continue
        try:
            problem = problem_in(row.values)
        except BrokenError as fault:
            yield row.refuse(fault.code, str(fault))
            continue
        if problem.id in seen:
            yield row.refuse("twice", f"The problem {problem.id} has occurred before.")
        else:
            seen.add(problem.id)
            yield problem


def problem_of(sample: Sample) -> Problem | None:
    """The problem that a sample answers: `meta["problem"]`, or the columns of a published layout; None where there is neither.

    Raises:
        UnscoredError: There is one, and it is broken.
    """
    given = sample.meta.get(KEY)
    if isinstance(given, Mapping):
        try:
            return Problem.of_plain(given)
        except (ValueError, TypeError) as error:
            raise UnscoredError(f"infra_error: the problem in `meta` is broken: {error}") from error
    if not ({"test", "test_list", "base_input"} & sample.meta.keys()):
        return None
    prompt = {"prompt": sample.prompt} if isinstance(sample.prompt, str) else {}
    try:
        return problem_in({"task_id": sample.id, **prompt, **sample.meta})
    except BrokenError as error:
        raise UnscoredError(f"infra_error: the problem is broken: {error}") from error


def _outside(name: object, values: Mapping[str, Any], part: Part) -> bool:
    """Whether a row is MBPP's own and of another part."""
    whole = "test_list" in values and not {"test", "source_file"} & values.keys()
    return whole and isinstance(name, int) and name not in _PARTS[part]
