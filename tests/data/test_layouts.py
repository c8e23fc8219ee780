"""Every published layout becomes the same kind of pair, detected or named."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpoframe import DataError, Media, PreferencePair, RefusedRow
from dpoframe.data.detection import detect, to_pairs
from dpoframe.data.layouts import LAYOUTS
from dpoframe.data.rows import RawRow

U, A, S = ({"role": role} for role in ("user", "assistant", "system"))
ASK, YES, NO = {**U, "content": "Is it?"}, {**A, "content": "Yes, it is."}, {**A, "content": "No."}
HH = "\n\nHuman: Is it?\n\nAssistant: What?\n\nHuman: It.\n\nAssistant:"
PKU = {
    "prompt": "Is it?",
    "response_0": "Yes, it is.",
    "response_1": "No.",
    "is_response_0_safe": True,
    "is_response_1_safe": False,
}
BOTH = {"better_response_id": 1, "safer_response_id": 0}
SUMMARIES = [{"text": "Yes, it is.", "policy": "ref"}, {"text": "No.", "policy": "sup1"}]

EXAMPLES = {
    "plain": ({"prompt": "Is it?", "chosen": "Yes, it is.", "rejected": "No."}, "Is it?", "Yes, it is.", "No."),
    "media": ({"prompt": "Is it?", "chosen": {"media": "image", "path": "test_layouts.py"},
               "rejected": {"media": "image", "path": "conftest.py"}}, "Is it?",
              Media("image", path=Path(__file__)), Media("image", path=Path(__file__).parent / "conftest.py")),
    "chat": ({"prompt": [ASK], "chosen": [YES], "rejected": [NO]}, [ASK], [YES], [NO]),
    "ultrafeedback": ({"prompt": "Is it?", "chosen": [ASK, YES], "rejected": [ASK, NO], "score_chosen": 8.5, "score_rejected": 2.0},
                      [ASK], [YES], [NO]),
    "implicit": ({"chosen": "Is it? Yes, it is.", "rejected": "Is it? No."}, "Is it?", " Yes, it is.", " No."),
    "implicit_chat": ({"chosen": [ASK, YES], "rejected": [ASK, NO]}, [ASK], [YES], [NO]),
    "hh": ({"chosen": HH + " Yes, it is.", "rejected": HH + " No."},
           [ASK, {**A, "content": "What?"}, {**U, "content": "It."}], [YES], [NO]),
    "hh_text": ({"chosen": HH + " Yes, it is.", "rejected": HH + " No."}, HH, " Yes, it is.", " No."),
    "sharegpt": ({"conversations": [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "Is it?"}],
                  "chosen": {"from": "gpt", "value": "Yes, it is."}, "rejected": {"from": "gpt", "value": "No."}},
                 [{**S, "content": "Be kind."}, ASK], [YES], [NO]),
    "alpaca": ({"instruction": "Is it?", "input": "It.", "chosen": "Yes, it is.", "rejected": "No."},
               [{**U, "content": "Is it?\nIt."}], [YES], [NO]),
    "question": ({"system": "Be kind.", "question": "Is it?", "chosen": "Yes, it is.", "rejected": "No."},
                 [{**S, "content": "Be kind."}, ASK], [YES], [NO]),
    "openai_comparisons": ({"info": {"post": "Is it?", "title": "It", "subreddit": "it"}, "summaries": SUMMARIES, "choice": 0},
                           "SUBREDDIT: r/it\nTITLE: It\nPOST: Is it?\nTL;DR:", "Yes, it is.", "No."),
    "pku_better": ({**PKU, "better_response_id": 0}, "Is it?", "Yes, it is.", "No."),
    "pku_safer": ({**PKU, "safer_response_id": 1}, "Is it?", "No.", "Yes, it is."),
    "code_pairs": ({"input": "Is it?", "accepted": "Yes, it is.", "rejected": "No."}, "Is it?", "Yes, it is.", "No."),
}  # fmt: skip


def pairs_of(row, layout="auto", columns=None, source="test"):
    """Pairs of a single row."""
    return list(to_pairs([RawRow(source, 1, row)], layout, columns))


def test_every_layout_has_an_example():
    """The table above covers each layout."""
    assert set(EXAMPLES) == set(LAYOUTS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_parts(name):
    """A named layout finds prompt, chosen and rejected."""
    row, *expected = EXAMPLES[name]
    (pair,) = pairs_of(row, name, source=__file__)
    assert [pair.prompt, pair.chosen, pair.rejected] == expected


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "hh_text"])
def test_detection(name):
    """The layout of each example is told from its row; `hh_text` shares its columns with `hh`, which is taken."""
    assert detect([EXAMPLES[name][0]]).name == name


def test_meta():
    """Scores, sources, safety and the place of the row are kept."""
    (first,) = pairs_of(EXAMPLES["ultrafeedback"][0])
    assert first.meta == {"score_chosen": 8.5, "score_rejected": 2.0, "origin": "test", "row": 1}
    (second,) = pairs_of(EXAMPLES["openai_comparisons"][0])
    assert (second.meta["chosen_source"], second.meta["rejected_source"]) == ("ref", "sup1")
    (third,) = pairs_of(EXAMPLES["pku_safer"][0])
    assert (third.meta["chosen_safe"], third.meta["rejected_safe"]) == (False, True)


def test_two_layouts_fit():
    """PKU-SafeRLHF has two preferences a row: which one is meant must be said."""
    with pytest.raises(DataError, match=r"fit 2 layouts.*layout: pku_better.*layout: pku_safer"):
        pairs_of({**PKU, **BOTH})
    assert pairs_of({**PKU, **BOTH}, "pku_better")[0].chosen == "No."
    assert pairs_of({**PKU, **BOTH}, "pku_safer")[0].chosen == "Yes, it is."


def test_unknown_layout():
    """The message shows the columns found, every layout with its columns, and how to map."""
    with pytest.raises(DataError) as caught:
        pairs_of({"question_text": "a", "good": "b", "bad": "c"})
    message = str(caught.value)
    assert "question_text (str), good (str), bad (str)" in message
    assert all(f"  {name}: {', '.join(layout.needs)}" in message for name, layout in LAYOUTS.items())
    assert "columns: {prompt: question" in message


def test_columns():
    """Columns are mapped by name, into nested objects too, and the file's own columns of these names give way."""
    row = {"q": {"text": "Is it?"}, "good": "Yes.", "bad": "No.", "prompt": 7}
    (pair,) = pairs_of(row, columns={"prompt": "q.text", "chosen": "good", "rejected": "bad"})
    assert (pair.prompt, pair.chosen, pair.rejected) == ("Is it?", "Yes.", "No.")


