"""Tokens that the responses of a pair share may count less: in batches, in training, in cached scores; never in evaluations."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import dpoframe_text
import pytest
import torch
from dpoframe_text.modality import TextModality

from dpoframe import Example
from dpoframe.config import load_recipe
from dpoframe.harness import Subject
from dpoframe.plugins import PluginHost
from dpoframe.train.fit import fit

WORDS = ("red green blue", "the cat sat on the mat", "a dog and a cat", "hello there how are you", "1 2 3 4 5 6", "hi")


def _edited(text: str) -> str:
    """The text with its last word doubled and its first letter exchanged."""
    return "z" + text[1:] + " " + text.split()[-1]


def _examples(seed: int = 0) -> list[Example]:
    chosen = [Example(f"say {number // 2}", text, seed, str(number)) for number, text in enumerate(WORDS)]
    return chosen + [replace(one, response=_edited(str(one.response))) for one in chosen]


def _terms(modality: TextModality, model: Any, example: Example) -> tuple[list[int], torch.Tensor]:
    """Tokens of a response and their log-probabilities in float64, one plain forward."""
    tokens = modality.encoder.encode([example])[0]
    ids = torch.tensor([tokens.prompt + tokens.response])
    with torch.no_grad():
        logps = model(ids, use_cache=False).logits[0].double().log_softmax(-1)
    start = len(tokens.prompt)
    return list(tokens.response), logps[start - 1 : -1].gather(1, ids[0, start:, None])[:, 0]


def _outside(first: list[int], second: list[int]) -> list[bool]:
    """Whether each token of `first` is outside one longest common subsequence, by the whole table, matched from the end."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for row, one in enumerate(first):
        for column, two in enumerate(second):
            longer = max(table[row][column + 1], table[row + 1][column])
            table[row + 1][column + 1] = table[row][column] + 1 if one == two else longer
    return [True] * len(first) if not table[-1][-1] else _walk(first, second, table)


def _walk(first: list[int], second: list[int], table: list[list[int]]) -> list[bool]:
    found, row, column = [True] * len(first), len(first), len(second)
    while row and column:
        if first[row - 1] == second[column - 1]:
            row, column = row - 1, column - 1
            found[row] = False
        elif table[row][column] == table[row][column - 1]:
            column -= 1
        else:
            row -= 1
    return found


@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_scores_are_the_weighted_sums(tiny, weight):
    """A pair's scores are sums over its differing tokens and `weight` times the others; a lone example counts whole."""
    modality = TextModality(model=str(tiny), difference_weight=weight)
    model, examples = modality.build().eval(), _examples()
    found = modality.score(model, modality.collate(examples))
    for index, example in enumerate(examples):
        own, terms = _terms(modality, model, example)
        other, _ = _terms(modality, model, examples[(index + 6) % 12])
        outside = _outside(own, other)
        wanted = sum(term.item() * (1 if mark else weight) for term, mark in zip(terms, outside, strict=True))
        assert found.value[index].item() == pytest.approx(wanted, abs=1e-4)
        assert (found.length[index], found.detail["differing"][index]) == (len(own), sum(outside))
        alone = modality.score(model, modality.collate([example]))
        assert alone.value.item() == pytest.approx(terms.sum().item(), abs=1e-4)


def test_batches_and_order_do_not_matter_while_pairs_stay_together(tiny):
    """A pair scores the same alone, among others, in another order, and where the batch holds it twice."""
    modality = TextModality(model=str(tiny), difference_weight=0.2)
    model, examples = modality.build().eval(), _examples()

    def scored(some: list[Example]) -> torch.Tensor:
        with torch.no_grad():
            return modality.score(model, modality.collate(some)).value

    whole = scored(examples)
    order = [3, 9, 11, 0, 5, 6, 1, 2, 4, 7, 8, 10]
    torch.testing.assert_close(scored([examples[index] for index in order]), whole[order], rtol=0, atol=1e-5)
    torch.testing.assert_close(scored([examples[4], examples[10]]), whole[[4, 10]], rtol=0, atol=1e-5)
    twice = [examples[index] for index in (1, 1, 7, 7)]
    torch.testing.assert_close(scored(twice), whole[[1, 1, 7, 7]], rtol=0, atol=1e-5)


