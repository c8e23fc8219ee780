"""Published layouts: what each column becomes, and rows that are broken."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from statistics import fmean
from typing import Any

import pytest
from dpoframe_summarization.readers.documents import CnnDm, OwnSummaries, RatedSummaries, SciTldr, XSum
from dpoframe_summarization.readers.frank import Frank
from dpoframe_summarization.readers.summeval import DIMENSIONS, SummEval
from dpoframe_summarization.readers.tldr import TldrComparisons

from dpoframe import ConfigError, DataError, MachineError, as_text

SOURCE = "The ferry Marianne is back after 12 days. Ines Walder said the repairs cost 340,000 euros."
GOOD, FAIR, BAD = "The Marianne is back.", "A ferry is back after repairs.", "Ferries were sold to Spain."
Written = Callable[..., str]
Divided = Callable[[Any], Any]


def flat(summary: str, *experts: int, **changes: Any) -> dict[str, Any]:
    """A row of the authors' layout: one summary, with the same rating on all four questions by each expert."""
    given = [dict.fromkeys(DIMENSIONS, rating) for rating in experts]
    row = {"id": "a", "text": SOURCE, "decoded": summary, "model_id": summary[:3], "references": [GOOD], "turker_annotations": []}
    return {**row, "expert_annotations": given, **changes}


def test_summeval_layouts_agree(written: Written, divided: Divided) -> None:
    """The three layouts of the same article give the same pairs with the same scores."""
    ratings = {GOOD: (5, 5, 4), FAIR: (4, 3, 3), BAD: (1, 1, 2)}
    means = {text: fmean(given) for text, given in ratings.items()}
    nested = [{"system": text[:3], "summary": text, **dict.fromkeys(DIMENSIONS, mean)} for text, mean in means.items()]
    lists = {name: list(means.values()) for name in DIMENSIONS}
    files = [
        written(*(flat(text, *given) for text, given in ratings.items()), name="flat.jsonl"),
        written({"id": "a", "text": SOURCE, "machine_summaries": list(means), "human_summaries": [GOOD], **lists}, name="m.jsonl"),
        written({"doc_id": "a", "source": SOURCE, "references": [GOOD], "outputs": nested}, name="nested.jsonl"),
    ]
    found = []
    for path in files:
        pairs, refused = divided(SummEval(path=path))
        assert not refused
        found.append(sorted((one.chosen, one.rejected, one.meta["score_chosen"], one.meta["score_rejected"]) for one in pairs))
    assert found[0] == found[1] == found[2]
    expected = [(a, b, pytest.approx(means[a]), pytest.approx(means[b])) for a, b in combinations((GOOD, FAIR, BAD), 2)]
    assert found[0] == sorted(expected)


def test_annotators_and_questions(written: Written, divided: Divided) -> None:
    """`annotators` chooses whose ratings count, `rating` which question."""
    turkers = [{**dict.fromkeys(DIMENSIONS, 1), "fluency": 5}]
    path = written(flat(GOOD, 5, turker_annotations=turkers), flat(BAD, 2, turker_annotations=[dict.fromkeys(DIMENSIONS, 3)]))
    assert divided(SummEval(path=path))[0][0].chosen == GOOD
    (pair,) = divided(SummEval(path=path, annotators="turker"))[0]
    assert (pair.chosen, pair.meta["score_chosen"], pair.meta["score_rejected"]) == (BAD, 3, 2)
    (pair,) = divided(SummEval(path=path, annotators="turker", rating="fluency"))[0]
    assert (pair.chosen, pair.meta["score_chosen"], pair.meta["rating"]) == (GOOD, 5, "fluency")
    (pair,) = divided(SummEval(path=path, annotators="both", rating="coherence"))[0]
    assert (pair.meta["score_chosen"], pair.meta["score_rejected"]) == (3, 2.5)


