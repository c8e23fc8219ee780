"""Data sets of what people and models say to each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from dpoframe import read_rows
from dpoframe_moderation.readers.labelled import Found, labelled
from dpoframe_moderation.readers.layout import BrokenError, Labelled, grouped, records, text_in, told
from dpoframe_moderation.taxonomy import taxonomy

Side: TypeAlias = Literal["prompt", "response"]
Caution: TypeAlias = Literal["unsafe", "safe", "unknown"]

_EXAMPLES = Path(__file__).parent / "examples"
_CAUTION = "needs_caution"
_REDACTED = "REDACTED"


@labelled(taxonomy("toxicchat"))
def toxic_chat(path: str, split: str | None = None, subset: str | None = None, revision: str | None = None) -> Found:
    """ToxicChat (Lin et al. 2023): what users asked a chat model, toxic or not; unsafe is what is toxic.

    Args:
        path: The file, or `hub:lmsys/toxic-chat`.
        split: Of a folder or a data set of Hugging Face, this split.
        subset: The configuration of a data set of Hugging Face: `toxicchat0124` or `toxicchat1123`.
        revision: Its commit, branch or tag.
    """
    return records(read_rows(path, split, subset=subset, revision=revision), _toxic_chat, "toxicchat")


@labelled(taxonomy("beavertails"))
def beavertails(path: str, split: str | None = None, subset: str | None = None, revision: str | None = None) -> Found:
    """BeaverTails (Ji et al. 2023): a question and its answer, with 14 categories of harm.

    Args:
        path: The file, or `hub:PKU-Alignment/BeaverTails`.
        split: Of a folder or a data set of Hugging Face, this split: `330k_train`, `330k_test`, `30k_train`, `30k_test`.
        subset: The configuration of a data set of Hugging Face.
        revision: Its commit, branch or tag.
    """
    return records(read_rows(path, split, subset=subset, revision=revision), _beavertails, "beavertails")


@labelled(taxonomy("saferlhf"))
def safe_rlhf(path: str, split: str | None = None, subset: str | None = None, revision: str | None = None) -> Found:
    """PKU-SafeRLHF (Ji et al. 2024) for moderators: both answers to a question, with 19 categories of harm.

    Args:
        path: The file, or `hub:PKU-Alignment/PKU-SafeRLHF`.
        split: Of a folder or a data set of Hugging Face, this split.
        subset: The configuration of a data set of Hugging Face.
        revision: Its commit, branch or tag.
    """
    return records(read_rows(path, split, subset=subset, revision=revision), _safe_rlhf, "saferlhf")


@labelled(taxonomy("aegis"))
def aegis(
    path: str,
    side: Side = "prompt",
    caution: Caution = "unsafe",
    split: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
) -> Found:
    """Aegis 1.0 and 2.0 (Ghosh et al. 2024, 2025), told apart by their columns.

    In 1.0 most of up to five annotators decide. Where they are split the verdict is unknown, and so is a category that some name
    and not most. In 2.0 the categories of a row are those of prompt and response together: they are a prompt's where the
    response is safe or there is none.

    Args:
        path: The file, or `hub:nvidia/Aegis-AI-Content-Safety-Dataset-2.0`.
        side: Of 2.0, whether the prompt alone is judged, or the response with its prompt. A text of 1.0 is what it is.
        caution: Of 1.0, what texts that an annotator marked `Needs Caution` and nothing else count as: `unsafe` and `safe` are the
            defensive and the permissive reading of the paper, `unknown` leaves them out.
        split: Of a folder or a data set of Hugging Face, this split.
        subset: The configuration of a data set of Hugging Face.
        revision: Its commit, branch or tag.
    """
    rows = read_rows(path, split, subset=subset, revision=revision)
    return records(rows, lambda values: _aegis(values, side, caution), "aegis")


def exchange(prompt: str, response: str) -> str:
    """A question and its answer as one text to be judged."""
    return f"User: {prompt.strip()}\nAssistant: {response.strip()}"


def _toxic_chat(values: Mapping[str, Any]) -> Iterator[Labelled]:
    known = {key: told(values.get(key), key) for key in taxonomy("toxicchat").categories}
    labels = {key: value for key, value in known.items() if value is not None}
    group = grouped(values, annotated_by_people="human_annotation")
    yield Labelled(text_in(values, "user_input"), known["toxicity"], labels, group, str(values.get("conv_id") or ""))


def _beavertails(values: Mapping[str, Any]) -> Iterator[Labelled]:
    labels = _flags(values.get("category"), "category", taxonomy("beavertails").categories)
    safe = told(values.get("is_safe"), "is_safe")
    unsafe = _settled(safe, labels, "is_safe", len(taxonomy("beavertails").categories))
    yield Labelled(_exchanged(values, "response"), unsafe, labels)


def _safe_rlhf(values: Mapping[str, Any]) -> Iterator[Labelled]:
    names = {_saferlhf_key(name): name for name in taxonomy("saferlhf").categories.values()}
    for side in ("0", "1"):
        column = f"is_response_{side}_safe"
        given = values.get(f"response_{side}_harm_category")
        labels = _flags(given, "harm_category", names, _saferlhf_key) if given else {}
        safe = told(values.get(column), column)
        group = grouped(values, author=f"response_{side}_source", severity=f"response_{side}_severity_level")
        yield Labelled(_exchanged(values, f"response_{side}"), _settled(safe, labels, column, len(names)), labels, group)


def _saferlhf_key(name: str) -> str:
    return taxonomy("saferlhf").key(name) or name


def _exchanged(values: Mapping[str, Any], response: str) -> str:
    return exchange(text_in(values, "prompt"), text_in(values, response))


def _flags(given: object, column: str, known: Mapping[str, str], key: Any = str) -> dict[str, bool]:
    """Categories by key, out of an object of yes and no."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise BrokenError("wrong-type", f"{column!r} must be an object of categories, found {type(given).__name__}.")
    flags = {key(name): told(value, name) for name, value in given.items()}
    if strange := sorted(flags.keys() - known.keys()):
        raise BrokenError("outside-taxonomy", f"{column!r} has {strange[0]!r}, which is none of the {len(known)} categories.")
    return {name: value for name, value in flags.items() if value is not None}


