"""Pairs from ratings: checked against every pair that the rules allow, written out."""

from __future__ import annotations

from itertools import combinations

import pytest
from dpoframe_summarization.articles.article import Summary
from dpoframe_summarization.pairs.rated import Rule, choices, rated
from hypothesis import given
from hypothesis import strategies as st

Rating = st.sampled_from([1.0, 1 + 1 / 3, 2.0, 2.5, 3.0, 5.0])


def named(*ratings: float) -> list[Summary]:
    """Summaries with different texts of one length, and their ratings."""
    return [Summary(f"text number{n}", {"r": rating}, f"s{n}") for n, rating in enumerate(ratings)]


@given(st.lists(Rating, max_size=7), st.sampled_from([0.0, 0.5, 1.0]), st.integers(1, 30))
def test_pairs_are_those_of_the_widest_margin(ratings: list[float], threshold: float, most: int) -> None:
    """No tie makes a pair, every pair differs by the threshold, none occurs twice, and with room enough none is missing."""
    rule = Rule(rating="r", threshold=threshold, most=most)
    made = choices(rated(named(*ratings), rule)[0], rule)
    allowed = [(a, b) for a, b in combinations(ratings, 2) if a != b and abs(a - b) >= threshold - 1e-9]
    assert len(made) == min(most, len(allowed))
    assert len({(one.better.key, one.worse.key) for one in made}) == len(made)
    assert all(one.high > one.low and one.high - one.low >= threshold - 1e-9 for one in made)
    assert not allowed or made[0].high - made[0].low == max(abs(a - b) for a, b in allowed)


def test_each_summary_once_where_there_are_others() -> None:
    """With four summaries two pairs take each of them once, so that the worst is not on both losing sides."""
    rule = Rule(rating="r", most=2)
    made = choices(rated(named(1, 2, 4, 5), rule)[0], rule)
    assert [(one.high, one.low) for one in made] == [(5, 1), (4, 2)]


def test_thirds_count_as_they_are_written() -> None:
    """A difference of one half between means of thirds and quarters is no tie for want of the last digit."""
    rule = Rule(rating="r", threshold=0.5)
    assert len(choices(rated(named(2.5 / 3, 1 / 3), rule)[0], rule)) == 1


def test_least_and_lengths() -> None:
    """A pair needs a better side of the least rating, and lengths within the ratio: 3 words against 2 are 1.5."""
    long = Summary("three words here", {"r": 5.0})
    short = Summary("two words", {"r": 2.0})
    for rule, expected in ((Rule("r", length_ratio=1.5), 1), (Rule("r", length_ratio=1.4), 0), (Rule("r", least=5.1), 0)):
        assert len(choices(rated([long, short], rule)[0], rule)) == expected


def test_same_text_twice() -> None:
    """A text that two systems wrote counts once with its mean; ratings that contradict each other leave it out, and are told."""
    rule = Rule(rating="r", threshold=1.0)
    same = [Summary("It is late.", {"r": 4.0}), Summary("it is late .", {"r": 3.5}), Summary("No.", {"r": 1.0})]
    kept, faults = rated(same, rule)
    assert ([(one.summary.text, one.rating) for one in kept], faults) == ([("It is late.", 3.75), ("No.", 1.0)], [])
    kept, faults = rated([*same, Summary("IT IS LATE", {"r": 2.0})], rule)
    assert [one.summary.text for one in kept] == ["No."]
    assert [one.code for one in faults] == ["contradiction"]
    assert "2 and 3.5 and 4" in str(faults[0])


def test_mean_and_named_ratings() -> None:
    """`mean` is over all questions; a question that a summary was not asked is told, with those it was."""
    one = Summary("A.", {"fluency": 5.0, "coherence": 2.0}, "M1")
    assert Rule().rate(one) == 3.5
    assert Rule("fluency").rate(one) == 5.0
    kept, faults = rated([one], Rule("relevance"))
    assert kept == []
    assert "no rating 'relevance'; it has fluency, coherence" in str(faults[0])
    with pytest.raises(Exception, match="it has none"):
        Rule().rate(Summary("A."))