@pytest.mark.parametrize(
    ("row", "code", "reason"),
    [
        (flat(BAD, text=None), "empty-source", "pair_data.py"),
        (flat(BAD, text=" \u200b\ufeff "), "empty-source", "missing, empty or blank"),
        (flat(BAD, text=[]), "empty-source", "missing, empty or blank"),
        (flat(BAD, text="a\0b"), "control-character", "position 2"),
        (flat(BAD, text="half \ud800"), "not-utf8", "position 6"),
        (flat(BAD, text=7), "wrong-type", "found int"),
        (flat(" ", 1), "empty-summary", "missing, empty or blank"),
        (flat(BAD), "unrated", "no rating 'mean'; it has none"),
        (flat(BAD, expert_annotations=[{"coherence": "bad"}]), "wrong-type", "must be a number, found 'bad'"),
        ({"id": "b", "something": 1}, "wrong-type", "It has id, something"),
        ({"id": "b", "text": SOURCE, "machine_summaries": [GOOD], "coherence": [1, 2]}, "wrong-type", "1 summaries and 2 ratings"),
    ],
)
def test_broken_rows_of_summeval(written: Written, divided: Divided, row: Any, code: str, reason: str) -> None:
    """A broken row or summary is refused with a code and a reason, and the article's other summaries still make their pair."""
    pairs, refused = divided(SummEval(path=written(flat(GOOD, 5), flat(FAIR, 3), row)))
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [(GOOD, FAIR)]
    assert [one.code for one in refused] == [code]
    assert reason in refused[0].reason


def test_two_sources_under_one_id(written: Written, divided: Divided) -> None:
    """A row whose id stands for another article already is refused as a contradiction."""
    pairs, refused = divided(SummEval(path=written(flat(GOOD, 5), flat(FAIR, 3), flat(BAD, 1, text="Another article."))))
    assert (len(pairs), [one.code for one in refused]) == (1, ["contradiction"])


def test_published_summeval(published: Callable[[str], str], divided: Divided) -> None:
    """Of the 100 real articles every pair's scores are the means that the file gives its two texts, and no pair is a tie."""
    path = published("summeval_100x16.jsonl")
    scores: dict[str, list[float]] = {}
    with open(path, encoding="utf-8") as lines:  # noqa: PTH123
        for row in map(json.loads, lines):
            for one in row["outputs"]:
                key = row["doc_id"] + "".join(filter(str.isalnum, one["summary"].lower()))
                scores.setdefault(key, []).append(sum(one[name] for name in DIMENSIONS) / 4)
    pairs, refused = divided(SummEval(path=path, per_article=4))
    assert (len(pairs), {one.code for one in refused}) == (400, {"contradiction"})
    for pair in pairs:
        for side in ("chosen", "rejected"):
            text = "".join(filter(str.isalnum, str(getattr(pair, side)).lower()))
            assert pair.meta[f"score_{side}"] == pytest.approx(fmean(scores[pair.meta["article"] + text]))
        assert pair.meta["score_chosen"] - pair.meta["score_rejected"] >= 0.5 - 1e-9
        assert pair.meta["source"] in as_text(pair.prompt)


def test_published_scitldr(published: Callable[[str], str], divided: Divided) -> None:
    """Each of the 619 real papers makes a pair of its first TLDR over its first three sentences, or is refused."""
    path = published("scitldr_A_dev.jsonl")
    with open(path, encoding="utf-8") as lines:  # noqa: PTH123
        rows = [json.loads(line) for line in lines]
    pairs, refused = divided(SciTldr(path=path, pairs="lead"))
    assert len(pairs) + len(refused) == len(rows) == 619
    assert Counter(one.code for one in refused).keys() <= {"identical"}
    assert pairs[0].chosen == rows[0]["target"][0]
    assert pairs[0].rejected == " ".join(rows[0]["source"][:3])


FRANK_TEXT = [
    {"hash": "h", "model_name": name, "article": SOURCE, "summary": text, "reference": GOOD, "split": split}
    for name, text, split in (("bart", GOOD, "test"), ("pgn", BAD, "test"), ("s2s", FAIR, "valid"))
]
FRANK_HUMAN = [
    {"hash": "h", "model_name": name, "dataset": "cnndm", "Factuality": score, "EntE": 1.0, "split": "test"}
    for name, score in (("bart", 1.0), ("pgn", 1 / 3))
]


