"""What may differ where a run goes on, what may not, and that what was allowed takes effect and is told of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dpoframe import CheckpointError, ConfigError, DataError
from dpoframe.train.changes import differences
from dpoframe.train.fit import fit


@pytest.fixture
def go_on(host: Any, make_recipe: Any, tmp_path: Path) -> Callable[..., Any]:
    """`go_on("name", *changes, allow=(...), **sections)` resumes a run whose model is gone, from its first half."""

    def resume(name: str, *changes: str, allow: tuple[str, ...] = (), **sections: Any) -> Any:
        folder = tmp_path / name
        shutil.rmtree(folder / "model", ignore_errors=True)
        for file in (folder / "checkpoints").glob("step-00000006.*"):
            file.unlink()
        recipe = make_recipe("trainer.max_steps=6", "trainer.save_every=3", *changes, **sections)
        return fit(recipe, folder, resume=True, allow_changes=allow, host=host)

    return resume


@pytest.fixture
def whole(run: Any) -> Any:
    """A run of six steps with a checkpoint after the third."""
    return run("run", "trainer.max_steps=6", "trainer.save_every=3")


def test_an_allowed_rate_takes_effect(whole: Any, go_on: Any, look: Any) -> None:
    """The new rate holds from the checkpoint on, by the schedule's own factors, and changes.jsonl says so."""
    before = [row["lr"] for row in look.rows(whole)]
    assert go_on("run", "trainer.lr=0.04", allow=("trainer.lr",)).status == "finished"
    after = [row["lr"] for row in look.rows(whole)]
    assert after[:3] == before[:3]
    assert after[3:] == pytest.approx([2 * rate for rate in before[3:]])
    (line,) = (whole.folder / "changes.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 3, "item": "trainer.lr", "change": "the run has 0.02, the recipe now says 0.04."}


def test_allowed_decay_and_betas_take_effect(whole: Any, go_on: Any, look: Any) -> None:
    """Weight decay and betas of the recipe replace the checkpoint's: the end is another, and equals that of no other change."""
    old = look.weights(whole)
    go_on("run", "trainer.weight_decay=0.5", allow=("trainer.weight_decay",))
    decayed = look.weights(whole)
    assert any(not torch.equal(value, old[name]) for name, value in decayed.items())
    go_on("run", "trainer.betas=[0.5, 0.9]", "trainer.weight_decay=0.5", allow=("trainer",))
    assert any(not torch.equal(value, decayed[name]) for name, value in look.weights(whole).items())


def test_nothing_changed_is_exact_though_it_might(whole: Any, go_on: Any, look: Any) -> None:
    """A leave that nobody takes changes not a bit, and leaves no note."""
    rows, weights = look.rows(whole), look.weights(whole)
    go_on("run", allow=("trainer.lr", "data", "weights"))
    assert look.rows(whole) == rows
    assert all(torch.equal(value, weights[name]) for name, value in look.weights(whole).items())
    assert not (whole.folder / "changes.jsonl").exists()


def test_another_tokenizer_is_refused_by_name(whole: Any, go_on: Any, make_recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe is the same, but the modality reads texts in another way: the part of its fingerprint is named."""
    kind = type(make_recipe().modality.value)
    plain = kind.fingerprint
    monkeypatch.setattr(kind, "fingerprint", lambda self: {**plain(self), "tokens": "other"})
    with pytest.raises(ConfigError, match=r"began with(.|\n)*modality\.tokens: the run has None, the model now gives 'other'"):
        go_on("run")
    assert go_on("run", allow=("modality.tokens",)).status == "finished"
    assert '"modality.tokens"' in (whole.folder / "changes.jsonl").read_text()


def test_other_weights_are_refused(whole: Any, go_on: Any, make_recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base changed under the same name: one value of one tensor is enough where the tensor is small."""
    kind = type(make_recipe().modality.value)
    plain = kind.build

    def build(self: Any) -> nn.Module:
        made = plain(self)
        with torch.no_grad():
            next(made.parameters()).view(-1)[0] += 1
        return made

    monkeypatch.setattr(kind, "build", build)
    with pytest.raises(ConfigError, match="weights: the model's weights before training are not those"):
        go_on("run")
    assert go_on("run", allow=("weights",)).status == "finished"


def test_weights_of_another_shape_are_no_change_to_allow(whole: Any, go_on: Any) -> None:
    """The message names the first of them and both shapes. A split model would take the rows that it finds."""
    modality = {"name": "measured", "width": 6}
    with pytest.raises(CheckpointError, match=r"embedding\.weight has the shape \(29, 8\) there, and \(29, 6\) in the model"):
        go_on("run", modality=modality, allow=("modality", "weights"))


def test_other_data_can_be_allowed(run: Any, go_on: Any, tmp_path: Path) -> None:
    """Pairs that were added since the run began are refused with the way to allow them."""
    file = tmp_path / "pairs.jsonl"
    lines = [json.dumps({"prompt": f"say {n}", "chosen": "a" * (n + 1), "rejected": "b" * (n + 1)}) for n in range(9)]
    data = {"name": "jsonl", "path": str(file)}
    file.write_text("\n".join(lines[:8]))
    run("run", "trainer.max_steps=6", "trainer.save_every=3", data=data)
    file.write_text("\n".join(lines))
    with pytest.raises(DataError, match="--allow-change data"):
        go_on("run", data=data)
    assert go_on("run", data=data, allow=("data",)).status == "finished"
    assert "had 8 usable pairs, and has 9 now" in (tmp_path / "run" / "changes.jsonl").read_text()


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ("trainer.lrr", r"there is nothing of that name\. Did you mean 'trainer\.lr'"),
        ("trainer.optimizer", "its state is of no use there"),
        ("reference.kind", "its state is of no use there"),
    ],
)
def test_what_cannot_change_is_told(item: str, told: str, whole: Any, go_on: Any) -> None:
    """A misspelt item, and keys that the checkpoint's state belongs to."""
    with pytest.raises(ConfigError, match=told):
        go_on("run", allow=(item,))


