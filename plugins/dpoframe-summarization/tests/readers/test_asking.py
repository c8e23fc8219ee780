"""How an article becomes a prompt: what is cut, cleaned and tidied, and on which side of the division it falls."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from dpoframe_summarization.articles import beginning, count, part_of
from dpoframe_summarization.articles.article import Article, Summary
from dpoframe_summarization.articles.cleaning import clean, lead
from dpoframe_summarization.articles.tidying import joined, tidy
from dpoframe_summarization.readers.documents import XSum
from dpoframe_summarization.readers.summeval import SummEval
from hypothesis import given, settings
from hypothesis import strategies as st

from dpoframe import as_text

Written = Callable[..., str]
Divided = Callable[[Any], Any]


@given(st.text(max_size=200), st.integers(1, 60))
def test_beginning_is_a_beginning(text: str, words: int) -> None:
    """Of any text the beginning is a prefix with as many words as asked for, or the whole text where it has fewer."""
    cut = beginning(text, words)
    assert text.startswith(cut)
    assert count(cut) == min(words, count(text))


def test_words_without_spaces() -> None:
    """English words are those between spaces; Chinese, Japanese and Thai characters count one by one."""
    assert count("two words") == 2
    assert beginning("one  two\nthree", 2) == "one  two"
    assert (count("小船回来了。"), beginning("小船回来了。", 3)) == (6, "小船回")
    assert count("フェリー is back") == 6
    assert beginning("เรือกลับ", 2) == "เร"


def test_instruction_survives(written: Written, divided: Divided) -> None:
    """However long the article, the instruction is whole, the article keeps its beginning, and what was cut is counted."""
    source = " ".join(f"w{n}" for n in range(5000))
    path = written({"document": source, "summary": "It is not short.", "id": "a"})
    template = "Say it {briefly}.\n\n{source}\n\nSummary:"
    (pair,) = divided(XSum(path=path, max_source_words=3, instruction=template, form="text"))[0]
    assert pair.prompt == "Say it {briefly}.\n\nw0 w1 w2\n\nSummary:"
    assert (pair.meta["source_cut"], pair.meta["source"]) == (4997, source)
    (pair,) = divided(XSum(path=path))[0]
    assert isinstance(pair.prompt, list)
    assert pair.prompt[0]["role"] == "user"
    assert "source_cut" not in pair.meta


def test_unseen_characters_are_taken_out_and_counted(written: Written, divided: Divided) -> None:
    """Control and zero-width characters go and are counted; joiners that scripts spell with stay."""
    assert clean("a\u200bb\x07c\u202ed \tx", "source").text == "ab cd x"
    assert clean("a\u200bb\x07c\u202ed", "source").removed == 3
    assert clean("\u0645\u06cc\u200c\u062e", "source").text == "\u0645\u06cc\u200c\u062e"
    (pair,) = divided(XSum(path=written({"document": "It\u200b was\x01 late.", "summary": "It was\ufeff late.", "id": "a"})))[0]
    assert (pair.meta["removed_characters"], pair.meta["source"], pair.chosen) == (3, "It was late.", "It was late.")


def test_languages_without_spaces_or_capitals(written: Written, divided: Divided) -> None:
    """A Chinese article is read and cut; nothing in its summary can be corrupted without numbers, which is told."""
    row = {"document": "渡轮今天回来了。修理花费很多。", "summary": "渡轮回来了。", "id": "a"}
    pairs, refused = divided(XSum(path=written(row), max_source_words=4))
    assert (pairs, [one.code for one in refused]) == ([], ["nothing-to-corrupt"])
    (pair,) = divided(XSum(path=written({**row, "summary": "渡轮停了 12 天。"}), max_source_words=4))[0]
    assert (pair.meta["corruption"], as_text(pair.prompt).endswith("渡轮今天")) == ("number", True)


@pytest.mark.parametrize(
    ("source", "beginning"),
    [
        ("One. Two!\n\nThree? Four.", "One. Two!"),
        ("渡轮回来了。修理花费很多\uff01人们很高兴。", "渡轮回来了。修理花费很多\uff01"),
        ("「船が戻った。」修理は 1.5 日。乗客は喜んだ。", "「船が戻った。」修理は 1.5 日。"),
        ("เรือกลับมาแล้ว", "เรือกลับมาแล้ว"),
        ("Only one", "Only one"),
    ],
)
def test_lead(source: str, beginning: str, written: Written, divided: Divided) -> None:
    """The first two sentences stand against the summary, also in scripts that put no space between sentences."""
    assert lead(source, 2) == beginning
    row = {"document": source, "summary": "It is another.", "id": "a"}
    (pair,) = divided(XSum(path=written(row), pairs="lead", lead_sentences=2))[0]
    assert pair.rejected == beginning


@settings(deadline=None)  # the first text waits for nltk
@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes the whole way from a row to a pair raise anything."""
    article = Article("a", text or "x", (text or "x",), (Summary(text, {"r": 1.0}),))
    tidy(article)
    made = XSum(path="hub:a/b", tidy=True)
    list(made.pairs_of(article))


