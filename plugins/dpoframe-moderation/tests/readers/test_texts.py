"""Data sets of short texts: what a row says, what it does not, and rows that say nothing usable."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
from dpoframe_moderation.readers import exchanges, texts
from dpoframe_moderation.readers.choosing import part_of
from dpoframe_moderation.record import Record
from hypothesis import given
from hypothesis import strategies as st

from dpoframe import ConfigError, DataError
from dpoframe.testing import DatasetContract

Read = Callable[..., Any]
Write = Callable[..., str]
KEYS = ("S", "H", "V", "HR", "SH", "S3", "H2", "V2")


def openai(text: object, **known: Any) -> dict[str, Any]:
    """A row of OpenAI's layout."""
    return {"prompt": text, **known}


def judged(text: object, **true: int) -> dict[str, Any]:
    """A row of which all categories were judged."""
    return openai(text, **{**dict.fromkeys(KEYS, 0), **true})


class TestOpenai(DatasetContract):
    """The contract of every data set, on rows in OpenAI's layout."""

    dataset = staticmethod(texts.openai_moderation)
    options: ClassVar[Mapping[str, Any]] = texts.openai_moderation.example_options  # type: ignore[attr-defined]


class TestEach(TestOpenai):
    """The same with one question a category."""

    options: ClassVar[Mapping[str, Any]] = {**texts.openai_moderation.example_options, "answer": "each"}  # type: ignore[attr-defined]


class TestCategories(TestOpenai):
    """The same with categories to be named."""

    options: ClassVar[Mapping[str, Any]] = {**texts.openai_moderation.example_options, "answer": "categories"}  # type: ignore[attr-defined]


class TestLabel(TestOpenai):
    """The same for a classifier."""

    options: ClassVar[Mapping[str, Any]] = {**texts.openai_moderation.example_options, "form": "label", "balance": "weight"}  # type: ignore[attr-defined]


class TestHatecheck(DatasetContract):
    """The contract, on rows in HateCheck's layout."""

    dataset = staticmethod(texts.hatecheck)
    options: ClassVar[Mapping[str, Any]] = texts.hatecheck.example_options  # type: ignore[attr-defined]


class TestXstest(DatasetContract):
    """The contract, on prompts in XSTest's layout."""

    dataset = staticmethod(texts.xstest)
    options: ClassVar[Mapping[str, Any]] = texts.xstest.example_options  # type: ignore[attr-defined]


class TestDavidson(DatasetContract):
    """The contract, on rows in Davidson's layout, as labels that exclude each other."""

    dataset = staticmethod(texts.davidson)
    options: ClassVar[Mapping[str, Any]] = {**texts.davidson.example_options, "form": "class"}  # type: ignore[attr-defined]


class TestOwn(DatasetContract):
    """The contract, on a table of one's own."""

    dataset = staticmethod(texts.labelled_texts)
    options: ClassVar[Mapping[str, Any]] = texts.labelled_texts.example_options  # type: ignore[attr-defined]


def test_missing_key_is_unknown(read: Read, write: Write) -> None:
    """A text without a true category is safe only where all eight are known; a key that is null was not judged either."""
    path = write([judged("a"), openai("b", S=0), openai("c", S=1), openai("d", S=0, H=None), {**judged("e"), "V2": None}])
    assert read(texts.openai_moderation, path).verdicts == {"a": False, "c": True}
    assert read(texts.openai_moderation, path).codes == {"unlabelled": 3}
    labels = {pair.meta["text"]: pair.meta["labels"] for pair in read(texts.openai_moderation, path, answer="each").pairs}
    assert (labels["b"], labels["d"], "V2" in labels["e"]) == ({"S": False}, {"S": False}, False)


BROKEN = {
    "empty-text": [judged(""), judged(" \n"), judged("\u200b\u200d\ufeff\u0007")],
    "not-utf8": [judged("half \ud800 a character")],
    "wrong-type": [judged(7), judged(None), judged(["a"])],
    "text-missing": [{"S": 1}],
    "wrong-label": [judged("a", S=2), judged("b", H="perhaps"), judged("c", V=[1])],
    "unlabelled": [openai("a"), openai("b", S=0)],
    "contradiction": [judged("same"), judged(" SAME\u200b", S=1)],
}