def test_frank_joins_its_two_files(written: Written, divided: Divided) -> None:
    """Texts and judgements come together by article and system; a summary without a judgement is refused as unrated."""
    path = [written(*FRANK_TEXT, name="benchmark_data.jsonl"), written(*FRANK_HUMAN, name="human_annotations.jsonl")]
    pairs, refused = divided(Frank(path=path))
    assert [(one.chosen, one.rejected, one.meta["chosen_source"], one.meta["score_rejected"]) for one in pairs] == [
        (GOOD, BAD, "bart", pytest.approx(1 / 3))
    ]
    assert ([one.code for one in refused], pairs[0].meta["reference"]) == (["unrated"], GOOD)
    assert not divided(Frank(path=path, published="test"))[1]
    alone, refused = divided(Frank(path=path[1:]))
    assert (alone, {one.code for one in refused}) == ([], {"empty-source"})
    assert "benchmark_data.json" in refused[0].reason


def test_frank_by_sentences(written: Written, divided: Divided) -> None:
    """From sentences alone, Factuality is the share of those in which most of the three annotators found no error."""
    votes = [
        [{"a": ["NoE"], "b": ["NoE"], "c": ["EntE"]}, {"a": ["NoE"], "b": ["NoE"], "c": ["NoE"]}],
        [{"a": ["NoE"], "b": ["OutE", "EntE"], "c": ["EntE"]}, {"a": ["NoE"], "b": ["NoE"], "c": ["NoE"]}],
    ]
    rows = [{**text, "summary_sentences_annotations": given} for text, given in zip(FRANK_TEXT, votes, strict=False)]
    (pair,) = divided(Frank(path=written(*rows)))[0]
    assert (pair.chosen, pair.meta["score_chosen"], pair.meta["score_rejected"]) == (GOOD, 1.0, 0.5)


def tldr(choice: Any, first: str = BAD, second: str = GOOD, **info: Any) -> dict[str, Any]:
    """A row of OpenAI's comparisons."""
    about = {"id": "p", "post": SOURCE, "title": "Ferry", "subreddit": "sea", "article": None, **info}
    return {"info": about, "summaries": [{"text": first, "policy": "sup1"}, {"text": second, "policy": "ref"}], "choice": choice}


def test_comparisons(written: Written, divided: Divided) -> None:
    """The chosen of two summaries is preferred; votes on the same two are counted together, in whatever order they stand."""
    rows = [tldr(1), tldr(0, GOOD, BAD), tldr(0), tldr(1, id="q", post=None, article="An article.", title=None)]
    pairs, refused = divided(TldrComparisons(path=written(*rows)))
    assert [(one.chosen, one.rejected, one.meta["votes_chosen"], one.meta["votes_rejected"]) for one in pairs] == [
        (GOOD, BAD, 2, 1),
        (GOOD, BAD, 1, 0),
    ]
    assert (refused, pairs[0].meta["source"], pairs[1].meta["source"]) == ([], f"Ferry\n\n{SOURCE}", "An article.")
    assert pairs[0].meta["chosen_source"] == "ref"


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([tldr(None)], "unrated"),
        ([tldr(2)], "wrong-type"),
        ([tldr(True)], "wrong-type"),
        ([tldr(0), tldr(1)], "contradiction"),
        ([tldr(0, GOOD, GOOD + " ")], "identical"),
        ([tldr(0, post="")], "empty-source"),
        ([{**tldr(0), "info": None}], "wrong-type"),
        ([{**tldr(0), "summaries": [{"text": GOOD}]}], "wrong-type"),
    ],
)
def test_broken_comparisons(written: Written, divided: Divided, rows: Any, code: str) -> None:
    """Comparisons that nobody made, that contradict each other or are broken are refused, each with its code."""
    pairs, refused = divided(TldrComparisons(path=written(*rows)))
    assert (pairs, [one.code for one in refused]) == ([], [code])


def test_comparisons_of_like_length(written: Written, divided: Divided) -> None:
    """With `length_ratio` a comparison whose lengths differ by more is refused: 5 words against 4 stay, 6 against 4 do not."""
    assert [len(text.split()) for text in (GOOD, BAD, FAIR)] == [4, 5, 6]
    rows = [tldr(1), tldr(1, FAIR, GOOD, id="q")]
    pairs, refused = divided(TldrComparisons(path=written(*rows), length_ratio=1.3))
    assert [(one.chosen, one.rejected) for one in pairs] == [(GOOD, BAD)]
    assert [one.code for one in refused] == ["lengths"]


