"""Published preference sets are read as they are."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("text_pref/hh_rlhf_harmless_base_sample.jsonl.gz", {"rows": 1500, "empty-chosen": 4, "prompts-differ": 1}),
        ("text_pref/llamafactory_dpo_en_demo.json", {"rows": 300, "duplicate": 5}),
        ("moderation/xstest_pref_pairs.jsonl", {"rows": 235}),
        ("summarization/summeval_pref_pairs.jsonl", {"rows": 382}),
        ("code/humaneval_pref_pairs.jsonl", {"rows": 205, "duplicate": 69}),
    ],
)
def test_counts(file, counts, real, load):
    """Rows and refusals are those that a look at the files gives."""
    found = dict(load(real / file).counts)
    used = found.pop("train"), found.pop("quarantined"), found.pop("validation")
    assert found == counts
    assert used == (counts["rows"] - sum(list(counts.values())[1:]), sum(list(counts.values())[1:]), 0)


def test_hh_dialogues(real, load):
    """HH-RLHF becomes chat: speakers alternate, the prompt ends with the user, the response is one assistant message."""
    for pair in load(real / "text_pref/hh_rlhf_harmless_base_sample.jsonl.gz").train:
        roles = [message["role"] for message in pair.prompt]
        assert all(one != other for one, other in itertools.pairwise(roles))
        assert (roles[0], roles[-1]) == ("user", "user")
        assert [message["role"] for message in (*pair.chosen, *pair.rejected)] == ["assistant", "assistant"]
        assert "\n\nHuman:" not in pair.chosen[0]["content"]


def test_llamafactory_roles(real, load):
    """The demo's dialogues keep their system prompts and turns."""
    loaded = load(real / "text_pref/llamafactory_dpo_en_demo.json")
    shapes = Counter(len(pair.prompt) for pair in loaded.train)
    assert set(shapes) <= {1, 2, 3, 5, 7, 9, 13}
    assert all(message["role"] in {"system", "user", "assistant"} for pair in loaded.train for message in pair.prompt)


def test_split_by_prompt(real, load):
    """SummEval has several pairs a prompt: a validation split parts none of its 100 articles."""
    loaded = load(real / "summarization/summeval_pref_pairs.jsonl", validation=0.1)
    assert not {pair.prompt for pair in loaded.train} & {pair.prompt for pair in loaded.validation}
    assert 30 <= len(loaded.validation) <= 38


@pytest.mark.parametrize(
    "file",
    ["lm/stories260K_hf/model.safetensors", "aesthetic/cat_normal.png", "image_text/mnist10k.npz", "diffusion/ddpm_mnist.pt",
     "moderation/davidson_labeled_data.csv", "text_pref/llamafactory_kto_en_demo.json", "lm/stories260K_hf/tokenizer_config.json"],
)  # fmt: skip
def test_no_preferences(file, real, load):
    """Files that hold no preferences end in one clear error."""
    from dpoframe import DataError

    with pytest.raises(DataError, match=r"not text|layout of|were refused"):
        load(real / file, name="csv" if file.endswith("csv") else "jsonl")
