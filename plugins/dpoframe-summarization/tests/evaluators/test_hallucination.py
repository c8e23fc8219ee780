"""Numbers and names that a source lacks: known answers, agreement with people, and text of every kind."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from dpoframe_summarization.evaluators.example import EXAMPLES
from dpoframe_summarization.evaluators.hallucination import Hallucination, names_of, numbers_of
from dpoframe_summarization.evaluators.names import names
from dpoframe_summarization.evaluators.number_words import spelled
from dpoframe_summarization.evaluators.quantities import quantities
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from dpoframe import Sample, UnscoredError
from dpoframe.testing import EvaluatorContract


class TestContract(EvaluatorContract):
    """The contract of hallucination."""

    evaluator = Hallucination()
    samples = EXAMPLES


class TestNumbersContract(EvaluatorContract):
    """The contract of hallucination on numbers alone."""

    evaluator = Hallucination(names=False)
    samples = EXAMPLES


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,000", "1000"),
        ("two", "2"),
        ("twenty-one", "21"),
        ("two hundred and five thousand", "205,000"),
        ("eighty-five hundred", "8500"),
        ("a dozen", "12"),
        ("5%", "5 percent"),
        ("5 per cent", "5 pct"),
        ("3rd", "third"),
        ("twenty-first", "21st"),
        ("1.5m", "1.5 million"),
        ("$1.5 m", "1,500,000 dollars"),
        ("£200million", "200 million pounds"),
        ("2bn", "two billion"),
        ("1.000.000", "1000000"),
        ("3,5", "3.5"),
        ("1½", "1.5"),
        ("٣٤", "34"),
        ("२०", "20"),
        ("２０", "20"),  # noqa: RUF001 - full-width digits
        ("3万", "30,000"),
        ("12\u00a0000", "12000"),
        ("1970s", "1970"),
        ("7minutes", "7 minutes"),
        ("2\u200b5", "25"),
    ],
)
def test_equal_numbers(one: str, other: str) -> None:
    """A number is the same however it is written, whichever side writes it so."""
    assert numbers_of(f"There were {one} .", f"There were {other} .")[1] == []
    assert numbers_of(f"There were {other} .", f"There were {one} .")[1] == []
    assert len(numbers_of("There were none.", f"There were {one} .")[1]) == 1


@pytest.mark.parametrize(
    ("source", "summary"),
    [
        ("1000 people", "10,000 people"),
        ("5 people", "5 percent"),
        ("$5", "£5"),
        ("2014", "2015"),
        ("It was 1999", "It was 2000"),
        ("1.24 million", "1.3 million"),
        ("between 5 and 10 people", "5-10%"),
        ("0-0", "1-0"),
        ("twenty one", "twenty two"),
        ("M11 and iPhone6", "11"),
    ],
)
def test_other_numbers(source: str, summary: str) -> None:
    """Another value, another kind, another currency, a digit in a name: the source does not say it."""
    assert numbers_of(source, summary)[1] != []


@pytest.mark.parametrize(
    ("source", "summary"),
    [("1,187,432", "1.2 million"), ("12,345", "12,300"), ("£1.94m", "£1.9m"), ("between 5 and 10%", "5%"), ("5%", "5")],
)
def test_rounded_numbers(source: str, summary: str) -> None:
    """What rounds to the number of the summary holds it; a range gives its kind to both ends."""
    assert numbers_of(source, summary)[1] == []


def test_words_that_state_no_number() -> None:
    """`one of`, `for the first time` and `a second` are no claims, yet a source that says one has a 1."""
    assert numbers_of("Nothing.", "One of them won for the first time, a second later.") == ([], [])
    assert numbers_of("One goal.", "1 goal.")[1] == []


@given(st.integers(0, 10**12))
def test_digits_read_back(value: int) -> None:
    """Any whole number is read from its digits, with and without groups."""
    for text in (str(value), f"{value:,}", f"about {value:,}."):
        (found,) = quantities(text)
        assert Fraction(value) in found.values


UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
UNITS += " seventeen eighteen nineteen"
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"


def in_words(value: int) -> str:
    """English for a number below a million, by the school's rule."""
    if value < 20:
        return UNITS.split()[value]
    if value < 100:
        rest = f"-{in_words(value % 10)}" if value % 10 else ""
        return TENS.split()[value // 10 - 2] + rest
    size, name = (100, "hundred") if value < 1000 else (1000, "thousand")
    rest = f" and {in_words(value % size)}" if value % size else ""
    return f"{in_words(value // size)} {name}{rest}"


@given(st.integers(0, 999_999))
def test_words_read_back(value: int) -> None:
    """Any number below a million is read from its words."""
    assert [one.value for one in spelled(f"They counted {in_words(value)} sheep.")] == [value]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Yesterday Paul Merson met Bank of England staff.", ["Paul Merson", "Bank of England"]),
        ("The mayor of Newcastle-upon-Tyne spoke.", ["Newcastle-upon-Tyne"]),
        ("Critics said Leeds's mayor and O'Brien's wife left.", ["Leeds", "O'Brien"]),
        ("NASA said so. Critics of NASA agree.", ["NASA", "NASA"]),
        ("Berg won. Later Berg lost.", ["Berg", "Berg"]),
        ("Holidays are nice. I think Mr Smith knows.", ["Smith"]),
        ('He said: "The dog" and "Nobody".', []),
        ("- Bullets too\n- Lists begin so", []),
        ("TEN THINGS YOU MUST KNOW TODAY", []),
        ("How To Make Summaries Great", []),
        ("Вчера Анна Петрова уехала в Москву.", ["Анна Петрова", "Москву"]),
        ("Χθες η Μαρία έφυγε.", ["Μαρία"]),
        ("all in lower case, andros townsend", []),
        ("今天很好。", []),
        ("", []),
    ],
)
def test_names(text: str, found: list[str]) -> None:
    """Runs of capitals count, and what is capitalised anyway does not."""
    assert [one.text for one in names(text)] == found


