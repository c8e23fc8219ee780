"""The recipe of a classifier, and the pairs that it is trained on, from the data set to a step."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from dpoframe_moderation import dpoframe_recipes
from dpoframe_moderation.classifier.modality import TextClassifier
from dpoframe_moderation.readers.texts import openai_moderation

from dpoframe import Example, PreferencePair
from dpoframe.testing.files import RecipeContract

ROWS = (
    {"prompt": "i hate you all", "H": 1, "V": 0},
    {"prompt": "have a nice day", "S": 0, "H": 0, "V": 0, "HR": 0, "SH": 0, "S3": 0, "H2": 0, "V2": 0},
    {"prompt": "the dog", "V": 0},
)


class TestModerateHead(RecipeContract):
    """The head of a classifier, by cross-entropy."""

    path = dpoframe_recipes()["moderate-head"]


class TestModerate(RecipeContract):
    """The uppermost layers of a classifier, by cross-entropy."""

    path = dpoframe_recipes()["moderate"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three rows as OpenAI publishes them: missing keys are unknown."""
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def pairs(file, form):
    """The pairs of the three texts."""
    return [one for one in openai_moderation(path=str(file), form=form) if isinstance(one, PreferencePair)]


def test_one_pair_a_text(file):
    """The form `labels` names all that is known of a text, and nothing else: right on one side, the opposite on the other."""
    found = {pair.prompt: pair for pair in pairs(file, "labels")}
    assert found["i hate you all"].chosen.splitlines() == ["hate", "not violence", "unsafe"]
    assert found["i hate you all"].rejected.splitlines() == ["not hate", "violence", "not unsafe"]
    # One category is known not to apply, seven nobody judged: neither they nor the verdict are said.
    assert (found["the dog"].chosen, found["the dog"].rejected) == ("not violence", "violence")
    assert [found[row["prompt"]].meta["positive"] for row in ROWS] == [True, False, False]
    assert len(found["have a nice day"].chosen.splitlines()) == 9


def test_one_pair_is_the_sum_of_many(encoder, file):
    """The log-probability of a text's labels together is the sum of those that the form `label` scores one by one."""
    modality = TextClassifier(str(encoder), "openai")
    model = modality.build()
    sums = []
    for form in ("label", "labels"):
        totals = dict.fromkeys((row["prompt"] for row in ROWS), 0.0)
        for pair in pairs(file, form):
            with torch.no_grad():
                batch = modality.collate([Example(pair.prompt, side, 0, pair.id) for side in (pair.chosen, pair.rejected)])
                chosen, rejected = modality.score(model, batch).value.tolist()
            totals[pair.prompt] += chosen - 2 * rejected
        sums.append(totals)
    assert sums[0] == pytest.approx(sums[1], rel=1e-6)


def test_training_from_the_recipe(encoder, file, tmp_path):
    """Head, then layers, are trained on a small encoder, the folder opens, and DPO from there begins at ln 2."""
    from dpoframe.checkpoint.model import open_model
    from dpoframe.config import load_recipe
    from dpoframe.train.fit import fit

    common = [f"data.path={file}", "data.part=all", "trainer.max_epochs=null", "trainer.max_steps=3", "trainer.batch_size=3"]
    fit(load_recipe(dpoframe_recipes()["moderate-head"], [*common, f"modality.model={encoder}"]), tmp_path / "head")
    fit(load_recipe(dpoframe_recipes()["moderate"], [*common, f"modality.model={tmp_path / 'head/model'}"]), tmp_path / "first")
    modality, model = open_model(tmp_path / "first")
    assert isinstance(modality, TextClassifier)
    assert model.config.id2label[0] == "unsafe"
    hard = [
        "loss={name: hs_dpo, gamma: 0.0}",
        "reference.kind=copy",
        "data.form=label",
        f"modality.model={tmp_path / 'first/model'}",
    ]
    fit(load_recipe(dpoframe_recipes()["moderate"], [*common, *hard]), tmp_path / "second")
    row = json.loads((tmp_path / "second" / "metrics.jsonl").read_text().splitlines()[0])
    assert row["loss"] == pytest.approx(math.log(2), rel=1e-6)
    # Attention with a graph rounds its last digit otherwise than without one.
    assert abs(row["rewards/margins"]) < 1e-7
