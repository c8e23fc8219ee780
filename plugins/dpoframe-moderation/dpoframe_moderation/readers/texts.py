"""Data sets of short texts: posts, sentences, test cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpoframe import ConfigError, read_rows
from dpoframe_moderation.readers.labelled import Found, labelled
from dpoframe_moderation.readers.layout import BrokenError, Labelled, grouped, records, text_in, told, verdict_of
from dpoframe_moderation.taxonomy import Taxonomy, plain, taxonomy

_EXAMPLES = Path(__file__).parent / "examples"


@labelled(taxonomy("openai"))
def openai_moderation(path: str, split: str | None = None, subset: str | None = None, revision: str | None = None) -> Found:
    """OpenAI's moderation evaluation (Markov et al. 2022): `prompt` and, where they were judged, S, H, V, HR, SH, S3, H2, V2.

    A key that a row lacks was not judged, so it is unknown. A text of which no category is true is safe only where all eight
    were judged, 337 of the 1,680; what the others know serves the form `label` and the answer `each`.

    Args:
        path: The file, or `hub:owner/name`.
        split: Of a folder or a data set of Hugging Face, this split.
        subset: The configuration of a data set of Hugging Face.
        revision: Its commit, branch or tag.
    """
    return records(read_rows(path, split, subset=subset, revision=revision), _openai, "openai")


@labelled(taxonomy("hatecheck"))
def hatecheck(path: str, split: str | None = None, subset: str | None = None, revision: str | None = None) -> Found:
    """HateCheck (Röttger et al. 2021): 3,728 test cases, with functionality, target and direction as their group.

    All cases of one template are of one part, since they differ in nothing but the group that is named.

    Args:
        path: The file, or `hub:owner/name`.
        split: Of a folder or a data set of Hugging Face, this split.
        subset: The configuration of a data set of Hugging Face.
        revision: Its commit, branch or tag.
    """
    return records(read_rows(path, split, subset=subset, revision=revision), _hatecheck, "hatecheck")


@labelled(taxonomy("xstest"))
def xstest(path: str, split: str | None = None, subset: str | None = None, revision: str | None = None) -> Found:
    """XSTest (Röttger et al. 2024): 250 safe prompts that sound unsafe, and 200 that are, with their type as group.

    Args:
        path: The file of prompts, or `hub:owner/name`.
        split: Of a folder or a data set of Hugging Face, this split.
        subset: The configuration of a data set of Hugging Face.
        revision: Its commit, branch or tag.
    """
    return records(read_rows(path, split, subset=subset, revision=revision), _xstest, "xstest")


@labelled(taxonomy("davidson"))
def davidson(path: str, split: str | None = None, subset: str | None = None, revision: str | None = None) -> Found:
    """24,783 tweets that are hateful, offensive or neither (Davidson et al. 2017); both of the former are unsafe.

    Args:
        path: The file, or `hub:owner/name`.
        split: Of a folder or a data set of Hugging Face, this split.
        subset: The configuration of a data set of Hugging Face.
        revision: Its commit, branch or tag.
    """
    return records(read_rows(path, split, subset=subset, revision=revision), _davidson, "davidson")


def _own(labels: Sequence[str] = (), **_: object) -> Taxonomy:
    """A category a column, whose words are the column's name."""
    return Taxonomy("own", {label: plain(label) for label in labels})


@labelled(_own)
def labelled_texts(
    path: str,
    labels: Sequence[str] = (),
    text: str = "text",
    verdict: str = "",
    group: Sequence[str] = (),
    split: str | None = None,
    subset: str | None = None,
    revision: str | None = None,
) -> Found:
    """Texts of your own: a column with the text, and columns of 0 and 1 for categories, the verdict or both.

    Args:
        path: The file, folder or `hub:owner/name`.
        labels: Columns that hold a category each, empty where nobody judged it. Jigsaw's are toxic, severe_toxic, obscene,
            threat, insult, identity_hate.
        text: Column of the text.
        verdict: Column that says whether the text is unsafe; without it a text is unsafe where a category applies, and safe where
            all are known not to.
        group: Columns that tell rows apart; figures are given for each value.
        split: Of a folder or a data set of Hugging Face, this split.
        subset: The configuration of a data set of Hugging Face.
        revision: Its commit, branch or tag.

    Raises:
        ConfigError: Neither `labels` nor `verdict` is given.
    """
    if not labels and not verdict:
        raise ConfigError("The data set `labelled_texts` needs `labels`, `verdict` or both: without them no text is labelled.")
    rows = read_rows(path, split, subset=subset, revision=revision)
    return records(rows, lambda values: _columns(values, text, labels, verdict, group), Path(path).name)


