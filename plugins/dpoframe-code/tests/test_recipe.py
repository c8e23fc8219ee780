"""The recipe `code-execution`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from dpoframe_code import dpoframe_recipes
from dpoframe_code.problems.built import code_pairs

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


def test_it_trains_on_what_was_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From built pairs to an aligned model: the first step has no margin yet, and what comes out is an adapter that loads."""
    monkeypatch.setenv("DPOFRAME_CACHE", str(tmp_path / "cache"))
    changes = [f"modality.model={small_model(tmp_path / 'small')}", f"data.path={built(tmp_path / 'pairs')}", "data.validation=0"]
    changes += ["modality.lora.top_layers=1", "modality.max_length=256"]
    changes += ["trainer.batch_size=2", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
    words = [word for change in changes for word in ("--set", change)]
    assert main(["train", "code-execution", "--out", str(tmp_path / "run"), *words]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert 0 < rows[0]["text/differing"] < 1
    adapter = json.loads((tmp_path / "run" / "model" / "adapter_config.json").read_text())
    assert adapter["r"] == 16
    assert (tmp_path / "run" / "model" / "adapter_model.safetensors").is_file()


def built(folder: Path) -> Path:
    """A folder of pairs as `dpoframe data build` leaves it."""
    folder.mkdir(exist_ok=True)
    example = Path(code_pairs.example_options["path"])  # type: ignore[attr-defined]
    (folder / "passed.jsonl").write_bytes(example.read_bytes())
    return folder


def small_model(folder: Path) -> Path:
    """A random Llama of two layers, whose tokens are bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}</s>{% endfor %}"
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2}
    config = LlamaConfig(vocab_size=len(letters), max_position_embeddings=1024, bos_token_id=0, eos_token_id=1, **shape)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