@pytest.mark.parametrize(
    ("source", "summary"),
    [
        ("paul merson spoke", "We saw Paul Merson."),
        ("José Peña spoke", "We saw Jose Pena."),
        ("The United States and the European Union", "We saw the US, the U.S. and the EU."),
        ("The U.S. and the UN", "We saw the United States and the United Nations."),
        ("the Bank of England", "We saw BoE."),
        ("a visit to Iran and Germany", "The Iranian met a German."),
        ("the anti-Trump rally", "We saw Trump."),
        ("Leeds' council", "The Leeds council."),
        ("O\u2019Brien spoke", "We saw O'Brien."),
        ("the STRASSE", "In der Straße."),
    ],
)
def test_known_names(source: str, summary: str) -> None:
    """Case, accents, possessives, hyphens, acronyms and endings of peoples make no other name."""
    assert [one.text for one in names_of(source, summary)[1]] == []


@pytest.mark.parametrize(
    ("source", "summary", "wrong"),
    [
        ("Anna Berg spoke", "Then Anna Smith spoke.", ["Anna Smith"]),
        ("Anna Berg spoke", "It was in York.", ["York"]),
        ("it is on us", "We saw Ian Thomas and the US.", ["Ian Thomas"]),
        ("the European Union", "We saw the UN.", ["UN"]),
        ("Johnson spoke", "It was Johnston.", ["Johnston"]),
    ],
)
def test_unknown_names(source: str, summary: str, wrong: list[str]) -> None:
    """A name with a word that the source lacks is told whole."""
    assert [one.text for one in names_of(source, summary)[1]] == wrong


