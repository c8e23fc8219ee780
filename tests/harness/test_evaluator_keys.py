"""Keys of evaluators that stand in single files, or ask a model of this machine: what is overwritten in place counts."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from dpoframe import Evaluator, EvaluatorSpec, Sample, Scale
from dpoframe.builtin.judge import EndpointJudge, Judge, LocalJudge
from dpoframe.harness.storage.keys import evaluator_key
from dpoframe.plugins.files import load_file, module_name

CODE = """
from dataclasses import dataclass
from typing import ClassVar
from dpoframe import Evaluator, EvaluatorSpec, Scale


@dataclass(frozen=True)
class Mine(Evaluator):
    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec("mine", "1", "response", {"value": Scale()}, "value")

    def score(self, sample):
        return {"value": VALUE}
"""


@dataclass(frozen=True)
class Judged(Evaluator):
    """Has a judge."""

    judge: Judge
    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec("judged", "1", "response", {"value": Scale()}, "value")

    def score(self, sample: Sample) -> dict[str, float]:
        """The same for all."""
        return {"value": 1.0}


def test_an_evaluators_file_is_in_its_key(tmp_path: Path) -> None:
    """Code that was changed in its file is another evaluator once it is imported; while it is not, the key stays."""
    file = tmp_path / "mine.py"

    def key() -> str:
        made: Evaluator = load_file(file).Mine()
        return evaluator_key(made)

    file.write_text(CODE.replace("VALUE", "1.0"))
    first = key()
    file.write_text(CODE.replace("VALUE", "22.0"))
    assert key() == first
    sys.modules.pop(module_name(file))
    second = key()
    sys.modules.pop(module_name(file))
    assert second not in (first, "")
    assert key() == second


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A judge's folder."""
    made = tmp_path / "judge"
    (made / "parts").mkdir(parents=True)
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"weights")
    (made / "parts" / "more.safetensors").write_bytes(b"weights")
    return made


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "parts/more.safetensors"])
def test_a_judges_weights_are_in_the_key(name: str, folder: Path) -> None:
    """Other bytes in the same folder are another judge; other times, a copy elsewhere in its place or a log are not."""

    def key() -> str:
        return evaluator_key(Judged(LocalJudge("text", {"lora": {"model": str(folder)}})))

    first = key()
    os.utime(folder / name, (1, 1))
    (folder / "train.log").write_text("more")
    assert key() == first
    (folder / name).write_bytes(b"others!")
    assert key() != first


def test_a_judge_in_a_file_is_in_the_key(tmp_path: Path) -> None:
    """So is the file of a judge's modality."""
    file = tmp_path / "mine.py"
    file.write_text("one = 1")
    judge = Judged(LocalJudge(f"{file}:Mine"))
    first = evaluator_key(judge)
    file.write_text("one = 2222")
    assert evaluator_key(judge) != first


def test_what_is_not_local_costs_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name on the hub and an endpoint count as they are given; weights that stay as they are are read once."""
    assert LocalJudge("text", {"model": "some/model", "template": "{" * 5000, "bad": "a\0b"}).weights() == ""
    assert EndpointJudge("http://localhost/v1", "m").weights() == ""
    judge = LocalJudge("text", {"model": str(folder)})
    first = judge.weights()
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: pytest.fail("it was read again"))
    assert judge.weights() == first != ""
