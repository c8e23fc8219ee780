"""Toxicity: the worst of k answers, the classifiers, and how good the default is."""

from __future__ import annotations

import csv
import gzip
import hashlib
import itertools
import json
import math
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dpoframe_moderation.evaluators import sequence_classifier, toxicity
from dpoframe_moderation.evaluators.drawing import chance_of_any, expected_maximum
from dpoframe_moderation.evaluators.profanity import Profanity
from dpoframe_moderation.evaluators.toxic_labels import toxic_labels
from dpoframe_moderation.evaluators.toxicity import Toxicity
from sklearn.metrics import roc_auc_score

from dpoframe import Available, Media, Refused, Sample, Scored, UnscoredError
from dpoframe.testing import EvaluatorContract

DATA = Path(__file__).parents[4].parent / "shared" / "data" / "moderation"

needs_profanity = pytest.mark.skipif(isinstance(Profanity().probe(), Refused), reason="alt-profanity-check is not installed")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the labelled texts are not in {DATA}")


class TestContract(EvaluatorContract):
    """The evaluator keeps the contract with the default classifier."""

    evaluator = Toxicity()
    samples = Toxicity.example_samples()


def scored(values: dict[str, list[float]], threshold: float = 0.5) -> list[Scored]:
    """Scores of the answers to each prompt."""
    return [
        Scored(f"{prompt}#{number}", prompt, {"toxicity": value, "toxic": float(value >= threshold)})
        for prompt, own in values.items()
        for number, value in enumerate(own)
    ]


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_worst_of_k(k: int) -> None:
    """Both estimators are the mean over all choices of k answers, counted one by one."""
    values = [0.1, 0.7, 0.7, 0.3]
    draws = list(itertools.combinations(values, k))
    assert expected_maximum(values, k) == pytest.approx(math.fsum(max(draw) for draw in draws) / len(draws))
    toxic = sum(any(value >= 0.5 for value in draw) for draw in draws) / len(draws)
    assert chance_of_any(2, 4, k) == pytest.approx(toxic)


@pytest.mark.parametrize("k", [0, 5])
def test_no_more_than_there_are(k: int) -> None:
    """Of four answers neither none nor five are taken."""
    with pytest.raises(ValueError, match="expected 1 to 4"):
        expected_maximum([0.1, 0.7, 0.7, 0.3], k)


def test_figures_are_over_prompts() -> None:
    """The means of the prompts' maxima and of whether any reaches the threshold; a prompt that lacks answers is in neither."""
    found = Toxicity(k=2).aggregate(scored({"a": [0.2, 0.6], "b": [0.1, 0.3], "c": [0.5, 0.1], "d": [0.9]}))
    assert found["expected_maximum"] == pytest.approx((0.6 + 0.3 + 0.5) / 3)
    assert found["any_toxic"] == pytest.approx(2 / 3)
    assert found["complete"] == 0.75


def test_too_few_answers() -> None:
    """With fewer answers than k there is no figure, and the reason says what to set."""
    with pytest.raises(ValueError, match="k=25 needs 25 scored answers a prompt, the most of any is 2"):
        Toxicity(k=25).aggregate(scored({"a": [0.2, 0.6]}))


def test_what_the_id_tells() -> None:
    """The classifier, k, and what differs from the usual are in it."""
    assert Toxicity(k=25).spec.id == "toxicity:alt-profanity-check:k=25"
    found = Toxicity(k=4, classifier="unitary/toxic-bert", labels=("toxic", "threat"), threshold=0.8).spec.id
    assert found == "toxicity:toxic-bert:toxic+threat:>=0.8:k=4"


@needs_profanity
def test_threshold_is_reached_from_below() -> None:
    """An answer whose probability is the threshold is toxic."""
    sample = Sample("a#0", "?", "You are a stupid idiot.")
    chance = Toxicity().score(sample)["toxicity"]
    assert Toxicity(threshold=chance).score(sample)["toxic"] == 1
    assert Toxicity(threshold=math.nextafter(chance, 1)).score(sample)["toxic"] == 0


@needs_profanity
def test_pictures_are_unscored() -> None:
    """A picture is no text: it is unscored by itself and in a batch, and the batch's others are scored."""
    picture = Sample("a#0", "?", Media("image", data=b"x"))
    with pytest.raises(UnscoredError, match="reads text"):
        Toxicity().score(picture)
    first, second = Toxicity().score_batch([picture, Sample("b#0", "?", "Hello.")])
    assert isinstance(first, UnscoredError)
    assert second == Toxicity().score(Sample("b#0", "?", "Hello."))


@needs_profanity
def test_default_is_pinned() -> None:
    """The spec has the digest of the classifier's files, as a listing of their SHA-256 sums."""
    import profanity_check

    folder = Path(str(profanity_check.__file__)).parent / "data"
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}" for name in ("model.joblib", "vectorizer.joblib")]
    (asset,) = Toxicity().spec.assets
    assert asset.digest == f"sha256:{hashlib.sha256(chr(10).join(sums).encode()).hexdigest()}"
    assert asset.licence == "MIT"
    assert asset.name.startswith("alt-profanity-check ")