def _settled(safe: bool | None, labels: Mapping[str, bool], column: str, all_of_them: int) -> bool | None:
    """The verdict, which must not be against the categories: some of them where it is safe, none where all were judged."""
    if safe is True and any(labels.values()):
        true = next(name for name, value in labels.items() if value)
        raise BrokenError("contradiction", f"{column!r} says that the text is safe, and it has the category {true!r}.")
    if safe is False and len(labels) == all_of_them and not any(labels.values()):
        raise BrokenError("contradiction", f"{column!r} says that the text is unsafe, and it has none of {all_of_them} categories.")
    return None if safe is None else not safe


def _aegis(values: Mapping[str, Any], side: Side, caution: Caution) -> Iterator[Labelled]:
    if "labels_0" in values:
        yield _voted(values, caution)
    else:
        yield _judged(values, side)


def _voted(values: Mapping[str, Any], caution: Caution) -> Labelled:
    """A row of Aegis 1.0."""
    columns = sorted(name for name in values if name.startswith("labels_"))
    votes = [_aegis_keys(values[name]) for name in columns if isinstance(values[name], str) and values[name].strip()]
    if not votes:
        raise BrokenError("unlabelled", f"None of {', '.join(columns)} says anything.")
    verdicts = [_verdict(vote, caution) for vote in votes]
    counted = Counter(key for vote in votes for key in vote)
    labels = {key: counted[key] > 0 for key in taxonomy("aegis").categories if counted[key] == 0 or 2 * counted[key] > len(votes)}
    group = grouped(values, kind="text_type")
    name = f"aegis-{values['id']}" if values.get("id") else ""
    unsafe = _most(verdicts)
    # A majority of annotators that each name something else leaves no category; one that finds the text safe leaves none true.
    return Labelled(text_in(values, "text"), unsafe, labels if unsafe is not False else _denied(labels), group, name)


def _denied(labels: Mapping[str, bool]) -> dict[str, bool]:
    return {key: value for key, value in labels.items() if not value}


def _verdict(vote: frozenset[str], caution: Caution) -> bool | None:
    if vote - {_CAUTION}:
        return True
    return {"unsafe": True, "safe": False, "unknown": None}[caution] if vote else False


def _most(verdicts: Sequence[bool | None]) -> bool | None:
    """What more than half say."""
    return next((said for said in (True, False) if 2 * verdicts.count(said) > len(verdicts)), None)


def _aegis_keys(named: str) -> frozenset[str]:
    """Categories out of a list with commas; none of them for `Safe`."""
    names = [name.strip() for name in named.split(",") if name.strip() and name.strip().lower() != "safe"]
    keys = {name: taxonomy("aegis").key(name) for name in names}
    if strange := [name for name, key in keys.items() if key is None]:
        raise BrokenError("outside-taxonomy", f"{strange[0]!r} is none of the categories of Aegis.")
    return frozenset(key for key in keys.values() if key is not None)


def _judged(values: Mapping[str, Any], side: Side) -> Labelled:
    """A row of Aegis 2.0."""
    column = f"{side}_label"
    label = values.get(column)
    if label in (None, ""):
        raise BrokenError("unlabelled", f"{column!r} is empty.")
    if label not in ("safe", "unsafe"):
        raise BrokenError("wrong-label", f"{column!r} must be safe or unsafe, found {label!r:.60}.")
    text = text_in(values, "prompt") if side == "prompt" else _exchanged(values, "response")
    if _REDACTED in (values.get("prompt"), values.get("response") if side == "response" else None):
        raise BrokenError("redacted", "The text is left out of the data set, which names where it is to be had.")
    named = _aegis_keys(str(values.get("violated_categories") or ""))
    name = f"aegis-{values['id']}-{side}" if values.get("id") else ""
    return Labelled(text, label == "unsafe", _of_side(values, side, label == "unsafe", named), {}, name)


def _of_side(values: Mapping[str, Any], side: Side, unsafe: bool, named: frozenset[str]) -> dict[str, bool]:
    if not unsafe:
        return dict.fromkeys(taxonomy("aegis").categories, False)
    if not named:  # nobody said what it is unsafe for
        return {}
    alone = side == "response" or values.get("response_label") != "unsafe"
    # What neither side has, this one has not.
    return {key: key in named for key in taxonomy("aegis").categories if alone or key not in named}


# What `dpoframe plugins check` reads: a few rows of our own in each layout.
for _one, _file in (
    (toxic_chat, "toxicchat.csv"),
    (beavertails, "beavertails.jsonl"),
    (safe_rlhf, "saferlhf.jsonl"),
    (aegis, "aegis2.jsonl"),
):
    _one.example_options = {"path": str(_EXAMPLES / _file)}  # type: ignore[attr-defined]