def test_documents(written: Written, divided: Divided) -> None:
    """Highlights are joined to one text, a list of sentences likewise; the published summary stands over the first sentence."""
    lead = {"pairs": "lead", "lead_sentences": 1}
    paper = {"source": SOURCE.split(". ", 1), "target": [GOOD, FAIR], "paper_id": "a"}
    found = [
        divided(CnnDm(path=written({"article": SOURCE, "highlights": f"{GOOD}\n{FAIR}", "id": "a"}), **lead))[0][0],
        divided(XSum(path=written({"document": SOURCE.replace(". ", ".\n"), "summary": GOOD, "id": "a"}), **lead))[0][0],
        divided(SciTldr(path=written(paper), **lead))[0][0],
    ]
    assert [one.chosen for one in found] == [f"{GOOD} {FAIR}", GOOD, GOOD]
    assert [one.rejected for one in found[:2]] == ["The ferry Marianne is back after 12 days."] * 2
    assert [one.meta["article"] for one in found] == ["a"] * 3


def test_own_files(written: Written, divided: Divided) -> None:
    """Columns of any name are read, dots reach into objects; rows of one text belong together without an id."""
    rows = [{"doc": {"body": SOURCE}, "tldr": text, "stars": stars} for text, stars in ((GOOD, 5), (BAD, "1"), (FAIR, None))]
    columns = {"source": "doc.body", "summary": "tldr"}
    pairs, refused = divided(RatedSummaries(path=written(*rows), columns=columns, ratings=("stars",)))
    assert [(one.chosen, one.rejected, one.meta["score_chosen"]) for one in pairs] == [(GOOD, BAD, 5)]
    assert [one.code for one in refused] == ["unrated"]
    pairs, refused = divided(OwnSummaries(path=written(rows[0]), columns=columns))
    assert (len(refused), {one.chosen for one in pairs}) == (0, {GOOD})
    negations = [one.rejected for one in pairs if one.meta["corruption"] == "negation"]
    assert negations == ["The Marianne is not back."]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"instruction": "Summarize."}, "must hold {source}"),
        ({"max_source_words": 0}, "at least 1"),
        ({"held_out": 1.0}, "above 0 and below 1"),
        ({"per_article": 0}, "at least 1"),
        ({"threshold": -1.0}, "at least 0"),
        ({"length_ratio": 0.5}, "at least 1"),
        ({"kinds": ()}, "each kind of corruption once"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], told: str) -> None:
    """A value that cannot be is told before any file is read, with what it must be."""
    with pytest.raises(ConfigError, match=told):
        SummEval(path="x.jsonl", **options)


def test_no_file() -> None:
    """Without a path, and with one that leads nowhere, the message says how the data are had."""
    with pytest.raises(MachineError, match=r"hub:mteb/summeval"):
        SummEval()
    with pytest.raises(DataError, match=r"not there.*github.com/artidoro/frank"):
        Frank(path=["nowhere.jsonl"])
    with pytest.raises(ConfigError, match="columns maps text; it can map source"):
        OwnSummaries(path="x.jsonl", columns={"text": "body"})


@pytest.mark.parametrize("way", ["rated", "reference"])
def test_ratings_where_there_are_none(written: Written, divided: Divided, way: Any) -> None:
    """A document that nobody rated is refused as unrated, not lost, where ratings are asked for."""
    pairs, refused = divided(XSum(path=written({"document": SOURCE, "summary": GOOD, "id": "a"}), pairs=way))
    assert (pairs, [one.code for one in refused]) == ([], ["unrated"])


def test_every_way_accounts_for_every_article(written: Written, divided: Divided) -> None:
    """In each of the four ways an article without a published summary and one with equal ratings make pairs or are refused."""
    alike = [flat(text, 3, references=[]) for text in (GOOD, FAIR)]
    for way, codes in {"rated": {"tie"}, "reference": {"empty-reference"}, "lead": {"empty-reference"}, "corrupted": set()}.items():
        pairs, refused = divided(SummEval(path=written(*alike), pairs=way))
        assert {one.code for one in refused} == codes
        assert bool(pairs) == (way == "corrupted")
