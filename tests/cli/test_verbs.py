"""The verbs config, recipes, suites and doctor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dpoframe import hookimpl
from dpoframe.cli import examination, main
from dpoframe.config import load_recipe
from dpoframe.plugins import PluginHost, using
from dpoframe.testing.toy import ToyModality


class Toys:
    """A plugin with a modality, a recipe and suites."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "toy.yaml").write_text(
            "description: Prefers vowels.\nmodality: toy\ndata: {name: jsonl, path: pairs.jsonl}\ntrainer: {max_steps: 3}\n"
        )
        (folder / "suite.yaml").write_text("# Counts vowels.\nname: vowels\n")
        (folder / "broken.yaml").write_text("a: [\n")

    @hookimpl
    def dpoframe_modalities(self) -> dict[str, Any]:
        """The toy."""
        return {"toy": ToyModality}

    @hookimpl
    def dpoframe_recipes(self) -> dict[str, Path]:
        """Its recipe."""
        return {"toy": self.folder / "toy.yaml"}

    @hookimpl
    def dpoframe_suites(self) -> dict[str, Path]:
        """Its suites."""
        return {"vowels": self.folder / "suite.yaml", "broken": self.folder / "broken.yaml"}


@pytest.fixture
def toys(tmp_path: Path) -> Iterator[PluginHost]:
    """A host with the toys alone."""
    host = PluginHost(entry_points=[], disabled=[])
    host.register(Toys(tmp_path), "toys")
    with using(host):
        yield host


def test_config_shows_the_resolved_recipe(toys: PluginHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `config` prints, as YAML and as JSON, is the recipe with the change applied."""
    assert main(["config", "toy", "--set", "trainer.lr=1e-4"]) == 0
    file = tmp_path / "printed.yaml"
    file.write_text(capsys.readouterr().out)
    expected = load_recipe("toy", ["trainer.lr=1e-4"], toys)
    assert load_recipe(file, host=toys) == expected
    assert main(["config", "toy", "--set", "trainer.lr=1e-4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == expected.to_dict()


@pytest.mark.usefixtures("toys")
def test_config_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong recipe ends with 2, its faults on stderr and in the document."""
    assert main(["config", "toy", "--set", "trainer.lrr=1", "--set", "modality.widht=2", "--json"]) == 2
    out, err = capsys.readouterr()
    assert [fault["where"] for fault in json.loads(out)["error"]["faults"]] == ["modality.widht (--set)", "trainer.lrr (--set)"]
    assert "Did you mean 'width'?" in err
    assert main(["config"]) == 2


@pytest.mark.usefixtures("toys")
def test_config_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """--schema prints a JSON Schema, the same with and without --json."""
    assert main(["config", "--schema"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main(["config", "--schema", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == plain
    assert plain["required"] == ["modality", "data"]


@pytest.mark.usefixtures("toys")
def test_listings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Recipes and suites are listed with what they do and who supplies them; an unreadable file stops nothing."""
    assert main(["recipes", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows == [{"name": "toy", "description": "Prefers vowels.", "distribution": "", "path": str(tmp_path / "toy.yaml")}]
    assert main(["suites"]) == 0
    out = capsys.readouterr().out
    assert "Counts vowels." in out
    assert "cannot be read: ParserError" in out


@pytest.mark.usefixtures("toys")
def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    """The doctor finds this machine usable, and says so in the document and the exit code."""
    code = main(["doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert code == (0 if document["usable"] else 3)
    found = {finding["what"]: finding for finding in document["findings"]}
    assert {"python", "torch", "lightning", "processor", "disk here", "other evaluators", "plugin toys"} <= set(found)
    assert found["torch"]["status"] == "ok"
    assert all(finding["fix"] for finding in found.values() if finding["status"] in ("broken", "warning"))


def statuses(check: Any) -> list[str]:
    """The statuses of a check's findings."""
    return [finding.status for finding in check()]


def test_doctor_finds_malware(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The two malicious versions of lightning are broken, and the doctor ends with 3."""
    monkeypatch.setattr(examination, "version", lambda name: "2.6.3" if name == "lightning" else "")
    (finding,) = examination.lightning()
    assert finding.status == "broken"
    assert "!=2.6.2,!=2.6.3" in finding.fix
    monkeypatch.setattr(examination, "examine", lambda: [finding])
    assert main(["doctor"]) == 3
    assert "attacker" in capsys.readouterr().out


def test_doctor_finds_torchvision_for_another_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torchvision that asks for another torch is found from its metadata, without importing it."""
    monkeypatch.setattr(examination, "version", {"torchvision": "0.99.0", "torch": "2.13.0+cpu"}.get)
    monkeypatch.setattr(examination.metadata, "requires", lambda name: ["numpy", "torch==2.99.0", 'gdown>=4; extra == "x"'])
    (finding,) = examination.torchvision()
    assert finding.status == "broken"
    assert "torch 2.99.0" in finding.found
    assert "pip uninstall torchvision" in finding.fix


def test_doctor_finds_torchvision_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A torchvision of the right version and the wrong build is found by importing it in a process of its own."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(examination, "version", {"torchvision": "0.28.0", "torch": "2.13.0+cpu"}.get)
    monkeypatch.setattr(examination.metadata, "requires", lambda name: ["torch (==2.13.0)"])
    (finding,) = examination.torchvision()
    assert finding.status == "broken"
    assert "operator torchvision::nms does not exist" in finding.found


def test_doctor_sees_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little room is a warning, next to none is broken."""
    for free, status in ((0.1, "broken"), (2.0, "warning"), (50.0, "ok")):
        usage = SimpleNamespace(free=int(free * 2**30))
        monkeypatch.setattr(examination.shutil, "disk_usage", lambda folder, usage=usage: usage)
        assert statuses(examination.disk) == [status, status]


def test_doctor_sees_broken_plugins() -> None:
    """A broken plugin and a clash are warnings with a fix; dpoframe stays usable."""

    class Misspelt:
        @hookimpl
        def dpoframe_modalitys(self) -> dict[str, Any]:
            return {}

    class Twin:
        @hookimpl
        def dpoframe_modalities(self) -> dict[str, Any]:
            return {"toy": ToyModality}

    host = PluginHost(entry_points=[], disabled=[])
    host.register(Twin(), "one")
    host.register(Twin(), "two")
    host._plugins.append(examination_plugin(Misspelt()))
    with using(host):
        found = {finding.what: finding for finding in examination.plugins()}
    assert found["plugin misspelt"].status == "warning"
    assert "dpoframe_modalitys" in found["plugin misspelt"].found
    assert found["modality toy"].found == "is supplied by one, two; a recipe cannot name it"
    assert "DPOFRAME_DISABLE_PLUGINS=two" in found["modality toy"].fix


def examination_plugin(module: Any) -> Any:
    """The broken plugin that an object makes."""
    from dpoframe.plugins.loading import inspect_plugin

    return inspect_plugin("misspelt", module)


def test_doctor_sees_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """More threads than cores, or a busy machine, is a warning that names the setting."""
    monkeypatch.setattr(examination.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    for load, threads, status in ((0.1, 2, "ok"), (9.0, 2, "warning"), (9.0, 1, "ok"), (0.0, 8, "warning")):
        monkeypatch.setattr(examination.os, "getloadavg", lambda load=load: (load, 0, 0), raising=False)
        monkeypatch.setattr(examination, "_threads", lambda threads=threads: threads)
        assert statuses(examination.processor) == [status]
