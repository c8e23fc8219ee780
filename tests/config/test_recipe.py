"""What a right recipe resolves to."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dpoframe import ConfigError, MissingExtraError, hookimpl
from dpoframe.config import Recipe, load_recipe
from dpoframe.config.document import read_text, write
from dpoframe.plugins import PluginHost

from .conftest import Adapter, Echo, Free, Notes, Plain

BASE: dict[str, Any] = {"modality": {"name": "echo", "model": "m"}, "data": {"name": "rows", "path": "p"}, "loss": "plain"}

GOLDEN = """\
name: golden
description: ''
modality:
  name: echo
  model: some/model
  lora:
    r: 4
    alpha: 16.0
  dtype: float32
  size:
  - 4
  - 4
  template: null
  checkpointing: true
  hub_token: null
data:
  name: rows
  path:
  - a
  - b
  layout: 'on'
  columns: null
  validation: 0.05
  limit: 100
  allow: []
  window: null
loss:
- name: plain
  beta: 0.1
- name: free
  beta: 1.0
  weight: 0.5
reference:
  kind: adapter
trainer:
  max_steps: 200
  max_epochs: null
  batch_size: 8
  tokens_per_batch: 8192
  accumulate_grad_batches: 1
  lr: 5.0e-06
  optimizer: adamw
  betas:
  - 0.9
  - 0.95
  weight_decay: 0.0
  schedule: linear
  warmup: 10
  gradient_clip_val: 1.0
  on_nonfinite: stop
  precision: bf16-mixed
  devices: auto
  accelerator: auto
  strategy: auto
  num_nodes: 1
  log_every: 1
  validate_every: null
  save_every: null
  keep_checkpoints: 2
  keep_best_checkpoints: null
  save_in_background: false
  seeds_per_pair: null
  bucket_by_length: true
  num_workers: 0
  threads: null
  lightning: {}
evaluate:
- tiny
reporters:
- name: notes
  project: dpo
  api_key: null
plugins:
- small
seed: 7
"""

WRITTEN = """\
modality: {name: echo, model: some/model, lora: {r: 4}, checkpointing: on}
data: {name: rows, path: [a, b], layout: on, validation: 5e-2, limit: 100}
loss: [plain, {name: free, weight: 5e-1, beta: 1}]
trainer: {max_steps: 200, tokens_per_batch: 8_192, betas: [0.9, .95], warmup: 10, precision: bf16-mixed}
evaluate: [tiny]
reporters: [notes]
plugins: [small]
seed: 7
"""


@pytest.fixture
def golden(tmp_path: Path, host: PluginHost) -> Recipe:
    """The recipe of `WRITTEN`."""
    file = tmp_path / "golden.yaml"
    file.write_text(WRITTEN.replace("8_192", "8192"))
    return load_recipe(file, host=host)


def test_golden(golden: Recipe) -> None:
    """A recipe resolves to every key with its default, in a fixed order."""
    assert golden.to_yaml() == GOLDEN


def test_parts_are_instances(golden: Recipe) -> None:
    """Parts are instances of the plugin's own classes, with the plugin that supplies them."""
    assert golden.modality.value == Echo("some/model", Adapter(4), checkpointing=True)
    assert [(one.part.value, one.weight) for one in golden.loss] == [(Plain(0.1), 1.0), (Free(1.0), 0.5)]
    assert golden.reporters[0].value == Notes()
    assert golden.active_plugins == ("small",)


def test_round_trip(golden: Recipe, host: PluginHost, tmp_path: Path) -> None:
    """What `to_yaml` gives loads to an equal recipe, from any folder, also by a plain YAML 1.1 reader."""
    file = tmp_path / "elsewhere" / "recipe.yaml"
    file.parent.mkdir()
    file.write_text(golden.to_yaml())
    assert load_recipe(file, host=host) == golden
    assert load_recipe(file.parent, host=host) == golden
    assert load_recipe(yaml.safe_load(golden.to_yaml()), host=host) == golden
    assert pickle.loads(pickle.dumps(golden)) == golden