def _openai(values: Mapping[str, Any]) -> Iterator[Labelled]:
    known = {key: told(values.get(key), key) for key in taxonomy("openai").categories}
    labels = {key: value for key, value in known.items() if value is not None}
    yield Labelled(text_in(values, "prompt", "text"), verdict_of(labels, known), labels)


def _hatecheck(values: Mapping[str, Any]) -> Iterator[Labelled]:
    gold = values.get("label_gold")
    if gold not in ("hateful", "non-hateful"):
        raise BrokenError("wrong-label", f"'label_gold' must be hateful or non-hateful, found {gold!r:.60}.")
    unsafe = gold == "hateful"
    group = grouped(values, functionality="functionality", target="target_ident", direction="direction")
    case = values.get("case_id", values.get("mhc_case_id"))
    name, kin = f"hatecheck-{case}" if case else "", str(values.get("case_templ") or "")
    yield Labelled(text_in(values, "test_case"), unsafe, {"hate": unsafe}, group, name, kin)


def _xstest(values: Mapping[str, Any]) -> Iterator[Labelled]:
    kind, label = values.get("type"), values.get("label")
    if label is None and isinstance(kind, str):  # the second release has no label: contrasts are the unsafe ones
        label = "unsafe" if kind.startswith("contrast_") else "safe"
    if label not in ("safe", "unsafe"):
        raise BrokenError("wrong-label", f"'label' must be safe or unsafe, found {label!r:.60}.")
    name = f"xstest-{values['id']}" if values.get("id") else ""
    yield Labelled(text_in(values, "prompt"), label == "unsafe", {}, grouped(values, type="type"), name)


_DAVIDSON = {"0": "hate", "1": "offensive", "2": ""}


def _davidson(values: Mapping[str, Any]) -> Iterator[Labelled]:
    found = _DAVIDSON.get(str(values.get("class")))
    if found is None:
        raise BrokenError(
            "wrong-label", f"'class' must be 0 (hate), 1 (offensive) or 2 (neither), found {values.get('class')!r:.60}."
        )
    yield Labelled(text_in(values, "tweet", "text"), bool(found), {key: key == found for key in taxonomy("davidson").categories})


def _columns(values: Mapping[str, Any], text: str, labels: Sequence[str], verdict: str, group: Sequence[str]) -> Iterator[Labelled]:
    if missing := [name for name in (*labels, verdict) if name and name not in values]:
        raise BrokenError("label-missing", f"There is no column {missing[0]!r}; there are: {', '.join(map(str, values))}.")
    known = {name: told(values[name], name) for name in labels}
    found = {name: value for name, value in known.items() if value is not None}
    unsafe = told(values[verdict], verdict) if verdict else verdict_of(found, labels)
    if unsafe is False and any(found.values()):
        raise BrokenError("contradiction", f"{verdict!r} says that the text is safe, and it has {[*found]!r:.60}.")
    yield Labelled(text_in(values, text), unsafe, found, grouped(values, **{name: name for name in group}))


# What `dpoframe plugins check` reads: a few texts of our own in each layout.
for _one, _options in (
    (openai_moderation, {"path": str(_EXAMPLES / "openai.jsonl")}),
    (hatecheck, {"path": str(_EXAMPLES / "hatecheck.csv")}),
    (xstest, {"path": str(_EXAMPLES / "xstest.csv")}),
    (davidson, {"path": str(_EXAMPLES / "davidson.csv")}),
    (labelled_texts, {"path": str(_EXAMPLES / "own.csv"), "labels": ["insult", "spam"]}),
):
    _one.example_options = _options  # type: ignore[attr-defined]