def test_a_section_does_not_allow_what_is_fixed(whole: Any, go_on: Any) -> None:
    """Leave for the whole trainer section is no leave for another optimizer."""
    with pytest.raises(ConfigError, match=r"trainer\.optimizer"):
        go_on("run", "trainer.optimizer=sgd", allow=("trainer",))


KEPT = {"suites": [], "every": 3, "keep_best": {"metric": "small/good", "direction": "higher"}, "patience": 2}


def changed(make_recipe: Any, before: dict[str, Any], after: dict[str, Any], *overrides: str) -> list[str]:
    """The keys that are named where a run of one recipe goes on with another."""
    then = json.loads(json.dumps(make_recipe(**before).to_dict()))
    return [fault.where for fault in differences(then, make_recipe(*overrides, **after))]


@pytest.fixture
def suite(tmp_path: Path) -> str:
    """The file of a suite without evaluators."""
    (tmp_path / "suite.yaml").write_text("name: other\nversion: 1\nevaluators: []\n")
    return str(tmp_path / "suite.yaml")


def test_evaluations_that_decide_may_not_change_unasked(make_recipe: Any, suite: str) -> None:
    """With the best weights kept, each key of the evaluations decides on the weights or the end; each is named."""
    keep = "evaluate.keep_best"
    for key, value in (("every", 2), ("patience", 1), ("limit", 5), ("suites", [suite])):
        assert changed(make_recipe, {"evaluate": KEPT}, {"evaluate": KEPT | {key: value}}) == [f"evaluate.{key}"]
    lower = {"metric": "small/good", "direction": "lower"}
    assert changed(make_recipe, {"evaluate": KEPT}, {"evaluate": KEPT | {"keep_best": lower}}) == [f"{keep}.direction"]
    began = changed(make_recipe, {}, {"evaluate": KEPT})
    assert began == changed(make_recipe, {"evaluate": KEPT}, {})
    assert {"evaluate.every", "evaluate.patience", f"{keep}.metric"} <= set(began)


def test_evaluations_that_watch_are_free(make_recipe: Any, suite: str) -> None:
    """Suites at the end, and evaluations on the way by which nothing is kept, may come, go and differ."""
    watched = {"suites": [], "every": 3, "limit": 4}
    for before, after in (({}, {"evaluate": watched}), ({"evaluate": watched}, {"evaluate": [suite]})):
        assert changed(make_recipe, before, after) == []


def test_arguments_of_lightning_may_not_change_unasked(make_recipe: Any, whole: Any, go_on: Any) -> None:
    """They may be anything, so none is free; the one that is new is named, and the empty section is not."""
    assert changed(make_recipe, {}, {}, "trainer.lightning={sync_batchnorm: true}") == ["trainer.lightning.sync_batchnorm"]
    with pytest.raises(ConfigError, match=r"trainer\.lightning\.deterministic: the run has None, the recipe now says True"):
        go_on("run", "trainer.lightning={deterministic: true}")
    again = go_on("run", "trainer.lightning={benchmark: false}", allow=("trainer.lightning",))
    assert again.status == "finished"