def test_refuses_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package it refuses, with the line that installs it."""
    monkeypatch.setitem(sys.modules, "profanity_check", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = Toxicity().probe()
    assert isinstance(found, Refused)
    assert 'pip install "dpoframe-moderation[toxicity]"' in found.fix
    assert Toxicity().spec.assets == ()


@needs_profanity
@needs_data
def test_default_on_openais_samples() -> None:
    """Against OpenAI's labels (any category of those that are known) the default's ROC area is the .84 that it is said to be."""
    with gzip.open(DATA / "openai_moderation_samples-1680.jsonl.gz", "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    truth = [any(value for key, value in row.items() if key != "prompt") for row in rows]
    area = roc_auc_score(truth, Profanity().chances([row["prompt"] for row in rows]))
    assert 0.83 < area < 0.85


@needs_profanity
@needs_data
def test_default_on_hatecheck() -> None:
    """On HateCheck it is the .47 that it is said to be: no better than chance."""
    with (DATA / "hatecheck_test_suite_cases.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    truth = [row["label_gold"] == "hateful" for row in rows]
    assert 0.46 < roc_auc_score(truth, Profanity().chances([row["test_case"] for row in rows])) < 0.48


@pytest.mark.parametrize(
    ("labels", "toxic"),
    [
        (["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"], ("toxic",)),
        (["non-toxic", "toxic"], ("toxic",)),
        (["NOT-HATE", "HATE"], ("HATE",)),
        (["nontoxic", "offensiveLanguage"], ("offensiveLanguage",)),
        (["hate", "not_hate"], ("hate",)),
        (["neither", "hate speech", "offensive language"], ("hate speech", "offensive language")),
        (["LABEL_0", "LABEL_1"], ()),
        (["positive", "negative"], ()),
    ],
)
def test_labels_are_found_by_their_names(labels: list[str], toxic: tuple[str, ...]) -> None:
    """Names that say something toxic and do not deny it; names that say nothing are not guessed at."""
    assert toxic_labels(labels) == toxic


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier with weights from a seed: BERT of 16 positions, with a vocabulary of letters."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("classifiers") / "tiny-toxic"
    letters = [chr(place) for place in range(97, 123)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *letters, *(f"##{letter}" for letter in letters)]
    names = ["harmless", "hateful", "threat"]
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        id2label=dict(enumerate(names)),
        label2id={name: place for place, name in enumerate(names)},
        initializer_range=0.8,
    )
    BertForSequenceClassification(config).save_pretrained(out)
    BertTokenizer(vocab={word: place for place, word in enumerate(vocabulary)}).save_pretrained(out)
    return out


def reference(folder: Path, text: str) -> Any:
    """Logits of one text by transformers' own call, as numbers."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(**AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")).logits[0].double()


TEXTS = ["hate you", "a", "one two three.", "", "abc def"]


def test_local_classifier(folder: Path) -> None:
    """The probability is transformers' own for the toxic labels together, alone as in batches of different lengths."""
    evaluator = Toxicity(classifier=str(folder))
    assert isinstance(evaluator.probe(), Available)
    samples = [Sample(f"{n}#0", "?", text) for n, text in enumerate(TEXTS)]
    together = evaluator.score_batch(samples)
    for sample, text, found in zip(samples, TEXTS, together, strict=True):
        expected = float(reference(folder, text).softmax(-1)[1:].sum())
        assert not isinstance(found, UnscoredError)
        assert found is not None
        assert found["toxicity"] == pytest.approx(expected, abs=1e-6)
        assert evaluator.score(sample)["toxicity"] == pytest.approx(expected, abs=1e-6)


def test_named_label(folder: Path) -> None:
    """A label that is named counts alone; one that the classifier lacks is refused with those it has."""
    found = Toxicity(classifier=str(folder), labels=("threat",)).score(Sample("a#0", "?", "hate you"))
    assert found["toxicity"] == pytest.approx(float(reference(folder, "hate you").softmax(-1)[2]), abs=1e-6)
    wrong = Toxicity(classifier=str(folder), labels=("rude",)).probe()
    assert isinstance(wrong, Refused)
    assert "harmless, hateful, threat" in wrong.fix


def changed(folder: Path, out: Path, **settings: Any) -> str:
    """A copy of the classifier with other settings."""
    shutil.copytree(folder, out)
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, **settings}))
    return str(out)


def test_several_labels_at_once(folder: Path, tmp_path: Path) -> None:
    """Of a classifier that may give several labels, the largest of the toxic ones' own probabilities counts."""
    several = changed(folder, tmp_path / "several", problem_type="multi_label_classification")
    expected = float(reference(folder, "abc def").sigmoid()[1:].max())
    assert Toxicity(classifier=several).score(Sample("a#0", "?", "abc def"))["toxicity"] == pytest.approx(expected, abs=1e-6)


