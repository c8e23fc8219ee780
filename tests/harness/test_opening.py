"""From what a person calls a model to a subject, and the errors on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from dpoframe import DataError, Example, Measure, Modality, hookimpl
from dpoframe.checkpoint import export
from dpoframe.errors import CheckpointError, ConfigError, MissingExtraError, UnknownNameError
from dpoframe.harness import EvalFolder, load_suite, opening
from dpoframe.harness.evaluate import evaluate, folder_name
from dpoframe.harness.opening import find, split
from dpoframe.plugins import PluginHost, using
from dpoframe.testing.toy import ToyModality


@dataclass(frozen=True)
class Texts(ToyModality):
    """Stands for the text modality: `model` names what it loads."""

    model: str = ""
    chat: str = "auto"

    def measure(self, example: Example) -> Measure:
        """As the toy; messages need a template that it lacks."""
        if self.chat == "auto" and not isinstance(example.prompt, str):
            raise DataError("The data holds chat messages, and the model has no chat template.")
        return super().measure(example)


@dataclass(frozen=True)
class Drawings(Texts):
    """A modality that knows its own folders."""

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """By a file of theirs."""
        return (folder / "model_index.json").is_file()


class DrawingPlugin:
    """A plugin with that modality, and one that cannot be imported."""

    @hookimpl
    def dpoframe_modalities(self) -> dict[str, type[Modality] | str]:
        """The two, the broken one first."""
        return {"broken": "no_such_module_at_all:Broken", "drawings": Drawings}


class TextPlugin:
    """A plugin with a modality `text`."""

    @hookimpl
    def dpoframe_modalities(self) -> dict[str, type[Modality]]:
        """The stand-in."""
        return {"text": Texts}


@pytest.fixture
def texts(plugins: PluginHost) -> PluginHost:
    """The host of the tests with the stand-in for text."""
    plugins.register(TextPlugin(), "texts")
    return plugins


def trained(modality: ToyModality, folder: Path) -> Path:
    """A run folder whose model has moved away from where it began."""
    model = modality.build()
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter)
    folder.mkdir()
    (folder / "recipe.yaml").write_text("name: lesson\nseed: 3\n")
    export(modality, model, folder / "model", "A toy.", name="toy")
    return folder


@pytest.mark.parametrize("adapter", [False, True])
def test_run_folder(adapter: bool, plugins: PluginHost, suite_file: Path, tmp_path: Path) -> None:
    """A run folder opens as the aligned model, its base is the model before training, and results go into the run."""
    modality = ToyModality(adapter=adapter)
    run = trained(modality, tmp_path / "run")
    (result,) = evaluate(str(run), [suite_file], plugins=plugins)
    assert result.folder == run / "eval" / "small"
    assert result.model == "toy aligned by lesson"
    about = EvalFolder(result.folder).document("manifest.json")
    assert about["base"] == "toy"
    before = modality.build()
    example = Example("say a", "aeiou", 0, "x")
    found = find(str(run), plugins=plugins)
    subject = found.subject()
    base = found.before(subject)
    assert base is not None
    expected = float(modality.score(before, modality.collate([example])).value.detach())
    assert base.scores([example])[0][0] == pytest.approx(expected, abs=1e-5)
    assert subject.scores([example])[0][0] != pytest.approx(expected, abs=1e-3)
    assert result.metrics["preference_accuracy/tie_rate"].interval.value < 1


def test_exported_folder_alone(plugins: PluginHost, suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that was moved out of its run opens too; its results go below eval/ here, under its name."""
    run = trained(ToyModality(), tmp_path / "run")
    (run / "model").rename(tmp_path / "alone")
    monkeypatch.chdir(tmp_path)
    (result,) = evaluate("alone", [suite_file], plugins=plugins)
    assert result.folder == Path("eval/alone/small")
    assert result.complete


def test_a_model_that_is_its_own_base_is_told(texts: PluginHost, suite_file: Path, tmp_path: Path) -> None:
    """Of a model without a known base, preference and KL figures say nothing; whoever names none is told which those are."""
    with pytest.warns(RuntimeWarning, match=r"itself \(base_logp, preference_accuracy, reward_margin\): name one with --base"):
        evaluate("someone/model", [suite_file], plugins=texts, out=tmp_path / "out")
    evaluate("someone/model", [suite_file], plugins=texts, out=tmp_path / "out", base="someone/else")


