"""Support by an entailment model or a judge: pieces, labels, replies, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
import torch
from dpoframe_summarization.evaluators.entailment import chunks, entails
from dpoframe_summarization.evaluators.example import EXAMPLES
from dpoframe_summarization.evaluators.faithfulness import Faithfulness
from dpoframe_summarization.evaluators.words import words
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from dpoframe import Available, Refused, Sample, UnscoredError
from dpoframe.testing import EvaluatorContract

SOURCE = "the cat sat on the mat . the dog ran home . the bed was red , not blue !"


class TestContract(EvaluatorContract):
    """The contract of faithfulness by a model."""

    samples = EXAMPLES

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def given(cls, classifier: Path) -> None:
        """What is checked."""
        cls.evaluator = Faithfulness(str(classifier), chunk_words=6)


def chance(folder: Path, premise: str, sentence: str) -> float:
    """Probability of class 1 for one pair, without padding."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(folder)(premise, sentence, return_tensors="pt", truncation="only_first", max_length=32)
    with torch.no_grad():
        logits = AutoModelForSequenceClassification.from_pretrained(folder).eval()(**inputs).logits[0].double()
    return float(logits.softmax(-1)[1])


def test_best_piece_then_mean_and_least(classifier: Path, summary: Callable[..., Sample]) -> None:
    """Each sentence takes its best piece; mean and least are over the sentences; batches change nothing."""
    texts = ["the cat slept . the dog sat on the bed .", "the mat was blue .", "a dog ran home ! leeds ! the cat was red ."]
    evaluator = Faithfulness(str(classifier), chunk_words=6)
    found = evaluator.score_batch([summary(text, source=SOURCE) for text in texts])
    pieces = ["the cat sat on the mat .", "the dog ran home .", "the bed was red , not blue !"]
    assert chunks(SOURCE, 6) == pieces
    for text, score in zip(texts, found, strict=True):
        told = [part.strip() for part in text.replace("!", "!\n").replace(".", ".\n").split("\n") if part.strip()]
        best = [max(chance(classifier, piece, sentence) for piece in pieces) for sentence in told]
        assert isinstance(score, dict)
        assert score == pytest.approx({"mean": sum(best) / len(best), "min": min(best)}, abs=1e-5)


@pytest.mark.parametrize(
    ("labels", "place"),
    [
        (["CONTRADICTION", "NEUTRAL", "ENTAILMENT"], 2),
        (["entailment", "not_entailment"], 0),
        (["not-entailment", "entailment"], 1),
        (["entailment", "neutral", "contradiction"], 0),
        (["non_entailment", "Entailed"], 1),
        (["refuted", "supported"], 1),
        (["consistent", "inconsistent"], 0),
        (["LABEL_0", "LABEL_1", "LABEL_2"], None),
        ([], None),
    ],
)
def test_which_label_entails(labels: Sequence[str], place: int | None) -> None:
    """The labels of published classifiers are told apart by name; numbered ones are not guessed."""
    assert entails(labels) == place


def test_labels_by_name() -> None:
    """A label that was given is taken as it is written."""
    assert entails(["LABEL_0", "LABEL_1"], "LABEL_1") == 1
    assert entails(["entailment", "other"], "Entailment") is None


PARTS = ["a b c.", "D e!", "one two three four five six seven", "\u732b\u5728\u7761\u89c9\u3002"]


@given(st.lists(st.sampled_from(PARTS)), st.integers(1, 9))
def test_pieces_hold_the_whole_source(parts: list[str], most: int) -> None:
    """No word of the source is lost, and no piece is longer than it may be."""
    source = "\n".join(parts)
    made = chunks(source, most)
    assert words(" ".join(made)) == words(source)
    assert all(len(words(piece)) <= most for piece in made)


