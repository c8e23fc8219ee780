"""A suite, a toy model and evaluators in small, shared by the tests of the harness."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpoframe.harness import Subject
from dpoframe.plugins import PluginHost, using
from dpoframe.testing import toy

SUITE = """
name: small
version: 1
description: Toy answers.
prompts: prompts.jsonl
pairs: {name: toy, count: 12, seed: 3}
generation: {max_new_tokens: 10, temperature: 1.0}
samples: 2
seed: 5
evaluators:
  - {name: response_length}
  - finished
  - {name: degeneration, window: 4}
  - base_logp
  - contains_expected
  - preference_accuracy
  - reward_margin
"""


@pytest.fixture
def plugins() -> Iterator[PluginHost]:
    """The core's parts and the toy modality, and nothing that happens to be installed."""
    made = PluginHost([])
    made.register(toy, "toy")
    with using(made):
        yield made


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    """A suite with five prompts, two answers each, and twelve pairs."""
    rows = [{"id": f"p{number}", "prompt": f"say {letter}", "expect": [letter]} for number, letter in enumerate("abcde")]
    rows[4].pop("expect")
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = tmp_path / "small.yaml"
    file.write_text(SUITE)
    return file


@pytest.fixture
def subject() -> Subject:
    """A toy model with random weights."""
    modality = toy.ToyModality()
    return Subject("toy", modality, modality.build())


@pytest.fixture
def other() -> Subject:
    """Another toy model."""
    modality = toy.ToyModality(init_seed=1)
    return Subject("other", modality, modality.build())