def test_another_base(plugins: PluginHost, suite_file: Path, tmp_path: Path) -> None:
    """`base` names the model to compare with; against itself every margin is 0."""
    run = trained(ToyModality(), tmp_path / "run")
    (result,) = evaluate(str(run), [suite_file], plugins=plugins, base=str(run / "model"), out=tmp_path / "out")
    assert result.folder == tmp_path / "out" / "small"
    assert result.metrics["reward_margin"].interval.value == 0.0


def test_a_base_that_cannot_be_had(plugins: PluginHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the model before training is gone a warning says so, and margins compare the model with itself."""
    run = trained(ToyModality(), tmp_path / "run")
    found = find(str(run), plugins=plugins)
    subject = found.subject()

    def gone(self: ToyModality) -> Any:
        raise CheckpointError("There is no model at 'gone'.")

    monkeypatch.setattr(ToyModality, "build", gone)
    with pytest.warns(RuntimeWarning, match="cannot be had, so margins compare it with itself: There is no model at 'gone'"):
        assert found.before(subject) is None


def test_what_dpoframe_did_not_write_is_text(texts: PluginHost, tmp_path: Path) -> None:
    """A folder of another library, and a name on the hub, go to the text modality, with the changes that were asked for."""
    place = tmp_path / "llama"
    place.mkdir()
    assert find(str(place), plugins=texts).folder == place
    found = find("someone/model", {"width": 4}, texts)
    assert (found.modality, found.folder, found.base) == (Texts(width=4, model="someone/model"), None, "")
    (place / "adapter_config.json").write_text("{}")
    assert find(str(place), plugins=texts).base == f"base of {place}"


def test_a_modality_recognises_its_own_folders(texts: PluginHost, tmp_path: Path) -> None:
    """What another modality recognises is opened by it, broken ones passed over; a name on the hub needs `modality.name`."""
    texts.register(DrawingPlugin(), "drawing")
    place = tmp_path / "pipeline"
    place.mkdir()
    assert type(find(str(place), plugins=texts).modality) is Texts
    (place / "model_index.json").write_text("{}")
    found = find(str(place), {"width": 4}, texts)
    assert (found.modality, found.folder) == (Drawings(width=4, model=str(place)), place)
    assert find("someone/model", {"name": "drawings"}, texts).modality == Drawings(model="someone/model")
    with pytest.raises(UnknownNameError, match="drawings"):
        find("someone/model", {"name": "drawing"}, texts)


def test_without_the_text_plugin(plugins: PluginHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the text modality is not installed the error is the line that installs it."""
    monkeypatch.setattr(opening.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install dpoframe-text"):
        find("someone/model", plugins=plugins)


def test_missing_and_unreadable_models(texts: PluginHost, plugins: PluginHost, tmp_path: Path) -> None:
    """A path that leads nowhere, a run without a model, and a record that is no JSON are told apart, with what to do."""
    (tmp_path / "runs" / "good").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"There is no folder .*goood\. .*runs holds: good"):
        find(str(tmp_path / "runs" / "goood"), plugins=texts)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "recipe.yaml").write_text("name: begun\n")
    with pytest.raises(CheckpointError, match="--resume"):
        find(str(tmp_path / "begun"), plugins=texts)
    run = trained(ToyModality(), tmp_path / "run")
    (run / "model" / "dpoframe.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        find(str(run), plugins=plugins)


def test_changes_of_the_modality(plugins: PluginHost, tmp_path: Path) -> None:
    """`modality.x` changes a field of the model's modality; an unknown field is an error that suggests the nearest."""
    run = trained(ToyModality(), tmp_path / "run")
    own, rest = split(["modality.dropout=0.5", "generation.max_new_tokens=3"])
    assert (own, rest) == ({"dropout": 0.5}, ["generation.max_new_tokens=3"])
    assert find(str(run), own, plugins).modality == ToyModality(dropout=0.5)
    with pytest.raises(ConfigError, match=r"modality\.dropot: no such key\. Did you mean 'dropout'\?"):
        find(str(run), {"dropot": 1}, plugins)
    with pytest.raises(ConfigError, match=r"modality\.width: "):
        find(str(run), {"width": "wide"}, plugins)
    with pytest.raises(ConfigError, match="is not of the form"):
        split(["modality.dropout"])


def test_messages_without_a_template(texts: PluginHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite of chat messages on a model without a template ends before any weights are read, with what to set."""
    (tmp_path / "chat.yaml").write_text(
        "name: chat\nversion: 1\nprompts: [{prompt: [{role: user, content: hi}]}]\nevaluators: [finished]\n"
    )
    with monkeypatch.context() as patched:
        patched.setattr(Texts, "build", lambda self: pytest.fail("the model was built"))
        with pytest.raises(DataError, match=r"suite chat asks: .* no chat template.*--set modality\.chat=never"):
            evaluate("someone/model", [tmp_path / "chat.yaml"], plugins=texts, out=tmp_path / "out")
    (result,) = evaluate(
        "someone/model", [tmp_path / "chat.yaml"], plugins=texts, out=tmp_path / "out", changes=["modality.chat=never"]
    )
    assert result.complete


def test_bad_suites_come_before_weights(
    plugins: PluginHost, suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown suite, an unknown key and a suite named twice are errors before a model is opened."""
    run = trained(ToyModality(), tmp_path / "run")
    monkeypatch.setattr(ToyModality, "build", lambda self: pytest.fail("the model was built"))
    with pytest.raises(UnknownNameError, match="No suite is called 'smal'"):
        evaluate(str(run), ["smal"], plugins=plugins)
    with pytest.raises(ConfigError, match="generatoin"):
        evaluate(str(run), [suite_file], changes=["generatoin.max_new_tokens=3"], plugins=plugins)
    with pytest.raises(ConfigError, match="small: is named by two suites"):
        evaluate(str(run), [suite_file, str(suite_file)], plugins=plugins)


def test_limits_have_folders_of_their_own(plugins: PluginHost, suite_file: Path, tmp_path: Path) -> None:
    """A limited evaluation lies beside the whole one; a limit that cuts nothing is none."""
    run = trained(ToyModality(), tmp_path / "run")
    (part,) = evaluate(str(run), [suite_file], limit=2, plugins=plugins)
    (whole,) = evaluate(str(run), [suite_file], plugins=plugins)
    assert (part.folder.name, part.limit, part.complete) == ("small-limit-2", 2, False)
    assert (whole.folder.name, whole.limit, whole.complete) == ("small", None, True)
    assert folder_name(load_suite(suite_file, plugins), 99) == "small"


@pytest.fixture
def rivalry(plugins: PluginHost, tmp_path: Path) -> Iterator[Path]:
    """A suite whose evaluator compares with the base's answers."""
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom typing import ClassVar\nfrom dpoframe import Evaluator, EvaluatorSpec, Scale\n\n\n"
        "@dataclass(frozen=True)\nclass Same(Evaluator):\n    '''Whether both say the same.'''\n\n"
        "    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec('same', '1', 'rival', {'same': Scale(0.0, 1.0)}, 'same')\n\n"
        "    def score(self, sample):\n        return {'same': float(sample.response == sample.meta['rival'])}\n"
    )
    (tmp_path / "rivalry.yaml").write_text(
        f"name: rivalry\nversion: 1\nprompts: [say a, say b, say c]\nevaluators: ['{tmp_path / 'mine.py'}:Same']\n"
    )
    with using(plugins):
        yield tmp_path / "rivalry.yaml"


def test_the_base_answers_where_its_answers_are_asked_for(rivalry: Path, plugins: PluginHost, tmp_path: Path) -> None:
    """An evaluator that compares answers has the base evaluated first, into the run's own place for it."""
    run = trained(ToyModality(), tmp_path / "run")
    (result,) = evaluate(str(run), [rivalry], plugins=plugins)
    base = EvalFolder(run / "base" / "eval" / "rivalry")
    assert (result.metrics["same"].interval.n, result.metrics["same"].unscored) == (3, 0)
    answers = {row.id: row.response for row in base.samples()}
    rows = [json.loads(text) for text in (result.folder / "samples.jsonl").read_text().splitlines()]
    assert {row["id"]: row["meta"]["rival"] for row in rows} == answers