def test_labels_without_names_are_refused(folder: Path, tmp_path: Path) -> None:
    """Where no label says that it is toxic, none is guessed: the evaluator asks for them."""
    plain = changed(folder, tmp_path / "plain", id2label={"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"})
    found = Toxicity(classifier=plain).probe()
    assert isinstance(found, Refused)
    assert "LABEL_0, LABEL_1, LABEL_2" in found.fix
    assert isinstance(Toxicity(classifier=plain, labels=("LABEL_1",)).probe(), Available)


def test_long_answers_are_read_to_the_end(folder: Path) -> None:
    """Of an answer beyond the classifier's 16 tokens every part is read, and the worst one counts."""
    long = " ".join(letter for letter in "abcdefghijklmnopqrstuvwxyz.")
    chunks = [" ".join(list("abcdefghijklmnopqrstuvwxyz.")[start : start + 14]) for start in (0, 14)]
    worst = max(float(reference(folder, chunk).softmax(-1)[1:].sum()) for chunk in chunks)
    assert Toxicity(classifier=str(folder)).score(Sample("b#0", "?", long))["toxicity"] == pytest.approx(worst, abs=1e-6)


def test_parts_by_a_tokenizer_in_python() -> None:
    """A tokenizer without a fast backend cuts a text into parts as well, each with its own end: none is longer than it may be."""
    from transformers import BertConfig, ByT5Tokenizer

    loaded = sequence_classifier._Loaded(SimpleNamespace(config=BertConfig(max_position_embeddings=5)), ByT5Tokenizer())
    # ByT5 numbers bytes from 3 on, and its end is 1.
    assert loaded._parts("abcdef") == [[100, 101, 102, 103, 1], [104, 105, 1]]
    assert loaded._parts("") == [[1]]


def test_weights_are_pinned(folder: Path, tmp_path: Path) -> None:
    """Another byte in the weights is another digest, and the changed weights are the ones that are read."""
    from safetensors.torch import load_file, save_file

    copy = Path(changed(folder, tmp_path / "copy"))
    evaluator, sample = Toxicity(classifier=str(copy)), Sample("a#0", "?", "hate you")
    before, old = evaluator.spec.assets, evaluator.score(sample)["toxicity"]
    weights = load_file(copy / "model.safetensors")
    weights["classifier.bias"][0] += 3
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert evaluator.spec.assets != before
    assert evaluator.score(sample)["toxicity"] < old


@pytest.mark.parametrize("wrong", ["nobody/here", "/no/folder", "a b c"])
def test_missing_classifier_is_refused(wrong: str) -> None:
    """What is not on this machine is refused before anything runs; the spec can be read all the same."""
    found = Toxicity(classifier=wrong).probe()
    assert isinstance(found, Refused)
    assert wrong in found.reason
    assert Toxicity(classifier=wrong).spec.assets == ()


def test_pickles_are_refused(folder: Path, tmp_path: Path) -> None:
    """A classifier whose weights are a pickle is refused before it is read, since reading one can run code."""
    for file in folder.iterdir():
        (tmp_path / file.name.replace("model.safetensors", "pytorch_model.bin")).write_bytes(file.read_bytes())
    found = Toxicity(classifier=str(tmp_path)).probe()
    assert isinstance(found, Refused)
    assert "pickles" in found.reason


def test_other_models_are_refused(folder: Path, tmp_path: Path) -> None:
    """A model that is no classifier of texts is refused by its kind."""
    other = changed(folder, tmp_path / "other", architectures=["BertForMaskedLM"])
    found = Toxicity(classifier=other).probe()
    assert isinstance(found, Refused)
    assert "BertForMaskedLM" in found.reason


def test_batches_are_of_like_length(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts go to the classifier from the shortest to the longest, as many together as the bound on tokens allows."""
    monkeypatch.setattr(sequence_classifier, "_MOST_TOKENS", 24)
    widths = []
    plain = sequence_classifier._Loaded._read

    def watched(self: Any, parts: list[list[int]], places: tuple[int, ...]) -> list[float]:
        widths.append([len(part) for part in parts])
        return plain(self, parts, places)

    monkeypatch.setattr(sequence_classifier._Loaded, "_read", watched)
    samples = [Sample(f"{n}#0", "?", "a b c d e f g h"[: 2 * length - 1]) for n, length in enumerate((8, 1, 5, 1, 8, 2))]
    assert len(Toxicity(classifier=str(folder)).score_batch(samples)) == 6
    assert widths == [[3, 3, 4], [7, 10], [10]]
    assert all(len(batch) * max(batch) <= 24 for batch in widths)


def test_batch_size() -> None:
    """The harness hands over many samples at a time."""
    assert Toxicity().batch_size() == toxicity._TOGETHER > 32
