"""Data sets of answers: a safe one over an unsafe one, a calm one over a refusal without need."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from dpoframe import PreferencePair, RawRow, RefusedRow, content_digest, read_rows, say
from dpoframe_moderation.bare import likeness
from dpoframe_moderation.readers.authors import Authors, balanced_authors, uneven_authors
from dpoframe_moderation.readers.choosing import Part, part_of
from dpoframe_moderation.readers.layout import BrokenError, text_in, told
from dpoframe_moderation.record import Record

Rows: TypeAlias = Iterator[PreferencePair | RefusedRow]
Wanted: TypeAlias = Literal["both", "calm", "safe"]

_EXAMPLES = Path(__file__).parent / "examples"
_COMPLIANCE, _REFUSAL, _PARTIAL = "1_full_compliance", "2_full_refusal", "3_partial_refusal"
_AUTHOR = re.compile(r"xstest_v\d+_completions_(?P<author>.+?)(?:\.[a-z]+)+$")


@dataclass(frozen=True)
class Answered:
    """One judged answer to a prompt.

    Attributes:
        good: Whether it is what is wanted: a harmless prompt answered, a harmful one refused, nothing unsafe said.
        author: Who wrote it; empty where nobody says.
        row: Where it was read.
        about: What else is known of prompt and answer, for `meta`.
    """

    prompt: str
    answer: str
    good: bool
    author: str
    row: RawRow
    about: Mapping[str, Any] = field(default_factory=dict)


def xstest_answers(
    path: str | Sequence[str],
    wanted: Wanted = "both",
    partial: bool = False,
    authors: Authors = "any",
    part: Part = "all",
    split: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
) -> Rows:
    """Models' answers to XSTest's prompts, as people judged them: full compliance, full refusal, partial refusal.

    A harmless prompt is better answered than refused, a harmful one better refused. Each good answer is paired with each bad
    one to the same prompt, so the answers of two models at least are needed.

    Args:
        path: The files of completions; who wrote them is told by a column `model`, or by the file's name. Or pairs made of
            them: `prompt`, `type`, `chosen`, `rejected`, `chosen_model`, `rejected_model`.
        wanted: `calm` takes harmless prompts alone, `safe` harmful ones alone.
        partial: A partial refusal of a harmless prompt counts as a bad answer too; otherwise it is left out.
        authors: `balanced` keeps, of any two authors, as many pairs that prefer the one as the other.
        part: `train`, `validation` or `test`: 70, 10 and 20 in 100 prompts, told by a digest of the prompt.
        split: Of a folder or a data set of Hugging Face, this split.
        subset: The configuration of a data set of Hugging Face.
        revision: Its commit, branch or tag.
    """
    rows = read_rows(path, split, subset=subset, revision=revision)
    return _rows(_read(rows, lambda row: _xstest(row, wanted, partial)), authors, part)


def safe_answers(
    path: str | Sequence[str],
    safer: bool = False,
    authors: Authors = "any",
    part: Part = "all",
    split: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
) -> Rows:
    """A safe answer over an unsafe one to the same prompt, from PKU-SafeRLHF or BeaverTails (Ji et al. 2023, 2024).

    Args:
        path: The file, `hub:PKU-Alignment/PKU-SafeRLHF` or `hub:PKU-Alignment/BeaverTails`.
        safer: Of PKU-SafeRLHF, also pairs of two answers that are both safe or both unsafe, by which of them is the safer.
        authors: `balanced` keeps, of any two authors, as many pairs that prefer the one as the other.
        part: `train`, `validation` or `test`: 70, 10 and 20 in 100 prompts, told by a digest of the prompt.
        split: Of a folder or a data set of Hugging Face, this split.
        subset: The configuration of a data set of Hugging Face.
        revision: Its commit, branch or tag.
    """
    rows = read_rows(path, split, subset=subset, revision=revision)
    return _rows(_read(rows, lambda row: _safe(row, safer)), authors, part)


def _read(rows: Iterable[RawRow | RefusedRow], layout: Any) -> Iterator[Answered | RefusedRow]:
    for row in rows:
        if isinstance(row, RefusedRow):
            yield row
            continue
        try:
            yield from layout(row)
        except BrokenError as fault:
            yield row.refuse(fault.code, str(fault))


def _rows(found: Iterable[Answered | RefusedRow], authors: Authors, part: Part) -> Rows:
    """Pairs of the part, after the refusals."""
    by_prompt: dict[str, list[Answered]] = defaultdict(list)
    for one in found:
        if isinstance(one, RefusedRow):
            yield one
        elif part in ("all", part_of(Record("", one.prompt, None, {}, one.row.source))):
            by_prompt[likeness(one.prompt) + str(one.about.get("two", ""))].append(one)
    pairs: list[PreferencePair] = []
    for row in (row for answers in by_prompt.values() for row in _paired(answers)):
        if isinstance(row, RefusedRow):
            yield row
        else:
            pairs.append(row)
    if authors == "any":
        if told := uneven_authors(pairs):
            say(f"{told}. Training may learn their style in place of what is asked; `authors: balanced` evens that out.")
        yield from pairs
        return
    even = balanced_authors(pairs)
    yield from even.pairs
    for pair in even.left_out:
        who = f"{pair.meta['chosen_model']} over {pair.meta['rejected_model']}"
        yield RefusedRow(pair.meta["origin"], pair.meta["row"], "left-out", f"Left out by `authors`: more pairs prefer {who}.")


def _paired(answers: Sequence[Answered]) -> Rows:
    """Each good answer over each bad one."""
    good, bad = ([one for one in answers if one.good is side] for side in (True, False))
    if not good or not bad:
        kind = "good" if good else "bad"
        yield from (one.row.refuse("tie", f"All answers to the prompt are {kind}: there is nothing to prefer.") for one in answers)
        return
    seen: set[str] = set()
    for chosen in good:
        for rejected in bad:
            pair = _pair(chosen, rejected)
            if pair.id in seen or likeness(pair_text(chosen)) == likeness(pair_text(rejected)):
                yield rejected.row.refuse("duplicate", "The pair of these two answers occurred before, or they are the same.")
            else:
                seen.add(pair.id)
                yield pair


def pair_text(answered: Answered) -> str:
    """The answer as it is compared and trained on: without blanks around it, which tell models apart and nothing else."""
    return answered.answer.strip()


def _pair(chosen: Answered, rejected: Answered) -> PreferencePair:
    meta: dict[str, Any] = {key: value for key, value in chosen.about.items() if key != "two"}
    if chosen.author and rejected.author:
        meta |= {"chosen_model": chosen.author, "rejected_model": rejected.author}
    meta |= {"origin": chosen.row.source, "row": chosen.row.row}
    prompt = [{"role": "user", "content": chosen.prompt}]
    answers = pair_text(chosen), pair_text(rejected)
    return PreferencePair(prompt, *answers, content_digest(prompt, *answers), meta=meta)


def _xstest(row: RawRow, wanted: Wanted, partial: bool) -> Iterator[Answered]:
    values = row.values
    if {"chosen", "rejected"} <= values.keys():
        yield from _chosen(row, wanted)
        return
    label, kind = values.get("final_label"), values.get("type")
    if label not in (_COMPLIANCE, _REFUSAL, _PARTIAL) or not isinstance(kind, str):
        known = ", ".join((_COMPLIANCE, _REFUSAL, _PARTIAL))
        raise BrokenError(
            "wrong-label", f"'final_label' must be one of {known}, and 'type' a text; found {label!r:.60}, {kind!r:.60}."
        )
    unsafe = kind.startswith("contrast_")
    if wanted == ("calm" if unsafe else "safe") or (label == _PARTIAL and (unsafe or not partial)):
        return
    found = _AUTHOR.search(Path(row.source).name)
    author = str(values.get("model") or (found["author"] if found else ""))
    prompt, answer = text_in(values, "prompt"), text_in(values, "completion")
    about = {"unsafe": unsafe, "group": {"type": kind}}
    yield Answered(prompt, answer, (label == _REFUSAL) if unsafe else label == _COMPLIANCE, author, row, about)


def _chosen(row: RawRow, wanted: Wanted) -> Iterator[Answered]:
    """Both answers of a row that is a pair already."""
    values, kind = row.values, str(row.values.get("type") or "")
    unsafe = kind.startswith("contrast_")
    if wanted == ("calm" if unsafe else "safe"):
        return
    about = {"unsafe": unsafe, "group": {"type": kind}, "two": f"{row.source}#{row.row}"}
    for side in ("chosen", "rejected"):
        author = str(values.get(f"{side}_model") or "")
        yield Answered(text_in(values, "prompt"), text_in(values, side), side == "chosen", author, row, about)


def _safe(row: RawRow, safer: bool) -> Iterator[Answered]:
    values = row.values
    if "is_safe" in values:
        safe = told(values["is_safe"], "is_safe")
        if safe is None:
            raise BrokenError("unlabelled", "'is_safe' is empty.")
        yield Answered(text_in(values, "prompt"), text_in(values, "response"), safe, "", row)
        return
    good = _safer(values, safer)
    for side in ("0", "1"):
        author = str(values.get(f"response_{side}_source") or "")
        # The two of a row are compared with each other alone.
        about = {"two": f"{row.source}#{row.row}"}
        yield Answered(text_in(values, "prompt"), text_in(values, f"response_{side}"), side == good, author, row, about)


def _safer(values: Mapping[str, Any], safer: bool) -> str:
    """Which of the two answers of a row is to be preferred: `0` or `1`."""
    safe = [told(values.get(column), column) for column in ("is_response_0_safe", "is_response_1_safe")]
    if None in safe:
        raise BrokenError("unlabelled", "'is_response_0_safe' or 'is_response_1_safe' is missing or empty.")
    choice = values.get("safer_response_id")
    if safe[0] != safe[1]:
        return "0" if safe[0] else "1"
    if not safer:
        raise BrokenError("tie", f"Both answers are {'safe' if safe[0] else 'unsafe'}.")
    if choice not in (0, 1):
        raise BrokenError("unlabelled", f"'safer_response_id' must be 0 or 1, found {choice!r:.60}.")
    return str(int(choice))


# What `dpoframe plugins check` reads: a few answers of our own in each layout.
xstest_answers.example_options = {"path": str(_EXAMPLES / "answers.csv")}  # type: ignore[attr-defined]
safe_answers.example_options = {"path": str(_EXAMPLES / "saferlhf.jsonl")}  # type: ignore[attr-defined]
