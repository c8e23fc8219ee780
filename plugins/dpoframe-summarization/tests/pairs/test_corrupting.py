"""Corruptions: one known place changes, nothing else does."""

from __future__ import annotations

import random

import pytest
from dpoframe_summarization.pairs.corrupting import corruptions
from dpoframe_summarization.pairs.names import found_in, names_in, swapped
from dpoframe_summarization.pairs.negation import negated
from dpoframe_summarization.pairs.numbers import numbers_in, with_another
from hypothesis import given
from hypothesis import strategies as st

SOURCE = (
    "The ferry Marianne was back on Tuesday after 12 days in Oldport. Harbour master Ines Walder said the 8 cranes cost"
    " 340,000 euros. The Bank of Lorn paid in 2019. Mayor Tom Pell asked for a 3rd ship by 2027, up 2.5 % from 1.5 %."
)
SUMMARY = "Ines Walder said that the ferry was repaired in 12 days for 340,000 euros."


def draw(seed: int = 0) -> random.Random:
    """A source of draws."""
    return random.Random(seed)


def test_names() -> None:
    """Names are runs of capitals, with small words inside; days, pronouns and words at a sentence's beginning are none."""
    assert names_in(SOURCE) == ["Marianne", "Oldport", "Ines Walder", "Bank of Lorn", "Mayor Tom Pell"]
    assert "Tuesday" not in names_in(SOURCE)
    assert names_in("Fine weather came. Rain went.") == []
    assert names_in("渡轮今天回来了") == []


def test_names_in_a_summary() -> None:
    """A name is found in any case, the longer before the shorter, and never inside a word."""
    assert found_in("paul merson and Merson", ["Merson", "Paul Merson"]) == ["Paul Merson", "Merson"]
    assert found_in("Annapolis", ["Anna"]) == []
    assert swapped("tom met Tom. Tomorrow", "Tom", "Ann Lee") == "ann lee met Ann Lee. Tomorrow"


def test_entity() -> None:
    """Another name of the article stands in the place of one, and the rest is as it was."""
    (made,) = corruptions(SUMMARY, SOURCE, ["entity"], 3, 0)
    assert (made.kind, made.text) == ("entity", SUMMARY.replace(made.before, made.after))
    assert made.after in SOURCE
    assert not set(made.before.lower().split()) & set(made.after.lower().split())


@pytest.mark.parametrize(
    ("summary", "source", "expected"),
    [
        ("It took 12 days.", "12 days, 15 men.", "15"),
        ("In 2019 it sank.", "In 2019, and 1234 of 2027.", "2027"),
        ("The 3rd ship.", "The 3rd of 4 and the 22nd.", "22nd"),
        ("It cost 340,000 euros.", "340,000 or 120,000, not 12.", "120,000"),
        ("It grew 2.5 %.", "2.5 % from 1.5 % of 7.", "1.5"),
    ],
)
def test_number_of_the_same_shape(summary: str, source: str, expected: str) -> None:
    """A number becomes another one of the article of the same shape: a year a year, an ordinal an ordinal."""
    made = with_another(summary, source, draw())
    assert made is not None
    assert made[2] == expected


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_made_number_is_wrong(value: int, seed: int) -> None:
    """Where the article has no other number, one is made that is another, above 0, and written the same way."""
    text = f"There were {value:,} of them."
    made = with_another(text, text, draw(seed))
    assert made is not None
    before, after = made[1], made[2]
    assert int(before.replace(",", "")) == value != int(after.replace(",", ""))
    assert int(after.replace(",", "")) > 0
    assert ("," in after) == ("," in before and int(after.replace(",", "")) >= 1000)
    assert made[0] == text.replace(f" {before} ", f" {after} ", 1)


def test_ordinals_get_their_ending() -> None:
    """A made ordinal has the ending that English gives it."""
    endings = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 11: "th", 12: "th", 13: "th"}
    for seed in range(60):
        made = with_another("The 12th.", "The 12th.", draw(seed))
        assert made is not None
        number, ending = int(made[2][:-2]), made[2][-2:]
        assert ending == endings.get(number, "th" if number < 21 or number % 10 not in (1, 2, 3) else ending)


def test_numbers_are_whole() -> None:
    """Numbers with commas, decimals and endings are one number; digits inside words and names are none."""
    found = [one.text for one in numbers_in("1,200 in 2019, 2.5 % and 3rd, B52, v1.2.3")]
    assert found[:4] == ["1,200", "2019", "2.5", "3rd"]
    assert "52" not in found


def test_numbers_without_end() -> None:
    """A row of digits that is no number, such as a key of 400 digits, is left alone, and the text's other numbers are not."""
    key = "9" * 400
    assert with_another(f"Its key is {key}.", key, draw()) is None
    made = with_another(f"Its key is {key}, it cost 340 euros.", f"{key} and 120.", draw())
    assert made is not None
    assert made[1:] == ("340", "120")


def test_number_words() -> None:
    """A number in words becomes another word, with its capital."""
    made = with_another("Two men met.", "Two men met three women.", draw())
    assert made is not None
    assert made[1] == "Two"
    assert made[2] not in ("Two", "Three")
    assert made[2][0].isupper()
    assert with_another("No number.", "None.", draw()) is None


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("He is here.", "He is not here."),
        ("He is not here.", "He is here."),
        ("He didn't go.", "He did go."),
        ("He did n't go.", "He did go."),
        ("He won't go.", "He will go."),
        ("He cannot go.", "He can go."),
        ("They had been seen.", "They had not been seen."),
        ("He never went.", "He went."),
    ],
)
def test_negation(summary: str, expected: str) -> None:
    """A denial loses its "not", a statement gets one."""
    made = negated(summary, draw())
    assert made is not None
    assert made[0] == expected


def test_negation_where_there_is_none() -> None:
    """A sentence without an auxiliary verb, and one in another language, is left alone."""
    assert negated("He went home.", draw()) is None
    assert negated("Er ging nach Hause.", draw()) is None


def test_same_seed_same_corruptions() -> None:
    """The same seed draws the same, each kind occurs once at most, and seeds vary what is drawn."""
    kinds = ("entity", "number", "negation")
    made = [corruptions(SUMMARY, SOURCE, kinds, 3, seed) for seed in range(20)]
    assert made == [corruptions(SUMMARY, SOURCE, kinds, 3, seed) for seed in range(20)]
    assert all(sorted(one.kind for one in each) == sorted(kinds) for each in made)
    assert len({each[0].kind for each in made}) > 1
    assert all(len(corruptions(SUMMARY, SOURCE, kinds, 1, seed)) == 1 for seed in range(5))


@given(st.text(max_size=120), st.text(max_size=200))
def test_any_text(summary: str, source: str) -> None:
    """No text raises anything, and a corruption is never the summary itself."""
    assert all(one.text != summary for one in corruptions(summary, source, ("entity", "number", "negation"), 3, 0))