@pytest.mark.parametrize("code", BROKEN)
def test_broken_rows(read: Read, write: Write, code: str) -> None:
    """Every broken row is refused with its number and a reason, and the rows beside it are used."""
    found = read(texts.openai_moderation, write([judged("good"), *BROKEN[code], judged("bad", S=1)]))
    assert found.codes == {code: len(BROKEN[code])}
    assert [row.row for row in found.refused] == list(range(2, 2 + len(BROKEN[code])))
    assert found.verdicts == {"good": False, "bad": True}


def test_repeated_text(read: Read, write: Write) -> None:
    """A text that occurs again is used once, with what all its rows know; spelling and invisible marks make no other text."""
    found = read(texts.openai_moderation, write([openai("Text", S=0), judged("\uff54\uff45\uff58\uff54\u200b  ")]))
    assert found.verdicts == {"Text": False}
    assert found.codes == {"duplicate": 1}


def test_contradiction_names_rows_and_category(read: Read, write: Write) -> None:
    """Where two rows differ in one category, both are refused with the category and both numbers."""
    found = read(texts.openai_moderation, write([judged("a", S=1, H=1), judged("a", S=1)]), answer="each")
    assert not found.pairs
    assert {row.reason for row in found.refused} == {"Rows 1, 2 have one text and differ in H."}


def test_unreadable_lines(read: Read, tmp_path: Any) -> None:
    """A line that is no JSON, or no UTF-8, is refused and the others are used."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(judged("a", S=1)).encode() + b"\n{broken\n\xff\xfe\n" + json.dumps(judged("b")).encode())
    found = read(texts.openai_moderation, str(path))
    assert found.verdicts == {"a": True, "b": False}
    assert len(found.refused) == 2


def test_all_scripts(read: Read, write: Write) -> None:
    """Texts of scripts without blanks between words, from right to left and with control characters stay as they are."""
    strange = ["今日は天気がいいですね", "ข้อความนี้ปลอดภัย", "هذا النص آمن", "a\u0007b\u200dc", "👩\u200d👩\u200d👧", "\u202exyz"]
    assert set(read(texts.openai_moderation, write([judged(text) for text in strange])).verdicts) == set(strange)


def test_too_long(read: Read, write: Write) -> None:
    """Texts beyond the bound are refused with their length."""
    found = read(texts.openai_moderation, write([judged("a" * 11), judged("b" * 10)]), max_chars=10)
    assert [*found.verdicts] == ["b" * 10]
    assert found.codes == {"over-long": 1}
    assert "11 characters" in found.refused[0].reason


def test_order(read: Read, write: Write) -> None:
    """As they come, the shortest first, or mixed: the same way each time."""
    path = write([judged("a" * length) for length in (5, 2, 9, 4, 7, 1, 3, 8)])
    lengths = {
        order: [*map(len, read(texts.openai_moderation, path, order=order).verdicts)] for order in ("source", "short", "mixed")
    }
    assert lengths["source"] == [5, 2, 9, 4, 7, 1, 3, 8]
    assert lengths["short"] == sorted(lengths["source"])
    assert sorted(lengths["mixed"]) == lengths["short"] != lengths["mixed"] != lengths["source"]


def test_balance(read: Read, write: Write) -> None:
    """`sample` keeps as many texts of either verdict, and says of each other row why it is left out; `weight` keeps all."""
    path = write([judged(f"safe {number}") for number in range(6)] + [judged(f"bad {number}", S=1) for number in range(2)])
    even = read(texts.openai_moderation, path, balance="sample")
    assert Counter(even.verdicts.values()) == {True: 2, False: 2}
    assert even.codes == {"left-out": 4}
    weights = {pair.meta["unsafe"]: pair.weight for pair in read(texts.openai_moderation, path, balance="weight").pairs}
    assert weights == {True: 2.0, False: 8 / 12}


def test_balance_by_category(read: Read, write: Write) -> None:
    """Each category is evened out by itself; one that has a single side stays as it is."""
    path = write([judged("a", S=1), judged("b", S=1), judged("c"), openai("d", V=0)])
    found = read(texts.openai_moderation, path, form="label", balance="sample")
    counts = Counter((pair.meta["category"], pair.meta["positive"]) for pair in found.pairs)
    assert (counts["S", True], counts["S", False]) == (1, 1)
    assert (counts["overall", True], counts["overall", False]) == (1, 1)
    assert (counts["V", True], counts["V", False]) == (0, 4)


def test_hatecheck_and_xstest_labels(read: Read, write: Write) -> None:
    """A label that the benchmarks do not have is refused; XSTest's second release, which has none, tells it by the type."""
    cases = [{"functionality": "f", "case_id": 1, "test_case": "a", "label_gold": gold} for gold in ("hateful", "unsure")]
    assert read(texts.hatecheck, write(cases)).codes == {"wrong-label": 1}
    prompts = [{"id": "v2-1", "prompt": "a", "type": "homonyms"}, {"id": "v2-2", "prompt": "b", "type": "contrast_homonyms"}]
    assert read(texts.xstest, write([*prompts, {"id": "v2-3", "prompt": "c", "type": None}])).verdicts == {"a": False, "b": True}