def test_tidying() -> None:
    """Tokens come together; a word gets the capital that the article always gives it, and none that marks a sentence's start."""
    assert joined("He did n't say `` 5 % '' , she said ( twice ) .") == 'He didn\'t say "5%", she said (twice).'
    source = "Fans saw Paul Merson on Sunday . Watching it , Merson laughed . The Arsenal man said : The game ."
    summary = "paul merson laughed . the arsenal man was watching on sunday ."
    (found,) = tidy(Article("a", source, (), (Summary(summary, {"r": 1.0}, "M1"),))).summaries
    assert found == Summary("Paul Merson laughed. The Arsenal man was watching on Sunday.", {"r": 1.0}, "M1")


def test_parts_divide_articles(published: Callable[[str], str], divided: Divided) -> None:
    """Train and test share no article and together are all; near the asked share falls on the side `test`."""
    path = published("summeval_100x16.jsonl")
    sides = {part: divided(SummEval(path=path, part=part, held_out=0.4))[0] for part in ("all", "train", "test")}
    articles = {part: {pair.meta["article"] for pair in pairs} for part, pairs in sides.items()}
    assert not articles["train"] & articles["test"]
    assert articles["train"] | articles["test"] == articles["all"]
    assert not {str(pair.prompt) for pair in sides["train"]} & {str(pair.prompt) for pair in sides["test"]}
    # 40 of 100 expected; the standard deviation is 4.9.
    assert 25 <= len(articles["test"]) <= 55


def test_part_is_the_articles_own(published: Callable[[str], str]) -> None:
    """An article falls on the same side however it is tokenised or cased, and a larger share keeps all of a smaller one."""
    with open(published("summeval_100x16.jsonl"), encoding="utf-8") as lines:  # noqa: PTH123
        sources = [json.loads(line)["source"] for line in lines]
    for source in sources:
        assert part_of(source, 0.3) == part_of(joined(source).upper(), 0.3)
        assert part_of(source, 0.3) == "train" or part_of(source, 0.6) == "test"


def test_leave_out(written: Written, divided: Divided) -> None:
    """Refusals of the codes in `leave_out` are left out, others are not."""
    row = {"document": "", "summary": "It was late.", "id": "a"}
    assert [one.code for one in divided(XSum(path=written(row), leave_out=("tie",)))[1]] == ["empty-source"]
    assert divided(XSum(path=written(row), leave_out=("empty-source",))) == ([], [])


@pytest.mark.parametrize("part", ["train", "test"])
def test_refusals_do_not_depend_on_order(written: Written, divided: Divided, part: Any) -> None:
    """The pairs of an article are the same wherever it stands in the file."""
    rows = [{"document": f"Ann met Bob on day {n}. It was.", "summary": f"Ann met Bob on day {n}.", "id": n} for n in range(20)]
    first = divided(XSum(path=written(*rows), part=part, held_out=0.5))[0]
    again = divided(XSum(path=written(*rows[::-1]), part=part, held_out=0.5))[0]
    assert {pair.id for pair in first} == {pair.id for pair in again}
    assert first
