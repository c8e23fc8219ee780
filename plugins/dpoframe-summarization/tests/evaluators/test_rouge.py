"""ROUGE: equal to `rouge-score`, in other scripts too, and the same on one core and on several."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dpoframe_summarization.evaluators import rouge, rouge_crew
from dpoframe_summarization.evaluators.example import EXAMPLES
from dpoframe_summarization.evaluators.rouge import Rouge
from dpoframe_summarization.evaluators.rouge_crew import Crew
from dpoframe_summarization.evaluators.rouge_scoring import FIGURES, TYPES, Settings, answers, rouge_of
from rouge_score.rouge_scorer import RougeScorer

from dpoframe import Sample, UnscoredError
from dpoframe.testing import EvaluatorContract

FOX, DOG = "The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log."


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    """This process and one worker, whatever the machine has."""
    made = Crew(Settings(True, False, False), 2, worth=0.0)
    yield made
    made.dismiss()


def ready(crew: Crew) -> Crew:
    """Has the worker start, and waits for it."""
    crew.figures([(["a"], "a")])
    assert crew._workers[0].ready.wait(60)
    return crew


class TestContract(EvaluatorContract):
    """The contract of rouge."""

    evaluator = Rouge()
    samples = EXAMPLES


class TestUnicodeContract(EvaluatorContract):
    """The contract of rouge on all scripts."""

    evaluator = Rouge(stemmer=False, sentences="lines", tokens="unicode")
    samples = EXAMPLES


@pytest.fixture(scope="module")
def pairs(summeval: list[dict[str, Any]]) -> list[tuple[list[str], str]]:
    """500 real summaries with one to three of their references, sentences in lines."""
    found = [
        (row["references"][: 1 + place % 3], one["summary"]) for row in summeval for place, one in enumerate(row["outputs"][:5])
    ]
    assert len(found) == 500
    return [([one.replace(" . ", " .\n") for one in references], text.replace(" . ", " .\n")) for references, text in found]


@pytest.mark.parametrize("stemmer", [True, False])
def test_equal_to_rouge_score(stemmer: bool, pairs: list[tuple[list[str], str]], summary: Callable[..., Sample]) -> None:
    """Precision, recall and F of all four kinds are those of `rouge-score`, to the last bit, on 500 real summaries."""
    reference = RougeScorer(list(TYPES), use_stemmer=stemmer)
    evaluator = Rouge(stemmer=stemmer, sentences="lines")
    for references, text in pairs:
        theirs = reference.score_multi(references, text)
        mine = evaluator.score(summary(text, reference=references))
        for kind in TYPES:
            assert mine[kind] == theirs[kind].fmeasure
            assert mine[f"{kind}_precision"] == theirs[kind].precision
            assert mine[f"{kind}_recall"] == theirs[kind].recall


def test_published_example(summary: Callable[..., Sample]) -> None:
    """The example of the package's own page: stemmed F of 12/17, 4/15 and 10/17."""
    found = Rouge().score(summary(DOG, reference=FOX))
    assert [found[kind] for kind in TYPES[:3]] == pytest.approx([12 / 17, 4 / 15, 10 / 17], abs=1e-12)


def test_sentences_by_rule(summary: Callable[..., Sample]) -> None:
    """Lsum by the rule is that of `rouge-score` on lines; on unbroken text taken as one line it would equal L."""
    good, text = "The dog barked. The cat slept at home.", "The cat slept. The dog barked loudly."
    expected = RougeScorer(["rougeLsum"]).score(good.replace(". ", ".\n"), text.replace(". ", ".\n"))["rougeLsum"]
    found = Rouge(stemmer=False).score(summary(text, reference=good))
    lines = Rouge(stemmer=False, sentences="lines").score(summary(text, reference=good))
    assert found["rougeLsum"] == expected.fmeasure
    assert lines["rougeLsum"] == lines["rougeL"] < found["rougeLsum"]


def test_the_best_reference_counts(summary: Callable[..., Sample]) -> None:
    """Each kind takes the reference that suits it, not the mean and not the first."""
    found = Rouge().score(summary("one two three", references=["nothing at all", "one two three", "three two one"]))
    assert [found[kind] for kind in TYPES] == [1.0] * 4


@pytest.mark.parametrize(
    ("text", "good", "shared"),
    [
        ("猫在睡觉", "狗在睡觉", 3 / 4),
        ("Кошка СПИТ дома", "кошка спит", 4 / 5),
        ("القطة نائمة", "القطة نائمة", 1.0),
        ("बिल्ली सो रही है", "बिल्ली सो रहा है", 3 / 4),
        ("แมวนอน", "แมวนอน", 1.0),
        ("ปี ๒๕๖๗", "ปี ๒๕๖๖", 1 / 2),
        ("고양이가 잔다", "고양이가 논다", 1 / 2),
        ("caf\u00e9 noir", "cafe\u0301 noir", 1.0),
        ("Straße", "STRASSE", 1.0),
        ("ca\u200bt sa\u00adt", "cat sat", 1.0),
    ],
)
def test_other_scripts(text: str, good: str, shared: float, summary: Callable[..., Sample]) -> None:
    """Words of any script are compared, combining marks and letter case included; ROUGE-1 is F over words, by hand."""
    assert Rouge(tokens="unicode").score(summary(text, reference=good))["rouge1"] == pytest.approx(shared, abs=1e-12)


