"""Pairs made of a labelled text: the right judgement over a wrong one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from dpoframe_moderation.forms import Asking
from dpoframe_moderation.record import Record
from dpoframe_moderation.taxonomy import Taxonomy, taxonomy
from dpoframe_moderation.verdicts import parse
from hypothesis import given
from hypothesis import strategies as st

from dpoframe import PreferencePair, as_text

OPENAI = taxonomy("openai")
HATEFUL = Record("r1", "They are vermin.", True, {"H": True, "V": False}, "posts.jsonl", 3, {"author": "a"})
HARMLESS = Record("r2", "The bus is late.", False, dict.fromkeys(OPENAI.categories, False), "posts.jsonl", 4)
UNKNOWN = Record("r3", "My neighbour sings.", None, {"V": False}, "posts.jsonl", 5)


def pairs(record: Record, own: Taxonomy = OPENAI, **asked: Any) -> list[PreferencePair]:
    """All pairs of a record."""
    return list(Asking(own, **asked).pairs(record))


def answers(record: Record, own: Taxonomy = OPENAI, **asked: Any) -> list[tuple[object, object]]:
    """Chosen and rejected of each pair."""
    return [(pair.chosen, pair.rejected) for pair in pairs(record, own, **asked)]


def test_verdict() -> None:
    """The right verdict is preferred to the other; where the verdict is unknown there is no pair."""
    assert answers(HATEFUL) == [("unsafe", "safe")]
    assert answers(HARMLESS) == [("safe", "unsafe")]
    assert answers(UNKNOWN) == []


def test_categories() -> None:
    """The right verdict with its categories over the other verdict, and over categories that are known not to apply."""
    assert answers(HATEFUL, answer="categories") == [("unsafe\nhate", "safe"), ("unsafe\nhate", "unsafe\nviolence")]
    ((chosen, rejected),) = answers(HARMLESS, answer="categories")
    assert chosen == "safe"
    assert len(parse(str(rejected), OPENAI).categories) == 1


def test_unknown_categories_are_never_wrong() -> None:
    """A category that nobody judged is not put forward as a wrong one."""
    alone = Record("r", "They are vermin.", True, {"H": True}, "posts.jsonl")
    assert answers(alone, answer="categories") == [("unsafe\nhate", "safe")]


def test_each() -> None:
    """One question for the verdict and one for each known category, which names that category alone."""
    found = pairs(HATEFUL, answer="each")
    assert [(pair.meta["category"], pair.meta["positive"], pair.chosen, pair.rejected) for pair in found] == [
        ("overall", True, "unsafe", "safe"),
        ("H", True, "unsafe", "safe"),
        ("V", False, "safe", "unsafe"),
    ]
    assert "contains violence." in as_text(found[2].prompt)
    assert "hate" not in as_text(found[2].prompt)
    assert [pair.meta["category"] for pair in pairs(UNKNOWN, answer="each")] == ["V"]


def test_label() -> None:
    """A classifier sees the text alone: a label over its denial or the other way round, what is unknown left out."""
    assert answers(HATEFUL, form="label") == [("hate", "not hate"), ("not violence", "violence"), ("unsafe", "not unsafe")]
    assert {pair.prompt for pair in pairs(HATEFUL, form="label")} == {HATEFUL.text}
    assert answers(UNKNOWN, form="label") == [("not violence", "violence")]


def test_class() -> None:
    """One label of several that exclude each other: the right one over each of the others, `safe` for none."""
    own = taxonomy("davidson")
    hate = Record("r", "x", True, {"hate": True, "offensive": False}, "tweets.csv")
    neither = Record("r", "x", False, {"hate": False, "offensive": False}, "tweets.csv")
    assert answers(hate, own, form="class") == [("hate", "safe"), ("hate", "offensive language")]
    assert answers(neither, own, form="class") == [("safe", "hate"), ("safe", "offensive language")]
    assert pairs(HATEFUL, own, form="class") == []


def test_meta() -> None:
    """What evaluators read is in `meta`, which a file of JSON can hold."""
    (pair,) = pairs(HATEFUL)
    found = json.loads(json.dumps(pair.meta))
    assert found["text"] == HATEFUL.text
    assert (found["unsafe"], found["labels"], found["category"], found["positive"]) == (
        True,
        {"H": True, "V": False},
        "overall",
        True,
    )
    assert (found["group"], found["origin"], found["row"], found["taxonomy"]) == ({"author": "a"}, "posts.jsonl", 3, "openai")


@pytest.mark.parametrize("answer", ["verdict", "each"])
def test_scores_see_nothing_of_the_truth(answer: str) -> None:
    """Pairs that give scores have the same two answers, whatever the truth: only which of them is chosen depends on it."""
    for record in (HATEFUL, HARMLESS):
        for pair in pairs(record, answer=answer):
            assert {pair.chosen, pair.rejected} == {"safe", "unsafe"}
            assert (pair.chosen == "unsafe") == pair.meta["positive"]
            assert pair.meta["wrong"] == "verdict"
    assert all(pair.meta["wrong"] != "verdict" for pair in pairs(HATEFUL, answer="categories"))


@given(st.text(min_size=1), st.booleans(), st.dictionaries(st.sampled_from([*OPENAI.categories]), st.booleans()))
def test_any_record(text: str, unsafe: bool, labels: dict[str, bool]) -> None:
    """Whatever the text and labels: answers differ, ids differ, chosen answers parse to the truth and hold known labels alone."""
    record = Record("r", text, unsafe, labels if unsafe else dict.fromkeys(labels, False), "posts.jsonl")
    for answer in ("verdict", "categories", "each"):
        found = pairs(record, answer=answer)
        assert len({pair.id for pair in found}) == len(found)
        for pair in found:
            assert pair.chosen != pair.rejected
            said = parse(str(pair.chosen), OPENAI)
            assert (said.verdict == "unsafe") == pair.meta["positive"]
            assert all(record.labels[key] for key in said.categories)


def test_text_with_braces() -> None:
    """A text that looks like a template is shown as it stands."""
    strange = Record("r", "{text} {categories} {{}} %s", False, {}, "posts.jsonl")
    assert "{text} {categories} {{}} %s" in as_text(pairs(strange)[0].prompt)