def test_what_cannot_be_a_weight_is_refused():
    """A weight lies from 0 to 1."""
    for wrong in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match="difference_weight"):
            TextModality(model="x", difference_weight=wrong)


def test_evaluations_take_plain_log_probabilities(tiny):
    """Digests and scores of an evaluation are those without weights, whether the two of a pair share a batch or not."""
    plain, weighted = (TextModality(model=str(tiny), difference_weight=weight) for weight in (None, 0.1))
    assert weighted.fingerprint() != plain.fingerprint() == weighted.for_evaluation().fingerprint()
    assert plain.fingerprint().keys() == {"tokens", "dtype", "load_in_4bit"}  # what was cached before stays valid
    assert replace(weighted, difference_weight=0.2).fingerprint() != weighted.fingerprint()
    model = plain.build()
    subjects = [Subject("m", modality, model) for modality in (plain, weighted)]
    assert subjects[0].digest == subjects[1].digest
    assert subjects[0].scores(_examples()) == subjects[1].scores(_examples())


@pytest.fixture
def train(tiny, tmp_path, monkeypatch):
    """`train(modality keys, reference kind, trainer keys, loss)`: rows of metrics.jsonl of a short run."""
    monkeypatch.setenv("DPOFRAME_CACHE", str(tmp_path / "cache"))
    rows = [{"prompt": one.prompt, "chosen": one.response, "rejected": _edited(str(one.response))} for one in _examples()[:6]]
    # A response that stands in two pairs has another score in each.
    rows.append({**rows[1], "rejected": "the cat"})
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    host = PluginHost(entry_points=[])
    host.register(dpoframe_text, "text")

    def go(weight: float | None, kind: str = "copy", loss: Any = "sigmoid", **trainer: Any) -> list[dict[str, Any]]:
        common = {"batch_size": 4, "max_steps": 4, "lr": 0.003, "warmup": 0, "accelerator": "cpu", "devices": 1}
        recipe = {
            "modality": {"name": "text", "model": str(tiny), **({} if weight is None else {"difference_weight": weight})},
            "data": {"name": "jsonl", "path": str(tmp_path / "pairs.jsonl")},
            "loss": loss,
            "reference": {"kind": kind},
            "trainer": common | trainer,
        }
        place = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        done = fit(load_recipe(recipe, host=host), place, host=host)
        return [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]

    return go


def _same(
    one: list[dict[str, Any]], two: list[dict[str, Any]], names=("loss", "rewards/margins", "logps/chosen", "logps/rejected")
):
    assert len(one) == len(two) > 0
    for first, second in zip(one, two, strict=True):
        assert {name: first[name] for name in names} == pytest.approx({name: second[name] for name in names}, rel=1e-5, abs=2e-5)


def test_training_begins_at_equal_scores_and_no_split_changes_it(train):
    """The first loss is ln 2; micro-batches of a pair each and padded rows give the same run; the share that differs is logged."""
    whole = train(0.1)
    assert whole[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert 0 < whole[0]["text/differing"] < 1
    _same(whole, train(0.1, accumulate_grad_batches=4))
    _same(whole, train(0.1, tokens_per_batch=24))
    plain = train(None)
    assert "text/differing" not in plain[0]
    assert abs(plain[0]["logps/chosen"]) > 1.5 * abs(whole[0]["logps/chosen"])
    assert plain[-1]["loss"] != pytest.approx(whole[-1]["loss"], abs=1e-3)


def test_cached_scores_are_those_of_the_weight(train):
    """A cached reference trains as a live one, and what was cached for one weight is never taken for another."""
    live = train(0.1)
    _same(live, train(0.1, "cached"))
    for weight in (0.6, None):
        again = train(weight, "cached")
        assert again[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
        _same(again, train(weight))


@pytest.mark.parametrize("loss", ["kto", {"name": "ipo"}, {"name": "simpo"}, [{"name": "sigmoid"}, {"name": "sft", "weight": 0.1}]])
def test_other_losses_take_weighted_scores(loss, train):
    """Losses that read mismatched examples or divide by lengths train alike in one micro-batch and in four."""
    _same(train(0.1, loss=loss), train(0.1, loss=loss, accumulate_grad_batches=4))
