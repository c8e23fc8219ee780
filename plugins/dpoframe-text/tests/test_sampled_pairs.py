"""Pairs of answers that a language model writes: sampled, scored and told before its weights are read what is wrong."""

from __future__ import annotations

import json

import pytest
from dpoframe_text.modality import TextModality

from dpoframe import ConfigError
from dpoframe.harness.pairing.build import Wanted, build_pairs
from dpoframe.harness.pairing.choosing import Rule
from dpoframe.harness.pairing.sampling import Sampling

SETTINGS = ["generation.max_new_tokens=12"]


@pytest.fixture
def sampling(tiny, tmp_path):
    """Five answers to each of two prompts."""
    rows = [{"prompt": "the cat", "reference": "sat on the mat"}, {"prompt": "a dog", "reference": "and a cat"}]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Sampling(str(tiny), str(tmp_path / "prompts.jsonl"), 5)


def test_answers_of_a_language_model_are_paired(sampling, tmp_path):
    """At a temperature of 1 the answers to a prompt differ; the longest goes against the shortest, none is the prompt's."""
    out = tmp_path / "pairs.jsonl"
    wanted = Wanted(better="higher")
    settings = [*SETTINGS, "generation.temperature=1.0"]
    built = build_pairs([], out, "response_length", changes=settings, wanted=wanted, sampling=sampling)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert built.pairs == len(rows) > 0
    assert (built.answers, built.sampled) == (10, tmp_path / "pairs.answers")
    assert {row["prompt"] for row in rows} <= {"the cat", "a dog"}
    assert all(row["score_chosen"] > row["score_rejected"] and row["chosen"] != row["rejected"] for row in rows)


def test_greedy_answers_and_misspelt_settings_are_refused(sampling, tmp_path, monkeypatch):
    """Five answers without a temperature would be one, and a setting that nobody knows is named: before weights are read."""
    monkeypatch.setattr(TextModality, "load", None)
    for settings, said in ((SETTINGS, "the same one each time"), (["generation.temprature=1"], "Did you mean 'temperature'")):
        with pytest.raises(ConfigError, match=said):
            build_pairs(
                [], tmp_path / "p.jsonl", "response_length", changes=settings, wanted=Wanted(better="higher"), sampling=sampling
            )
    assert not (tmp_path / "p.answers").exists()


def test_the_rows_answer_is_chosen_where_the_model_failed(sampling, tmp_path):
    """A random model's answers that loop, or end nowhere, are rejected for the row's answer."""
    out = tmp_path / "pairs.jsonl"
    wanted = Wanted(Rule("failed", from_reference=True))
    settings = [*SETTINGS, "generation.temperature=1.0"]
    build_pairs([], out, "finished", changes=settings, wanted=wanted, sampling=sampling)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows
    assert {(row["prompt"], row["chosen"]) for row in rows} <= {("the cat", "sat on the mat"), ("a dog", "and a cat")}