def test_figures(summary: Callable[..., Sample]) -> None:
    """Counts, shares of all mentions, and whether there is any: by hand."""
    source = "In 2014 Anna Berg of Leeds sold 20 cars."
    found = Hallucination().score(summary("Then Anna Berg of York sold 20 cars and 3 bikes in Leeds in 2015.", source=source))
    assert found == {
        "hallucinated": 1.0,
        "hallucinated_numbers": 2.0,  # 3, 2015
        "number_share": 2 / 3,
        "hallucinated_names": 1.0,  # Anna Berg of York
        "name_share": 1 / 2,
    }
    assert Hallucination().score(summary("Cars were sold.", source=source)) == {
        "hallucinated": 0.0, "hallucinated_numbers": 0.0, "hallucinated_names": 0.0,
    }  # fmt: skip
    assert Hallucination(names=False).score(summary("In York.", source=source)) == {"hallucinated": 0, "hallucinated_numbers": 0}
    assert Hallucination(names=False).spec.id == "hallucination:numbers"
    assert set(Hallucination(numbers=False).spec.metrics) == {"hallucinated", "hallucinated_names", "name_share"}


def test_scripts_without_capitals(summary: Callable[..., Sample]) -> None:
    """No names can be told there, so there is no figure of names; numbers count."""
    found = Hallucination().score(summary("3只猫", source="2只猫"))
    assert found == {"hallucinated": 1.0, "hallucinated_numbers": 1.0, "number_share": 1.0}


def test_what_cannot_be_scored(summary: Callable[..., Sample]) -> None:
    """An empty summary claims nothing and is not the best of all; a source is needed; something must be counted."""
    assert Hallucination().score(summary(" \n\u200b", source="text")) is None
    with pytest.raises(UnscoredError, match="source"):
        Hallucination().score(summary("text", source=""))
    with pytest.raises(ValidationError):
        TypeAdapter(Hallucination).validate_python({"numbers": False, "names": False})


@given(st.text(max_size=60), st.text(alphabet="0123456789.,%-\u00bd\u0663 mkbn$\u00a3AaBb'\n", max_size=60))
def test_any_text(one: str, other: str) -> None:
    """No text breaks it, and no text lacks its own numbers and names."""
    for text in (one, other, one + other):
        assert numbers_of(text, text)[1] == []
        assert names_of(text, text)[1] == []


def test_agreement_with_people(summeval: list[dict[str, Any]]) -> None:
    """Of SummEval's 1,600 rated summaries few are told, and those are the ones that people found inconsistent.

    Consistency is the mean of three experts, 1 to 5. Measured: 35 told, rated 2.71 on average against 4.70; 26 of them below 4,
    which 161 of all are; rank correlation of the count with inconsistency .27; area under the curve for "below 4" .58.
    """
    rated = [(one["consistency"], row["source"], one["summary"]) for row in summeval for one in row["outputs"]]
    score = Hallucination().score
    found = [(rating, score(Sample("s", "q", text, meta={"source": source})) or {}) for rating, source, text in rated]
    told = [rating for rating, one in found if one["hallucinated"]]
    clean = [rating for rating, one in found if not one["hallucinated"]]
    counts = [one["hallucinated_numbers"] + one["hallucinated_names"] for _, one in found]
    assert 20 < len(told) < 60
    assert statistics.fmean(told) < 3.0 < 4.6 < statistics.fmean(clean)
    assert sum(rating < 4 for rating in told) / len(told) > 0.65
    assert spearmanr(counts, [-rating for rating, _ in found])[0] > 0.22
    assert roc_auc_score([rating < 4 for rating, _ in found], counts) > 0.55


def test_long_sources_are_quick(summary: Callable[..., Sample]) -> None:
    """A source of 400,000 characters takes seconds, digits without end too."""
    source = "In 2014 Anna Berg of Leeds sold 20 cars. " * 10_000
    assert Hallucination().score(summary("Berg sold 20 cars.", source=source)) is not None
    repeated = Hallucination().score(summary("twenty " * 3000, source=source))
    assert repeated is not None
    assert (repeated["hallucinated_numbers"], repeated["number_share"]) == (0, 0)
    for endless in ("9" * 50_000, "1" + ".000" * 20_000, "9" * 50_000 + "\u00bd"):
        assert Hallucination().score(summary(endless, source="1," * 50_000)) is not None
        assert numbers_of(endless, endless)[1] == []