@pytest.mark.parametrize(
    ("layout", "columns", "match"),
    [
        ("ultrafedback", None, "Did you mean 'ultrafeedback'"),
        ("auto", {"promt": "q"}, "Did you mean 'prompt'"),
        ("auto", {"prompt": "promp"}, "Did you mean 'prompt'.*Columns found: prompt, chosen, rejected"),
        ("pku_safer", None, "not found: response_0, response_1, safer_response_id"),
    ],
)
def test_wrong_names(layout, columns, match):
    """A layout or a column that does not exist is one error with the nearest name and what is there."""
    with pytest.raises(DataError, match=match):
        pairs_of(EXAMPLES["plain"][0], layout, columns)


def test_article():
    """OpenAI's news comparisons have an article in place of a post."""
    (pair,) = pairs_of({"info": {"article": "News."}, "summaries": SUMMARIES, "choice": 1})
    assert (pair.prompt, pair.chosen) == ("Article: News.\n\nTL;DR:", "No.")


def test_ultrafeedback_without_prompt_turn():
    """Where the dialogues hold the answers alone, the prompt comes from its column."""
    (pair,) = pairs_of({"prompt": "Is it?", "chosen": [YES], "rejected": [NO]})
    assert (pair.prompt, pair.chosen) == ([ASK], [YES])


def test_rows_that_differ_from_the_first():
    """Detection looks at the first rows; a later row of another shape is refused with its number, not misread."""
    rows = [RawRow("f", 1, EXAMPLES["plain"][0]), RawRow("f", 2, EXAMPLES["chat"][0]), RawRow("f", 3, EXAMPLES["plain"][0])]
    first, second, third = to_pairs(rows)
    assert isinstance(first, PreferencePair)
    assert isinstance(second, RefusedRow)
    assert (second.row, second.code) == (2, "wrong-type")
    assert isinstance(third, PreferencePair)


def test_weight():
    """A weight column weighs the pair."""
    (pair,) = pairs_of({**EXAMPLES["plain"][0], "weight": 0.25})
    assert pair.weight == 0.25
