"""What README and the tutorial tell a newcomer to type exists and means what they say."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "docs/tutorial.md"]


def blocks(page: str, language: str) -> list[str]:
    """Fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


def commands(program: str) -> list[tuple[str, list[str]]]:
    """(page, words) of every command line of `program`."""
    lines = [(page, line) for page in PAGES for block in blocks(page, "bash") for line in block.splitlines()]
    words = [(page, shlex.split(line, comments=True)) for page, line in lines]
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