@pytest.mark.parametrize("odd", [*map(chr, (0, 0x1B, 0x7F, 0x9B, 0x61C, 0x200F, 0x202E, 0x2066, 0x2028, 0xFEFF, 0xE0041))])
def test_what_no_screen_shows_is_escaped(odd: str) -> None:
    """Marks that turn the direction of text among it; what is read back has it, by any YAML. Other alphabets stay as they are."""
    data = {"text": f"one {odd}\u4e16\u754c\u3000two", f"key{odd}": [f"{odd}\n" * 40]}
    text = write(data)
    assert odd not in text
    assert "\u4e16\u754c\u3000two" in text
    assert read_text(text, "text", Path()).data == yaml.safe_load(text) == data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-6", 5e-6),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-0.0", -0.0),
        ("08", 8),
        ("0x10", 16),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("~", None),
        ("'5e-6'", "5e-6"),
        ("=", "="),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    """Numbers with an exponent are numbers; words, clock times and dates are text."""
    read = read_text(f"key: {text}\n", "text", Path()).data["key"]
    assert read == value
    assert type(read) is type(value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES, min_size=1, max_size=4))
def test_whatever_is_written_is_read_back(data: dict[str, Any]) -> None:
    """Any plain data survives writing and reading, strings that look like numbers or booleans included."""
    assert read_text(write(data), "text", Path()).data == data


def test_merge_keys_and_anchors(host: PluginHost, tmp_path: Path) -> None:
    """Anchors and merge keys work; a key given beside a merge wins over it."""
    file = tmp_path / "r.yaml"
    file.write_text(
        "modality: {name: echo, model: m}\n"
        "data: &data {name: rows, path: a, limit: 3}\n"
        "loss: [&loss {name: plain, beta: 1}, {<<: *loss, beta: 2}]\n"
    )
    recipe = load_recipe(file, host=host)
    assert [one.part.value.beta for one in recipe.loss] == [1.0, 2.0]


def test_overrides(host: PluginHost) -> None:
    """--set makes sections that lack, reaches list entries, appends at the end, writes bare names out; the last one wins."""
    given = {**BASE, "loss": ["plain"], "modality": {"name": "echo", "model": "m"}}
    sets = ["trainer.lr=1e-4", "trainer.lr=2e-4", "loss.0.beta=3", "loss.1.name=free", "modality.lora.r=2", "name=x", "seed=5"]
    before = copy.deepcopy(given)
    recipe = load_recipe(given, sets, host=host)
    assert recipe.trainer.lr == 2e-4
    assert [one.part.value for one in recipe.loss] == [Plain(3.0), Free()]
    assert recipe.modality.value.lora == Adapter(2)
    assert (recipe.name, recipe.seed) == ("x", 5)
    assert given == before
    assert load_recipe(BASE, ["loss.beta=4"], host=host).loss[0].part.value == Plain(4.0)
    assert load_recipe(BASE, ["modality.lora="], host=host).modality.value.lora is None


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, "copy"),
        ({"loss": "free"}, "none"),
        ({"loss": ["free", "plain"]}, "copy"),
        ({"modality": {"name": "echo", "model": "m", "lora": {}}}, "adapter"),
        ({"loss": "free", "reference": "copy"}, "copy"),
        ({"reference": {"kind": "ema", "decay": 0.5}}, "ema"),
    ],
)
def test_reference_kind_is_settled(change: dict[str, Any], kind: str, host: PluginHost) -> None:
    """A reference left out is none where no loss reads it, the adapter where there is one, else a copy."""
    recipe = load_recipe({**BASE, **change}, host=host)
    assert recipe.reference.kind == kind
    assert load_recipe(recipe.to_dict(), host=host) == recipe


def test_default_loss(host: PluginHost) -> None:
    """Without a loss section the loss is DPO's own, from the core."""
    recipe = load_recipe({key: BASE[key] for key in ("modality", "data")}, host=host)
    assert [(one.part.name, one.part.plugin) for one in recipe.loss] == [("sigmoid", "builtin")]


