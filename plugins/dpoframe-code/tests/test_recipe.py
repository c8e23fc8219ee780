"""The recipe `code-execution`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from dpoframe_code import dpoframe_recipes
from dpoframe_code.problems.built import code_pairs
from dpoframe_code.problems.dataset import code_problems
from dpoframe_code.sandbox import Sandbox

from dpoframe.cli import main
from dpoframe.config import load_recipe
from dpoframe.data import load_pairs
from dpoframe.plugins import host

RECIPES = dpoframe_recipes()


def test_recipe_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    """`dpoframe config code-execution` finds no fault in it, and shows what it says."""
    assert main(["config", "code-execution", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    shown = shown.get("recipe", shown)
    written = yaml.safe_load(RECIPES["code-execution"].read_text())
    assert (shown["data"]["name"], shown["data"]["per_problem"]) == ("code_pairs", 4)
    assert [one["name"] for one in shown["loss"]] == [one["name"] for one in written["loss"]]
    assert shown["modality"]["difference_weight"] == written["modality"]["difference_weight"]


def test_training_without_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no pairs were built, training says how they are, and leaves no folder behind."""
    monkeypatch.chdir(tmp_path)
    assert main(["train", "code-execution", "--out", "run"]) == 2
    assert "dpoframe data build --model MODEL --prompts mbpp" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_its_data_are_what_was_built(tmp_path: Path) -> None:
    """The recipe's own data section reads a folder of built pairs; a part is held out, and the evidence stays with each pair."""
    recipe = load_recipe("code-execution", overrides=[f"data.path={built(tmp_path)}", "data.validation=0.4"])
    loaded = load_pairs(recipe.data, host())
    assert (len(loaded.train) + len(loaded.validation), loaded.refused) == (4, [])
    assert {pair.meta["rejected_passed"] for pair in (*loaded.train, *loaded.validation)} == {0.0}


def test_from_problems_to_an_aligned_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """A model's failures are paired with the solutions, the recipe trains on them from no margin on, and an adapter comes out."""
    monkeypatch.setenv("DPOFRAME_CACHE", str(tmp_path / "cache"))
    model, pairs, run = small_model(tmp_path / "small"), tmp_path / "pairs" / "failed.jsonl", tmp_path / "run"
    pairs.parent.mkdir()
    words = ["--model", str(model), "--prompts", "mbpp", "--samples", "2", "--evaluator", "pass_at_k", "--mode", "failed"]
    words += ["--from-reference", "--out", str(pairs), "--answers", str(tmp_path / "drawn")]
    settings = [f"prompts.path={code_problems.example_options['path']}", "prompts.part=all"]  # type: ignore[attr-defined]
    settings += ["generation.max_new_tokens=12", "generation.temperature=1.0"]
    assert main(["data", "build", *words, *set_to(settings)]) == 0
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    assert {(row["chosen_passed"], row["rejected_passed"]) for row in rows} == {(1, 0)}
    changes = [f"modality.model={model}", f"data.path={pairs.parent}", "data.validation=0", "modality.lora.top_layers=1"]
    changes += ["modality.max_length=256", "trainer.batch_size=2", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
    assert main(["train", "code-execution", "--out", str(run), *set_to(changes)]) == 0
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps[0]["rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert 0 < steps[0]["text/differing"] <= 1
    assert json.loads((run / "model" / "adapter_config.json").read_text())["r"] == 16
    assert (run / "model" / "adapter_model.safetensors").is_file()


def set_to(changes: Sequence[str]) -> list[str]:
    """Changes as words of a command."""
    return [word for change in changes for word in ("--set", change)]


def built(folder: Path) -> Path:
    """A folder of pairs as `dpoframe data build` leaves it."""
    folder.mkdir(exist_ok=True)
    example = Path(code_pairs.example_options["path"])  # type: ignore[attr-defined]
    (folder / "passed.jsonl").write_bytes(example.read_bytes())
    return folder


def small_model(folder: Path) -> Path:
    """A random Llama of two layers, whose tokens are bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}</s>{% endfor %}"
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2}
    config = LlamaConfig(vocab_size=len(letters), max_position_embeddings=1024, bos_token_id=0, eos_token_id=1, **shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