def test_refusals(classifier: Path, encoder: Path, tmp_path: Path) -> None:
    """No model, both kinds, a model that is not here, one that is no classifier, labels that do not say: each with its fix."""
    judge = {"url": "http://localhost:9/v1", "model": "m"}
    both = TypeAdapter(Faithfulness).validate_python({"model": str(classifier), "judge": judge})
    named = Faithfulness(str(classifier), "entails")
    for one, reason, fix in [
        (Faithfulness(), "no model is given", "Set `model`"),
        (both, "both", "Set `model`"),
        (Faithfulness("nobody/nli"), "not on this machine", "hf download nobody/nli"),
        (Faithfulness(str(tmp_path)), "config.json", "Correct the path"),
        (Faithfulness(str(encoder)), "BertModel", "classifier"),
        (named, "no label 'entails'", "CONTRADICTION, ENTAILMENT, NEUTRAL"),
    ]:
        state = one.probe()
        assert isinstance(state, Refused)
        assert reason in state.reason
        assert fix in state.fix
    assert isinstance(Faithfulness(str(classifier)).probe(), Available)
    assert isinstance(Faithfulness(str(classifier), "NEUTRAL").probe(), Available)
    assert Faithfulness(str(classifier), "NEUTRAL").spec.id == "faithfulness:tiny-nli:NEUTRAL:100-words"


@pytest.mark.parametrize(("source", "text"), [("", "the cat"), ("?!", "the cat"), ("the cat", ""), ("the cat", "\u200b ...")])
def test_what_cannot_be_scored(source: str, text: str, classifier: Path, summary: Callable[..., Sample]) -> None:
    """An empty summary or source is unscored, with the reason."""
    with pytest.raises(UnscoredError, match=r"source|summary"):
        Faithfulness(str(classifier)).score(summary(text, source=source))


def test_a_long_source_is_read_to_its_end(classifier: Path, summary: Callable[..., Sample]) -> None:
    """What stands behind the model's longest input counts as what stands in front."""
    filler = "the dog ran home . " * 200
    ahead, behind = (
        Faithfulness(str(classifier), chunk_words=6).score(summary("the cat sat .", source=one))
        for one in ("the bed was red . " + filler, filler + "the bed was red .")
    )
    assert ahead == pytest.approx(behind, abs=1e-6)


class Desk(BaseHTTPRequestHandler):
    """Answers yes where the sentence stands in the text, as a judge would; `Hm` where it is asked of York."""

    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        """One reply."""
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = body["messages"][0]["content"]
        self.asked.append(question)
        text, sentence = (question.split(f"<{tag}>\n")[1].split(f"\n</{tag}>")[0] for tag in ("text", "sentence"))
        reply = "Hm, yes and no." if "York" in sentence else "**Yes**." if sentence in text else "No, it does not."
        data = json.dumps({"choices": [{"message": {"content": reply}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def judged() -> Iterator[Faithfulness]:
    """Faithfulness by a judge behind an endpoint of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Desk)
    thread = Thread(target=server.serve_forever)
    thread.start()
    judge = {"url": f"http://127.0.0.1:{server.server_port}/v1", "model": "desk/one", "concurrency": 3, "retries": 0}
    yield TypeAdapter(Faithfulness).validate_python({"judge": judge})
    server.shutdown()
    thread.join()
    server.server_close()


def test_by_a_judge(judged: Faithfulness, summary: Callable[..., Sample]) -> None:
    """Each sentence is asked about with the whole source; yes is 1, no is 0, anything else leaves the summary unscored."""
    source = "Leeds won. It rained {sentence}. Nobody cheered."
    assert isinstance(judged.probe(), Available)
    assert (judged.at_once(), judged.batch_size()) == (3, 1)
    assert judged.spec.id == "faithfulness:judge:one"
    assert judged.score(summary("Leeds won. Everybody cheered.", source=source)) == {"mean": 0.5, "min": 0.0}
    assert judged.score(summary("It rained {sentence}.", source=source)) == {"mean": 1.0, "min": 1.0}
    with pytest.raises(UnscoredError, match="neither yes nor no"):
        judged.score(summary("York won.", source=source))