def test_length_of_the_run(host: PluginHost) -> None:
    """Without a length the run is one pass; with steps there is no number of passes."""
    assert load_recipe(BASE, host=host).trainer.max_epochs == 1.0
    assert load_recipe(BASE, ["trainer.max_steps=3"], host=host).trainer.max_epochs is None


def test_paths_start_from_the_recipe(tmp_path: Path, host: PluginHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths start from the recipe's folder, those of --set from the current one; a hub's name stays a name."""
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here):
        folder.mkdir()
        (folder / "pairs.jsonl").touch()
    (here / "only-here.jsonl").touch()
    (home / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom dpoframe import Loss\n"
        "@dataclass(frozen=True)\nclass Mine(Loss):\n"
        "    beta: float = 2.0\n    def __call__(self, scores):\n        return scores\n"
    )
    (home / "suite.yaml").touch()
    (home / "r.yaml").write_text(
        "modality: {name: echo, model: org/model, template: t.jinja}\n"
        "data: {name: rows, path: [pairs.jsonl, ./later.jsonl, only-here.jsonl, nowhere.jsonl]}\n"
        "loss: mine.py:Mine\nevaluate: [suite.yaml]\n"
    )
    monkeypatch.chdir(here)
    recipe = load_recipe(home / "r.yaml", host=host)
    assert recipe.modality.value.model == "org/model"
    assert recipe.modality.value.template == home / "t.jinja"
    expected = [str(home / "pairs.jsonl"), str(home / "later.jsonl"), str(here / "only-here.jsonl"), str(home / "nowhere.jsonl")]
    assert recipe.data.options["path"] == expected
    assert recipe.loss[0].part.name == f"{home / 'mine.py'}:Mine"
    assert recipe.evaluate == (str(home / "suite.yaml"),)
    by_hand = load_recipe(home / "r.yaml", ["data.path=pairs.jsonl", "modality.template=x.jinja"], host=host)
    assert by_hand.data.options["path"] == str(here / "pairs.jsonl")
    assert by_hand.modality.value.template == here / "x.jinja"
    monkeypatch.chdir("/")
    assert load_recipe(recipe.to_dict(), host=host) == recipe


def test_shipped_recipe_reads_its_own_folder(host: PluginHost) -> None:
    """A recipe by name reads the files beside it, and is called by its file's name."""
    recipe = load_recipe("small", host=host)
    assert Path(recipe.data.options["path"]).name == "pairs.jsonl"
    assert Path(recipe.data.options["path"]).is_file()
    assert recipe.name == "small"


def test_validation_source(host: PluginHost) -> None:
    """A second data set for validation is resolved like the first, with its defaults."""
    recipe = load_recipe({**BASE, "data": {**BASE["data"], "validation": {"name": "rows", "path": "q", "limit": 9}}}, host=host)
    assert recipe.data.validation == {"name": "rows", "path": "q", "layout": "auto", "columns": None, "limit": 9}
    assert recipe.data.validation_plugin == "small"
    assert load_recipe(recipe.to_dict(), host=host) == recipe


@pytest.mark.parametrize(
    ("given", "full"),
    [(32, "32-true"), ("32", "32-true"), (16, "16-mixed"), ("16", "16-mixed"), (64, "64-true"), ("64", "64-true"),
     ("bf16", "bf16-mixed"), ("bf16-true", "bf16-true")],
)  # fmt: skip
def test_short_precisions(given: Any, full: str, host: PluginHost) -> None:
    """Lightning's short names of precisions, numbers among them, are taken and become its full ones."""
    from lightning.fabric.connector import _convert_precision_to_unified_args

    assert load_recipe({**BASE, "trainer": {"precision": given}}, host=host).trainer.precision == full
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning would rather have the full names
        assert _convert_precision_to_unified_args(given) == full


def test_sources_of_a_mixture(host: PluginHost) -> None:
    """Each data set inside a mixture is resolved like one of its own: every default, its weight, at any depth."""
    inner = {"name": "mixture", "sources": [{"name": "anything", "free": 1, "weight": 3}], "stop": "all"}
    data = {"name": "mixture", "sources": [{"name": "rows", "path": "p", "weight": 2}, inner]}
    recipe = load_recipe({**BASE, "data": data}, host=host)
    first, second = recipe.data.options["sources"]
    assert first == {"name": "rows", "path": "p", "layout": "auto", "columns": None, "weight": 2.0}
    assert second == {"name": "mixture", "sources": [{"name": "anything", "free": 1, "weight": 3.0}], "stop": "all", "weight": 1.0}
    assert load_recipe(recipe.to_dict(), host=host) == recipe


@pytest.mark.parametrize(("given", "held"), [(0.1, 0.1), (12, 12), (1, 1), (0, None), (0.0, None), (None, None)])
def test_validation_by_share_or_number(given: Any, held: Any, host: PluginHost) -> None:
    """Below 1 the validation is a share, from 1 a whole number of pairs; 0 holds nothing out."""
    recipe = load_recipe({**BASE, "data": {**BASE["data"], "validation": given}}, host=host)
    assert recipe.data.validation == held
    assert type(recipe.data.validation) is type(held)
    assert load_recipe(recipe.to_dict(), host=host) == recipe


def test_name_comes_from_the_file(host: PluginHost, tmp_path: Path) -> None:
    """A recipe without a name is called by its file's, without what a folder's name may not hold."""
    for file, name in (("my recipe.yaml", "my recipe"), ("...odd(1).yml", "odd1")):
        (tmp_path / file).write_text(write(BASE))
        assert load_recipe(tmp_path / file, host=host).name == name


def test_data_set_with_free_arguments(host: PluginHost) -> None:
    """A data set that takes any keyword gets them all, but for the core's own keys."""
    recipe = load_recipe({**BASE, "data": {"name": "anything", "shape": [1, 2], "limit": 4}}, host=host)
    assert recipe.data.options == {"shape": [1, 2]}
    assert recipe.data.limit == 4
    assert load_recipe(recipe.to_dict(), host=host) == recipe


def test_secrets_are_not_written(host: PluginHost) -> None:
    """Tokens and passwords reach the part, but neither the dictionary nor the file."""
    given = {**BASE, "reporters": [{"name": "notes", "api_key": "hunter2", "project": "https://me:hunter2@host/x"}]}
    given["data"] = {"name": "anything", "tokens_per_row": 3, "pad_token": "<pad>", "nested": {"password": "hunter2"}}
    recipe = load_recipe(given, host=host)
    assert recipe.reporters[0].value.api_key == "hunter2"
    written = recipe.to_dict()
    assert "hunter2" not in recipe.to_yaml()
    assert written["reporters"][0] == {"name": "notes", "project": "https://***@host/x", "api_key": "***"}
    assert written["data"]["pad_token"] == "<pad>"
    assert written["data"]["tokens_per_row"] == 3


def test_missing_package_keeps_its_exit_code(host: PluginHost) -> None:
    """A recipe that only lacks a package says what to install and ends with 3; beside other faults it is one of them."""

    class Lacking:
        @hookimpl
        def dpoframe_modalities(self) -> dict[str, Any]:
            return {"lacking": LackingFields}

    other = PluginHost(entry_points=[], disabled=[])
    other.register(Lacking(), "lacking")
    recipe = {**BASE, "modality": {"name": "lacking", "model": "m"}, "data": {"name": "jsonl", "path": "p"}, "loss": "sigmoid"}
    with pytest.raises(MissingExtraError, match="pip install x") as caught:
        load_recipe(recipe, host=other)
    assert caught.value.exit_code == 3
    with pytest.raises(ConfigError, match="pip install x") as both:
        load_recipe({**recipe, "sed": 1}, host=other)
    assert "sed" in str(both.value)


class LackingFields(Echo):
    """Its fields need a package to be checked."""

    def __post_init__(self) -> None:
        raise MissingExtraError("The modality lacking", "x", "pip install x")
