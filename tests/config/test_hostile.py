"""Wrong recipes: each is refused with a message that names the place, the fault and the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpoframe import ConfigError
from dpoframe.config import load_recipe
from dpoframe.plugins import PluginHost

GOOD = "modality: {name: echo, model: m}\ndata: {name: rows, path: p}\nloss: plain\n"
M, D = "modality: {name: echo, model: m}\n", "data: {name: rows, path: p}\n"

TEXTS = {
    "empty": ("", ["is empty", "modality, data"]),
    "only-comment": ("# nothing\n", ["is empty"]),
    "list": ("- 1\n- 2\n", ["must hold a mapping", "a list"]),
    "scalar": ("hello\n", ["must hold a mapping", "a single value"]),
    "tab": ("modality:\n\tname: echo\n", ["not valid YAML", "line 2", "spaces, not tabs"]),
    "unclosed": ("modality: {name: echo\n", ["not valid YAML", "line 2"]),
    "two-documents": (GOOD + "---\n" + GOOD, ["not valid YAML"]),
    "python-tag": (GOOD + "seed: !!python/object/apply:os.system [true]\n", ["not valid YAML", "python/object"]),
    "unknown-tag": (GOOD + "seed: !seed 1\n", ["not valid YAML", "!seed"]),
    "repeated-key": (GOOD + "seed: 1\nseed: 2\n", ["line 5", "'seed' stands twice", "line 4"]),
    "repeated-nested": ("modality: {name: echo, model: a, model: b}\n" + D, ["'model' stands twice"]),
    "key-no-word": (GOOD + "3: x\n", ["the key 3 is no word"]),
    "null-key": (GOOD + "~: x\n", ["is no word"]),
    "endless-number": (GOOD + f"seed: {'9' * 5000}\n", ["not valid YAML", "line 4", "a number of 5000 digits"]),
    "data-list": (M + "data: [1, 2]\n", ["data (line 2)", "should be a mapping"]),
    "data-word": (M + "data: nowhere\n", ["data.name", "'nowhere'"]),
    "batch-size-endless": (GOOD + "trainer: {batch_size: 99999999}\n", ["trainer.batch_size (line 4)", "less than or equal to"]),
    "threads-endless": (GOOD + "trainer: {threads: 1000000}\n", ["trainer.threads (line 4)", "less than or equal to"]),
    "optimizer-unfit": (GOOD + "trainer: {optimizer: lbfgs}\n", ["trainer.optimizer (line 4): is 'lbfgs'", "adamw"]),
    "lightning-rehearsal": (GOOD + "trainer: {lightning: {fast_dev_run: true}}\n", ["fast_dev_run (line 4): is set by dpoframe"]),
    "cycle": (GOOD + "evaluate: &a [*a]\n", ["alias refers to what it stands in"]),
    "bomb": (
        "".join(f"k{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else 'x'] * 10)}]\n" for i in range(9)),
        ["too much for a recipe"],
    ),
    "merge-bomb": (
        "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: *a{i - 1}, <<: *a{i - 1}}}\n" for i in range(1, 26)),
        ["too much for a recipe"],
    ),
    "deep": ("a: " + "[" * 5000 + "]" * 5000, ["nested too deeply"]),
    "control-character": (GOOD + "name: a\x07b\n", ["not valid YAML"]),
    "nan": (GOOD + "trainer: {lr: .nan}\n", ["trainer.lr (line 4)", "NaN"]),
    "inf": (GOOD + "trainer: {lr: .inf}\n", ["trainer.lr (line 4)", "less than"]),
    "unknown-top": (GOOD + "evalaute: []\n", ["evalaute (line 4)", "Did you mean 'evaluate'?"]),
    "misplaced": (GOOD + "lr: 1e-5\n", ["lr (line 4)", "belongs under trainer", "trainer.lr"]),
    "misplaced-lora": (GOOD + "lora: {r: 1}\n", ["modality.lora"]),
    "no-modality": (D, ["modality: is required", "For example: modality: {name: text"]),
    "misspelt-section": ("modalty: {name: echo, model: m}\n" + D, ["modality: is required", "Did you mean 'modality'?"]),
    "no-data": (M, ["data: is required", "jsonl"]),
    "modality-unnamed": ("modality: {model: m}\n" + D, ["modality.name (line 1)", "is required", "echo"]),
    "modality-number": ("modality: 3\n" + D, ["modality (line 1): is 3", "mapping"]),
    "name-number": ("modality: {name: 3}\n" + D, ["is 3, but should be a word"]),
    "modality-unknown": ("modality: {name: ecko, model: m}\n" + D, ["'ecko'", "Did you mean 'echo'?"]),
    "modality-broken": ("modality: {name: lost}\n" + D, ["no_such_package_at_all"]),
    "file-missing": ("modality: ./absent.py:Thing\n" + D, ["absent.py"]),
    "field-unknown": (
        "modality: {name: echo, modle: m}\n" + D,
        ["modality.modle (line 1)", "Did you mean 'model'?", "modality.model"],
    ),
    "field-missing": ("modality: echo\n" + D, ["modality.model (line 1): is required"]),
    "field-nested": (
        "modality:\n  name: echo\n  model: m\n  lora:\n    rank: 4\n" + D,
        ["modality.lora.rank (line 5)", "Keys: r, alpha"],
    ),
    "field-type": ("modality: {name: echo, model: 7}\n" + D, ["modality.model", "is 7", "text (in quotes"]),
    "field-literal": ("modality: {name: echo, model: m, dtype: half}\n" + D, ["dtype", "'half'", "'float32' or 'bfloat16'"]),
    "field-tuple": ("modality: {name: echo, model: m, size: [1]}\n" + D, ["modality.size", "is required"]),
    "field-bool-as-int": (GOOD + "trainer: {batch_size: true}\n", ["trainer.batch_size", "should be a number"]),
    "field-bool": ("modality: {name: echo, model: m, checkpointing: perhaps}\n" + D, ["checkpointing", "true or false"]),
    "post-init": ("modality: {name: echo, model: forbidden}\n" + D, ["the model 'forbidden' cannot be used"]),
    "lora-no": ("modality: {name: echo, model: m, lora: no}\n" + D, ["modality.lora", "is 'no'", "mapping"]),
    "data-missing-argument": (M + "data: {name: rows}\n", ["data.path (line 2): is required"]),
    "data-unknown-argument": (M + "data: {name: rows, path: p, layuot: x}\n", ["data.layuot", "Did you mean 'layout'?"]),
    "data-core-key": (M + "data: {name: rows, path: p, validaton: 0.1}\n", ["Did you mean 'validation'?"]),
    "data-validation-share": (M + "data: {name: rows, path: p, validation: 1.5}\n", ["data.validation", "less than 1"]),
    "data-validation-source": (
        M + "data: {name: rows, path: p, validation: {name: rows}}\n",
        ["data.validation.path", "is required"],
    ),
    "data-type": (M + "data: {name: rows, path: {a: 1}}\n", ["data.path", "should be"]),
    "mixture-sources": (
        M + "data:\n  name: mixture\n  sources:\n    - {name: rows, pth: a, weigt: 2}\n    - {name: rows, path: a, weight: 0}\n"
        "    - {name: mixture, sources: [{name: rwos}], stop: never}\n",
        [
            "data.sources.0.pth (line 5): is no key here. Did you mean 'path'?",
            "data.sources.0.weigt (line 5): is no key here. Did you mean 'weight'?",
            "data.sources.0.path (line 5): is required",
            "data.sources.1.weight (line 6): is 0, but should be greater than 0",
            "data.sources.2.stop (line 7)",
            "data.sources.2.sources.0.name (line 7): No data set is called 'rwos'. Did you mean 'rows'?",
        ],
    ),
    "mixture-weight": (
        M + "data: {name: mixture, sources: [{name: rows, path: a, weight: .inf}]}\n",
        ["sources.0.weight", "finite"],
    ),
    "mixture-empty": (M + "data: {name: mixture, sources: []}\n", ["data.sources (line 2)", "at least one source"]),
    "mixture-word": (M + "data: {name: mixture, sources: [rows]}\n", ["data.sources.0 (line 2): is 'rows'", "a mapping"]),
    "mixture-held-out": (
        M + "data: {name: rows, path: p, validation: {name: mixture, sources: [{name: rows}]}}\n",
        ["data.validation.sources.0.path (line 2): is required"],
    ),
    "allow": (M + "data: {name: rows, path: p, allow: [identical]}\n", ["data.allow.0 (line 2)", "'tie'", "'duplicate'"]),
    "limit": (M + "data: {name: rows, path: p, limit: 0}\n", ["data.limit", "greater than 0"]),
    "loss-unknown": (M + D + "loss: sigmiod\n", ["'sigmiod'", "No loss is called"]),
    "loss-empty-list": (M + D + "loss: []\n", ["loss (line 3)", "empty list"]),
    "loss-list-field": (M + D + "loss: [{name: plain}, {name: free, bta: 1}]\n", ["loss.1.bta", "Did you mean 'beta'?"]),
    "loss-weight": (M + D + "loss: [{name: plain, weight: -1}]\n", ["loss.0.weight", "greater than 0"]),
    "loss-needs-detail": (M + D + "loss: needy\n", ["needy needs wpo", "provides shared"]),
    "reference-kind": (
        GOOD + "reference: frozen\n",
        ["reference.kind", "'frozen'", "'copy', 'adapter', 'cached', 'none' or 'ema'"],
    ),
    "reference-none": (GOOD + "reference: none\n", ["compares with a reference"]),
    "reference-adapter": (GOOD + "reference: adapter\n", ["reference.kind", "lora: {r: 16}"]),
    "reference-decay": (GOOD + "reference: {kind: copy, decay: 0.5}\n", ["belongs to kind ema"]),
    "reference-list": (GOOD + "reference: [copy]\n", ["reference (line 4)", "mapping"]),
    "trainer-list": (GOOD + "trainer: [1]\n", ["trainer (line 4)", "mapping"]),
    "first-fsdp": (
        GOOD + "trainer: {strategy: fsdp_cpu_offload}\n",
        ["trainer.strategy (line 4)", "Take fsdp"],
    ),
    "split-optimizer": (
        GOOD + "trainer: {strategy: fsdp, optimizer: adafactor}\n",
        ["trainer.optimizer (line 4): is 'adafactor', which needs whole parameters", "Take adamw"],
    ),
    "split-scaled": (
        GOOD + "trainer: {strategy: fsdp, precision: 16}\n",
        ["trainer.precision (line 4): is '16-mixed'", "Take bf16-mixed"],
    ),
    "lightning-clipping": (
        GOOD + "trainer: {lightning: {gradient_clip_algorithm: value}}\n",
        ["gradient_clip_algorithm (line 4): is set by dpoframe"],
    ),
    "split-evaluated": (
        GOOD + "trainer: {strategy: fsdp}\nevaluate: {suites: [], every: 2}\n",
        ["evaluate.every (line 5): needs the whole model", "Take ddp"],
    ),
    "trainer-both": (GOOD + "trainer: {max_steps: 3, max_epochs: 1}\n", ["trainer.max_epochs (line 4)", "one of the two"]),
    "trainer-warmup": (GOOD + "trainer: {warmup: 2.5}\n", ["trainer.warmup", "whole number of steps"]),
    "trainer-warmup-long": (GOOD + "trainer: {warmup: 10, max_steps: 5}\n", ["10 steps of a run of 5"]),
    "trainer-negative": (GOOD + "trainer: {lr: -1e-6}\n", ["trainer.lr", "greater than 0"]),
    "trainer-word": (GOOD + "trainer: {lr: fast}\n", ["'fast'", "should be a number"]),
    "trainer-precision": (GOOD + "trainer: {precision: fp16}\n", ["trainer.precision", "bf16-mixed"]),
    "trainer-optimizer": (GOOD + "trainer: {optimizer: admaw}\n", ["'admaw'", "Did you mean 'adamw'?"]),
    "lightning-own": (GOOD + "trainer: {lightning: {max_steps: 1}}\n", ["trainer.lightning.max_steps", "Write trainer.max_steps"]),
    "lightning-ours": (GOOD + "trainer: {lightning: {logger: true}}\n", ["is set by dpoframe"]),
    "lightning-unknown": (GOOD + "trainer: {lightning: {benchmrk: true}}\n", ["Did you mean 'benchmark'?"]),
    "suite-unknown": (GOOD + "evaluate: [tinny]\n", ["evaluate.0 (line 4)", "Did you mean 'tiny'?"]),
    "suite-no-list": (GOOD + "evaluate: tiny\n", ["evaluate (line 4)", "should be a list"]),
    "reporter-no-list": (GOOD + "reporters: {name: notes}\n", ["reporters (line 4)", "should be a list"]),
    "reporter-unknown": (GOOD + "reporters: [note]\n", ["reporters.0", "Did you mean 'notes'?"]),
    "plugin-unknown": (GOOD + "plugins: [smal]\n", ["plugins.0", "Did you mean 'small'?"]),
    "name": (GOOD + "name: ../up\n", ["name (line 4)", "'../up'", "starting with a letter"]),
    "validation-limit": (
        M + "data: {name: rows, path: p, validation: {name: rows, path: q, limit: x}}\n",
        ["data.validation.limit"],
    ),
    "seed": (GOOD + "seed: -1\n", ["seed (line 4)", "greater than or equal to 0"]),
    "masked": (
        M + D + "loss: plain\nreporters: [{name: notes, api_key: '***'}]\n",
        ["reporters.0.api_key (line 4)", "was a secret"],
    ),
    "secret-not-shown": (
        GOOD + "reporters: [{name: notes, api_key: [hunter2hunter2]}]\n",
        ["reporters.0.api_key (line 4): is ***"],
    ),
}


@pytest.mark.parametrize("case", TEXTS)
def test_wrong_recipe_is_refused(case: str, tmp_path: Path, host: PluginHost) -> None:
    """A wrong recipe is a ConfigError whose message names the place, the fault and what to do."""
    text, fragments = TEXTS[case]
    file = tmp_path / "r.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_recipe(file, host=host)
    for fragment in fragments:
        assert fragment in str(caught.value)
    assert caught.value.exit_code == 2
    assert "hunter2" not in str(caught.value)


OVERRIDES = {
    "no-equals": ("trainer.lr", ["--set trainer.lr", "key.sub=value"]),
    "no-key": ("=3", ["key.sub=value"]),
    "empty-step": ("trainer..lr=3", ["key.sub=value"]),
    "through-scalar": ("trainer.lr.x=3", ["trainer.lr is 1e-05, which has no keys"]),
    "list-by-word": ("loss.beta=1", ["loss is a list of 1", "loss.0.beta"]),
    "list-too-far": ("loss.3.name=plain", ["loss has 1 entries", "not 3"]),
    "unknown": ("trainer.lrr=3", ["trainer.lrr (--set)", "Did you mean 'lr'?"]),
    "type": ("trainer.lr=quick", ["trainer.lr (--set)", "'quick'"]),
    "repeated": ("modality={name: echo, name: echo}", ["stands twice"]),
    "section": ("trainer=3", ["trainer (--set)", "mapping"]),
}


@pytest.mark.parametrize("case", OVERRIDES)
def test_wrong_override_is_refused(case: str, host: PluginHost) -> None:
    """A wrong --set is a ConfigError that names it."""
    recipe = {
        "modality": {"name": "echo", "model": "m"},
        "data": {"name": "rows", "path": "p"},
        "loss": [{"name": "plain"}],
        "trainer": {"lr": 1e-5},
    }
    override, fragments = OVERRIDES[case]
    with pytest.raises(ConfigError) as caught:
        load_recipe(recipe, [override], host=host)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_all_faults_at_once(tmp_path: Path, host: PluginHost) -> None:
    """Faults in every section, of keys, values and names, come in one error, each with its line."""
    file = tmp_path / "r.yaml"
    file.write_text(
        "modality: {name: echo, modle: m, dtype: x}\n"
        "data: {name: rowz}\n"
        "loss: {name: plain, beta: x}\n"
        "reference: {kind: frozen}\n"
        "trainer: {lr: x, lrr: 1}\n"
        "evaluate: [nope]\n"
        "reporters: [{name: notes, projct: x}]\n"
        "plugins: [nope]\n"
        "sed: 1\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_recipe(file, ["nonsense"], host=host)
    places = {fault.where for fault in caught.value.faults}
    assert places == {
        "--set nonsense",
        "sed (line 9)",
        "modality.modle (line 1)",
        "modality.model (line 1)",
        "modality.dtype (line 1)",
        "data.name (line 2)",
        "loss.beta (line 3)",
        "reference.kind (line 4)",
        "trainer.lrr (line 5)",
        "trainer.lr (line 5)",
        "evaluate.0 (line 6)",
        "reporters.0.projct (line 7)",
        "plugins.0 (line 8)",
    }


@pytest.mark.parametrize("content", [b"\xff\xfe\x00bad", b"x" * 300_000], ids=["not-utf8", "too-large"])
def test_unreadable_bytes(content: bytes, tmp_path: Path, host: PluginHost) -> None:
    """A file that is no text, or far too large, is refused before it is parsed."""
    file = tmp_path / "r.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"UTF-8|too much"):
        load_recipe(file, host=host)


@pytest.mark.parametrize(
    ("source", "fragment"),
    [("nope/r.yaml", "no file"), ("smal", "Did you mean 'small'?"), ("smal", "path of a .yaml file"), (".", "folder")],
)
def test_missing_source(source: str, fragment: str, host: PluginHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe that is not there is refused with what there is."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=fragment.replace("?", r"\?")):
        load_recipe(Path(source) if source == "." else source, host=host)
