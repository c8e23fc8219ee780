"""What README and the tutorial tell a newcomer to type exists and means what they say."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import signal
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "docs/tutorial.md"]
OF_PLUGINS = sorted(
    str(page.relative_to(ROOT)) for name in ("README", "FIGURES") for page in (ROOT / "plugins").glob(f"*/{name}.md")
)


def blocks(page: str, language: str) -> list[str]:
    """Fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


def expanded(block: str) -> list[str]:
    """The lines of a block, the variables that it sets in their places."""
    given = {name: value.strip("'\"") for name, value in re.findall(r"^([A-Z]+)=('[^']*'|\S+)", block, re.M)}
    return [Template(line).safe_substitute(given) for line in block.splitlines()]


def commands(program: str) -> list[tuple[str, list[str]]]:
    """(page, words) of every command line of `program`."""
    whole = [(page, block.replace("\\\n", " ")) for page in (*PAGES, *OF_PLUGINS) for block in blocks(page, "bash")]
    words = [(page, shlex.split(line, comments=True)) for page, block in whole for line in expanded(block)]
    return [(page, line) for page, line in words if program in line[:2]]


@pytest.mark.parametrize(
    ("page", "words"), commands("dpoframe"), ids=lambda value: " ".join(value) if isinstance(value, list) else value
)
def test_every_dpoframe_command_parses(page: str, words: list[str]) -> None:
    """Verb, options and number of arguments of each command exist."""
    from dpoframe.cli import command

    current, rest = command(words[1:]), words[1:]
    context = current.make_context("dpoframe", [], resilient_parsing=True)
    while hasattr(current, "commands"):
        name, current, rest = current.resolve_command(context, rest)
    current.make_context(name, rest)


@pytest.mark.parametrize(
    ("page", "words"),
    [(page, words) for page, words in commands("dpoframe") if words[1] in ("train", "eval")],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_named_recipes_and_suites_exist(page: str, words: list[str]) -> None:
    """A recipe that is trained is a file or a shipped one, and takes every setting that is made; so is a suite."""
    from dpoframe.config import load_recipe
    from dpoframe.plugins import host

    kind, name = ("recipe", words[2]) if words[1] == "train" else ("suite", words[3])
    if not name.endswith(".yaml"):
        assert name in host().names(kind)
    if kind == "recipe" and not name.endswith(".yaml"):
        load_recipe(name, [value for key, value in itertools.pairwise(words) if key == "--set"])


def test_dev_commands_exist() -> None:
    """Each `python3 dev.py VERB` of the pages is a verb of dev.py."""
    source = (ROOT / "dev.py").read_text()
    named = {words[2] for _, words in commands("dev.py")}
    assert {"quickstart", "test"} <= named
    assert all(f'"{verb}":' in source for verb in named)


@pytest.mark.parametrize("page", PAGES)
def test_recipes_are_valid(page: str, tmp_path: Path) -> None:
    """Every YAML block is a valid recipe, or a part of one."""
    from dpoframe.config import load_recipe

    pairs = "".join(json.dumps({"prompt": f"{n}?", "chosen": "yes", "rejected": "no"}) + "\n" for n in range(4))
    (tmp_path / "pairs.jsonl").write_text(pairs)
    whole = next(block for block in blocks(page, "yaml") if block.startswith("# chat.yaml"))
    for block in blocks(page, "yaml"):
        file = tmp_path / "chat.yaml"
        file.write_text(yaml.safe_dump({**yaml.safe_load(whole), **yaml.safe_load(block)}))
        assert load_recipe(file).modality.name == "text"


@pytest.mark.parametrize("page", PAGES)
def test_example_rows_are_pairs(page: str, tmp_path: Path) -> None:
    """Every JSON example is a row that the jsonl reader turns into a pair."""
    import dpoframe
    from dpoframe.plugins import host

    for block in blocks(page, "json"):
        (tmp_path / "rows.jsonl").write_text(block)
        found = list(host().get("dataset", "jsonl")(path=tmp_path / "rows.jsonl"))
        assert found
        assert all(isinstance(one, dpoframe.PreferencePair) for one in found)


def test_table_of_losses_in_the_tutorial() -> None:
    """Every loss that the tutorial's table and README's list name exists, with the options shown."""
    from dpoframe import losses

    tutorial = (ROOT / "docs/tutorial.md").read_text()
    for text in re.findall(r"`loss: (.*?)`", tutorial):
        parts = yaml.safe_load(text)
        for part in parts if isinstance(parts, list) else [parts]:
            losses.create(**{key: value for key, value in part.items() if key != "weight"})
    row = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| **Losses**"))
    assert set(re.findall(r"`(\w+)`", row)) == set(losses.names())


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of somebody who followed README so far, with a model made here in place of the hub's, and two steps."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    (row,) = map(json.loads, blocks("README.md", "json"))
    rows = [{**row, "prompt": f"{row['prompt']} {n}", **({"chosen": row["rejected"], "rejected": row["chosen"]} if n % 2 else {})}
            for n in range(24)]  # fmt: skip
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    recipe = yaml.safe_load(next(block for block in blocks("README.md", "yaml") if block.startswith("# chat.yaml")))
    recipe["modality"]["model"], recipe["trainer"]["max_steps"] = "./tiny", 2
    (tmp_path / "chat.yaml").write_text(yaml.safe_dump(recipe))
    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    texts = (text for one in rows for text in one.values())
    words.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=["<unk>", "<s>", "</s>"], show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """Presses Ctrl-C during the first step of the first run."""
    from dpoframe.train.interruption import Interruption

    pressed: list[int] = []

    def press(self: Interruption, *_: Any) -> None:
        if not pressed:
            pressed.append(signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Interruption, "on_train_batch_start", press)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's own use of transformers
@pytest.mark.usefixtures("ctrl_c")
def test_what_readme_says_to_type_works(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """README's data check, config, plan, train and, after Ctrl-C, --resume do what it says, and its model loads with peft."""
    from peft import AutoPeftModelForCausalLM

    from dpoframe.cli import main

    (block,) = [block for block in blocks("README.md", "bash") if "dpoframe data check" in block]
    typed = [shlex.split(line, comments=True)[1:] for line in block.splitlines()]
    said: dict[str, tuple[int, str]] = {}
    for words in typed:
        code = main(words)
        said[" ".join(words)] = code, capsys.readouterr().out
    assert [code for code, _ in said.values()] == [0, 0, 0, 130, 0], said
    assert "24 rows = 24 usable" in said["data check pairs.jsonl"][1]
    assert yaml.safe_load(said["config chat.yaml"][1])["trainer"]["max_steps"] == 2
    rows = map(json.loads, (reader / "runs/chat/metrics.jsonl").read_text().splitlines())
    assert [row["step"] for row in rows if row.get("stage", "train") == "train"] == [0, 1]
    assert AutoPeftModelForCausalLM.from_pretrained(reader / "runs/chat/model").active_adapter == "default"
