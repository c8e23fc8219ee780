"""`dpoframe quickstart-images`: its recipe and suite, what it says, and, slowly, the real run."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from dpoframe_diffusion.example import quickstart
from dpoframe_diffusion.example.bolder_pairs import bolder_pairs
from dpoframe_diffusion.example.digits import SIDE, as_media, caption
from dpoframe_diffusion.example.grid import GAP, HEAD, SHOWN, ZOOM, grid
from dpoframe_diffusion.example.told import table

from dpoframe.cli import main
from dpoframe.cli.termination import terminable
from dpoframe.config import load_recipe
from dpoframe.harness import load_suite


def test_recipe_parses() -> None:
    """The recipe is whole, evaluates the example's suite, and frames pictures to the size that the base was made for."""
    recipe = load_recipe("digits-bold")
    assert recipe.evaluate == ("digits",)
    assert recipe.modality.value.framing.resolution == SIDE
    assert recipe.data.options["split"] == "train"


def test_suite_asks_for_every_digit() -> None:
    """The suite asks for each digit by the caption that the base was trained on, and its pairs are the held-out ones."""
    suite = load_suite("digits")
    assert {prompt.meta["digit"]: prompt.content for prompt in suite.prompts} == {label: caption(label) for label in range(10)}
    assert len(suite.pairs) > 100
    pairs = load_recipe("digits-bold").data.options["pairs"]
    training = {side.digest() for pair in bolder_pairs("train", pairs) for side in (pair.chosen, pair.rejected)}
    assert not training & {side.digest() for pair in suite.pairs for side in (pair.chosen, pair.rejected)}


def test_missing_scikit_learn_names_the_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without scikit-learn the verb ends with exit code 3 and the exact command, and writes nothing."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "sklearn" else real(name, *rest))
    assert main(["quickstart-images", "--out", str(tmp_path / "run")]) == 3
    assert "pip install 'dpoframe-diffusion[example]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_failure_of_a_step_is_passed_on(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A command that fails is told by itself on stderr; its exit code and its JSON document become the verb's."""
    ended = quickstart.called("compare", str(tmp_path / "nowhere"))
    assert ended.code == 3
    assert "nowhere" in ended.document["error"]["message"]
    assert "nowhere" in capfd.readouterr().err
    assert quickstart.failed(ended) == 3


def test_signal_reaches_the_running_command() -> None:
    """SIGTERM to the verb alone is handed to the command that runs; the verb waits until that has saved, and ends then."""
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), sys.exit(5)))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(KeyboardInterrupt), terminable():
            quickstart.answer(child)
        assert child.returncode == 5


def test_table_shows_every_figure_with_its_interval() -> None:
    """A row holds base, aligned and difference with their bounds, and a bound that is not known is a dash."""
    figures = {"value": 0.25, "ci_low": 0.2, "ci_high": 0.3}
    row = {"metric": "ink", "unit": "ink", "before": figures, "after": {**figures, "ci_low": None}, "verdict": "better"}
    shown = table([{**row, "difference": {"value": 0.05, "ci_low": -0.01, "ci_high": 0.11}}])
    line = shown.splitlines()[1]
    for part in ("ink (ink)", "0.250 [0.200, 0.300]", "0.250 [-, 0.300]", "+0.050 [-0.010, +0.110]", "better"):
        assert part in line


@pytest.mark.parametrize(
    ("aim", "health", "says"),
    [
        ((0.02, 0.03), (-0.1, 0.1), ("The strokes are bolder", "no change of legibility is shown")),
        ((-0.01, 0.03), (-0.2, -0.1), ("not shown that the strokes are bolder", "legibility fell")),
        ((0.02, 0.03), (0.01, 0.1), ("The strokes are bolder", "legibility rose")),
    ],
)
def test_verdict_follows_from_the_intervals(aim: tuple[float, float], health: tuple[float, float], says: tuple[str, str]) -> None:
    """An effect is claimed only where its interval excludes 0, and harm to legibility is said."""
    metrics = {
        name: {"difference": {"value": sum(bounds) / 2, "ci_low": bounds[0], "ci_high": bounds[1]}}
        for name, bounds in (("ink", aim), ("legibility", health))
    }
    assert all(part in quickstart.verdict(metrics) for part in says)


def test_grid_lays_base_left_and_aligned_right(tmp_path: Path) -> None:
    """A row a prompt in the order of the suite, seeds from left to right, base and aligned at the same places."""
    from PIL import Image

    greys = {("base/eval", 0): 40, ("base/eval", 1): 80, ("eval", 0): 120, ("eval", 1): 160}
    for place in ("base/eval", "eval"):
        folder = tmp_path / place / "digits"
        folder.mkdir(parents=True)
        lines = []
        for number in (1, 0):  # out of order on purpose
            media = as_media(Image.new("RGB", (SIDE, SIDE), (greys[place, number],) * 3))
            (folder / f"{number}.png").write_bytes(media.data or b"")
            lines.append(json.dumps({"id": f"seven#{number}", "response": {"media": "image", "path": f"{number}.png"}}))
        (folder / "samples.jsonl").write_text("\n".join(lines))
    seen = np.asarray(grid(tmp_path, "digits").convert("L"))
    cell, half = SIDE * ZOOM, SHOWN * SIDE * ZOOM
    assert seen.shape == (HEAD + cell, 2 * half + GAP)
    for (place, number), value in greys.items():
        left = (0 if place == "base/eval" else half + GAP) + number * cell
        assert (seen[HEAD : HEAD + cell, left : left + cell] == value).all()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_real_quickstart(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base draws digits that can be read; aligned, its strokes are bolder, the interval excludes 0, and they can still be
    read. A second call shows the same figures without training anything.
    """
    from diffusers import StableDiffusionPipeline

    monkeypatch.setenv("DPOFRAME_CACHE", str(tmp_path / "cache"))
    words = ["quickstart-images", "--out", str(tmp_path / "run"), "--json"]
    assert main(words) == 0
    found = json.loads(capfd.readouterr().out)
    metrics = found["metrics"]
    assert metrics["ink"]["difference"]["ci_low"] > 0.015
    assert metrics["legibility"]["before"]["value"] > 0.9
    assert metrics["legibility"]["after"]["value"] > 0.9
    assert metrics["legibility"]["difference"]["ci_high"] >= 0.0
    assert metrics["preference_accuracy"]["after"]["value"] > 0.9
    assert found["base"]["fresh"]
    assert Path(found["grid"]).is_file()
    assert Path(found["report"]).is_file()
    pipeline = StableDiffusionPipeline.from_pretrained(found["base"]["folder"])
    pipeline.load_lora_weights(found["model"])
    assert main(words) == 0
    again = json.loads(capfd.readouterr().out)
    assert (again["metrics"], again["base"]["fresh"]) == (metrics, False)