def test_own_verdict(read: Read, write: Write) -> None:
    """A column for the verdict alone is enough; where it says safe and a category says otherwise, the row is refused."""
    rows = [
        {"post": "a", "bad": "true", "spam": "1"},
        {"post": "b", "bad": "no", "spam": ""},
        {"post": "c", "bad": "0", "spam": "1"},
    ]
    path = write(rows, "own.csv")
    alone = read(texts.labelled_texts, path, text="post", verdict="bad")
    assert alone.verdicts == {"a": True, "b": False, "c": False}
    both = read(texts.labelled_texts, path, text="post", verdict="bad", labels=["spam"], group=["bad"])
    assert both.codes == {"contradiction": 1}
    assert [pair.meta["group"] for pair in both.pairs] == [{"bad": "true"}, {"bad": "no"}]


def test_own_needs_labels(read: Read, write: Write) -> None:
    """Without a column of labels nothing is labelled, which is told at once; a column that is not there is told by row."""
    path = write([{"text": "a", "spam": 1}])
    with pytest.raises(ConfigError, match="labels"):
        read(texts.labelled_texts, path)
    assert read(texts.labelled_texts, path, labels=["insult"]).codes == {"label-missing": 1}


def test_no_file(read: Read) -> None:
    """A file that is not there is an error, not an empty set."""
    with pytest.raises(DataError):
        read(texts.hatecheck, "nowhere/hatecheck.csv")


def test_unknown_taxonomy(read: Read, write: Write) -> None:
    """A taxonomy that nobody knows is told with the nearest name."""
    with pytest.raises(ConfigError, match="openai"):
        read(texts.openai_moderation, write([judged("a")]), taxonomy="opnai")


@given(st.text(), st.text())
def test_part_of_any_text(text: str, mark: str) -> None:
    """The part follows from the wording: case, blanks around and invisible marks do not change it."""
    plain = Record("1", text, None, {}, "f")
    assert part_of(plain) == part_of(Record("2", f" {text}\u200b\n", True, {"S": True}, "g")) in ("train", "validation", "test")
    assert part_of(Record("3", text, None, {}, "f", kin=mark)) == part_of(Record("4", mark or text, None, {}, "f"))


def test_keys_are_checked() -> None:
    """A recipe's keys are known by name and type: those of the data set and those that all of them share."""
    annotations = exchanges.aegis.__annotations__
    assert {"path", "side", "caution", "form", "answer", "taxonomy", "part", "order", "balance", "max_chars"} <= annotations.keys()