def test_unicode_changes_nothing_in_plain_english(pairs: list[tuple[list[str], str]], summary: Callable[..., Sample]) -> None:
    """On texts of a-z and digits both tokenizers give the same numbers."""
    plain = [(references[:1], text) for references, text in pairs if (references[0] + text).isascii()]
    assert len(plain) > 100
    for references, text in plain:
        sample = summary(text.replace("_", " "), reference=references[0].replace("_", " "))
        assert Rouge(tokens="unicode").score(sample) == Rouge().score(sample)


@pytest.mark.parametrize("good", ["狗在睡觉", "Кошка спит 2", "?!", "हिन्दी"])
def test_what_the_tokenizer_cannot_see_is_unscored(good: str, summary: Callable[..., Sample]) -> None:
    """A reference whose words `rouge-score` does not see is no zero: the reason names the setting."""
    with pytest.raises(UnscoredError, match="tokens: unicode"):
        Rouge().score(summary("anything", reference=good))


@pytest.mark.parametrize("meta", [{}, {"reference": ""}, {"reference": None}, {"references": [" ", None]}, {"reference": 5.0}])
def test_without_a_reference(meta: dict[str, Any]) -> None:
    """There is nothing to compare with, and the reason says what the row needs."""
    with pytest.raises(UnscoredError, match="reference"):
        Rouge().score(Sample("s", "q", "text", meta=meta))


@pytest.mark.parametrize("text", ["", " \n", "\0\u200b", "。"])
def test_an_empty_summary_scores_zero(text: str, summary: Callable[..., Sample]) -> None:
    """Nothing said is nothing recalled."""
    assert {Rouge().score(summary(text, reference="Good words."))[kind] for kind in TYPES} == {0.0}


def test_ids_name_the_settings() -> None:
    """Numbers of other settings do not compare, so they have another id; the package's version is an asset."""
    assert Rouge().spec.id == "rouge:porter:rule:ascii"
    assert Rouge(False, "lines", "unicode").spec.id == "rouge:no-stemmer:lines:unicode"
    assert Rouge().spec.assets[0].name.startswith("rouge-score ")


def test_workers_give_the_same_numbers(crew: Crew, pairs: list[tuple[list[str], str]]) -> None:
    """A worker process and this one agree with one process, in order, whatever the texts hold."""
    odd = [(["a \ud800 b", "\u2028"], "a\nb\r\n\u2028 c \ud800 {"), (["x"], "")]
    jobs = [*pairs[:300], *odd]
    random.Random(0).shuffle(jobs)
    assert ready(crew).figures(jobs) == rouge_of(Settings(True, False, False), jobs)
    assert len(crew._workers) == 1


def test_a_worker_that_dies_is_told(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that a killed process had is not lost silently; the next call starts another one."""
    jobs = [(["a b c"], "a b")] * 300
    ready(crew)
    monkeypatch.setattr(rouge_crew, "rouge_of", lambda settings, some: crew._workers[0]._process.wait(30) and [])
    crew._workers[0]._process.kill()
    with pytest.raises(UnscoredError, match="ended before its time"):
        crew.figures(jobs)
    monkeypatch.undo()
    assert len(crew.figures(jobs)) == 300


def test_small_work_starts_no_process() -> None:
    """Two seconds of start are not worth a few summaries, and nobody waits for a worker that is not ready."""
    made = Crew(Settings(True, True, False), 2)
    assert made.figures([(["a"], "a")] * 20) == rouge_of(Settings(True, True, False), [(["a"], "a")] * 20)
    assert not made._workers
    made = Crew(Settings(True, True, False), 2, worth=0.0)
    assert made.figures([(["a"], "a")] * 20) == rouge_of(Settings(True, True, False), [(["a"], "a")] * 20)
    assert not made._workers[0].ready.is_set()
    made.dismiss()


def test_a_worker_answers_line_by_line() -> None:
    """What the program of a worker writes is one line of figures a line of jobs."""
    start, line = answers(Settings(True, False, False), iter(['[[["a b"], "a"]]\n']))  # type: ignore[arg-type]
    assert start == ""
    assert line == str([[2 / 3, 1.0, 0.5, 0.0, 0.0, 0.0, 2 / 3, 1.0, 0.5, 2 / 3, 1.0, 0.5]])
    assert len(FIGURES) == 12


def test_batches_keep_the_order(summary: Callable[..., Sample]) -> None:
    """Samples that cannot be scored stand in their places."""
    given = [summary("a", reference="a"), summary("a"), summary("b", reference="a"), summary("b", reference="猫")]
    found = Rouge().score_batch(given)
    assert [one if isinstance(one, UnscoredError) else one and one["rouge1"] for one in found][::2] == [1.0, 0.0]
    assert isinstance(found[1], UnscoredError)
    assert isinstance(found[3], UnscoredError)


def test_ranks_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four processes of one machine do not start workers for all of its cores each."""
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    alone = rouge_crew.cores()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert rouge_crew.cores() == max(1, alone // 4)
    assert rouge.crew_of(Settings(False, False, False)) is rouge.crew_of(Settings(False, False, False))
