"""The documentation says what is so: signatures equal the code's, and every example runs."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import dpoframe
from dpoframe import ConfigError, hookspecs
from dpoframe.plugins import KINDS, PluginHost
from dpoframe.testing.checking import contract_for

DOCS = Path(__file__).resolve().parents[1] / "docs"
HOOKS = [name for name in vars(hookspecs) if name.startswith("dpoframe_")]
FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def sections(page: str) -> dict[str, str]:
    """The page's `## `name`` sections by name."""
    parts = re.split(r"^## `(\w+)`\n", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def blocks(page: str, key: str) -> dict[str, str]:
    """Code blocks of a page that are marked `key=value`, by value."""
    found = {}
    for match in FENCE.finditer((DOCS / page).read_text(encoding="utf-8")):
        words = dict(word.split("=", 1) for word in match["info"].split() if "=" in word)
        if key in words:
            found[words[key]] = match["code"]
    return found


def module_of(code: str, folder: Path, name: str = "example_plugin") -> ModuleType:
    """A module made from a code block, known to Python while the test runs."""
    made = ModuleType(name)
    made.__file__ = str(folder / f"{name}.py")
    sys.modules[name] = made
    exec(compile(code, made.__file__, "exec"), made.__dict__)
    return made


@pytest.fixture
def clean_modules() -> Iterator[None]:
    """Forgets what the test added to sys.modules."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("example_", "dpoframe_colour")):
            del sys.modules[name]


def test_every_hook_is_documented_in_order() -> None:
    """docs/hooks.md has one section a hook, in the order of hookspecs.py, and no other."""
    assert list(sections("hooks.md")) == HOOKS


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_signatures(hook: str) -> None:
    """The first code block of a hook's section is its signature, letter by letter."""
    tree = ast.parse(inspect.getsource(hookspecs))
    spec = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == hook)
    wanted = f"def {hook}({ast.unparse(spec.args)}) -> {ast.unparse(spec.returns)}"
    first = FENCE.search(sections("hooks.md")[hook])
    assert first is not None
    assert first["code"].strip() == wanted


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_is_said_when_called_and_what_it_returns(hook: str) -> None:
    """Each section says when the hook is called and what it returns."""
    assert "**Called**" in sections("hooks.md")[hook]
    assert "**Returns**" in sections("hooks.md")[hook]


def example(hook: str, host: PluginHost, folder: Path) -> Any:
    """Registers the example of a hook's section as the plugin `example`; gives the relay that asks it."""
    code = [match["code"] for match in FENCE.finditer(sections("hooks.md")[hook])][1]
    host.register(module_of(code, folder), "example")
    return host.relay(["example"])


@pytest.mark.usefixtures("clean_modules")
@pytest.mark.parametrize(("kind", "hook"), KINDS.items())
def test_examples_of_parts(kind: str, hook: str, isolated_host: PluginHost, tmp_path: Path) -> None:
    """The example of a hook that supplies parts makes a part that can be had, and that holds its contract."""
    example(hook, isolated_host, tmp_path)
    plugin = next(plugin for plugin in isolated_host.plugins if plugin.name == "example")
    (name,) = plugin.parts[kind]
    assert isolated_host.owner(kind, name) == plugin
    if kind in ("suite", "recipe"):
        file = plugin.targets[kind][name]
        file.parent.mkdir()
        file.write_text("seed: 0")
        assert isolated_host.get(kind, name) == file
        return
    outcomes = list(contract_for(isolated_host, kind, isolated_host.get(kind, name), {}).run())
    assert [one for one in outcomes if one.status == "failed"] == []


@pytest.mark.usefixtures("clean_modules")
def test_example_of_commands(isolated_host: PluginHost, tmp_path: Path) -> None:
    """The example adds a verb that runs."""
    import typer
    from typer.testing import CliRunner

    cli = typer.Typer()
    cli.callback()(lambda: None)
    list(example("dpoframe_commands", isolated_host, tmp_path).each("dpoframe_commands", cli=cli))
    assert CliRunner().invoke(cli, ["greet", "--name", "Ada"]).stdout == "Hello Ada\n"


@pytest.mark.usefixtures("clean_modules")
def test_example_of_configure(isolated_host: PluginHost, tmp_path: Path) -> None:
    """The example lets a sound recipe pass and stops one whose learning rate is too high."""
    relay = example("dpoframe_configure", isolated_host, tmp_path)
    relay.dpoframe_configure(config=SimpleNamespace(trainer=SimpleNamespace(lr=1e-3)))
    with pytest.raises(ConfigError, match=r"trainer\.lr is 0\.1"):
        relay.dpoframe_configure(config=SimpleNamespace(trainer=SimpleNamespace(lr=0.1)))


@pytest.mark.usefixtures("clean_modules")
def test_example_of_callbacks(isolated_host: PluginHost, tmp_path: Path) -> None:
    """The example gives a Lightning callback."""
    from lightning.pytorch.callbacks import Callback

    found = dict(example("dpoframe_callbacks", isolated_host, tmp_path).each("dpoframe_callbacks", config=None))
    assert [isinstance(callback, Callback) for callback in found["example"]] == [True]


@pytest.mark.usefixtures("clean_modules")
def test_example_of_reference(isolated_host: PluginHost, tmp_path: Path) -> None:
    """The example's module is taken before the core's, and is a frozen copy of the policy."""
    from torch import nn

    policy = nn.Linear(2, 2)
    relay = example("dpoframe_reference", isolated_host, tmp_path)
    made = relay.dpoframe_reference(modality=None, policy=policy, config=None)
    assert made is not policy
    assert (made.weight == policy.weight).all()
    assert not made.weight.requires_grad


@pytest.mark.usefixtures("clean_modules")
@pytest.mark.parametrize(("hook", "names"), [("dpoframe_loss_terms", {"drift"}), ("dpoframe_pair_metrics", {"hardest", "longer"})])
def test_examples_on_scores(hook: str, names: set[str], isolated_host: PluginHost, tmp_path: Path) -> None:
    """The examples of hooks that see scores give finite scalars under the names they say, attributed to their plugin."""
    from dpoframe.testing.tensors import pair_scores

    scores = pair_scores()
    more = {"losses": -scores.policy_chosen} if hook == "dpoframe_pair_metrics" else {}
    found = dict(example(hook, isolated_host, tmp_path).each(hook, scores=scores, stage="train", step=0, **more))["example"]
    assert set(found) == names
    assert all(value.ndim == 0 and value.isfinite() for value in found.values())


@pytest.fixture
def colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_modules: None) -> Path:
    """The folder that a reader of docs/plugins.md ends up with, its package importable."""
    for name, code in blocks("plugins.md", "file").items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def colour_host() -> PluginHost:
    """A host with the page's plugin installed."""
    return PluginHost([EntryPoint("colour", "dpoframe_colour", "dpoframe")], [])


def test_modality_is_as_short_as_promised(colour: Path) -> None:
    """The page's modality, network included, has fewer than 80 lines, and its pyproject 8 lines."""
    assert len((colour / "dpoframe_colour" / "modality.py").read_text(encoding="utf-8").splitlines()) < 80
    assert len((colour / "pyproject.toml").read_text(encoding="utf-8").splitlines()) <= 8


def test_pyproject_names_the_plugin(colour: Path) -> None:
    """The page's pyproject.toml is TOML whose entry point is the page's package."""
    import tomllib

    project = tomllib.loads((colour / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"] == {"dpoframe": {"colour": "dpoframe_colour"}}


def test_modality_holds_its_contract(colour: Path) -> None:
    """The page's modality passes every check, as `dpoframe plugins check` and as the page's own test run them."""
    found = colour_host()
    outcomes = list(contract_for(found, "modality", found.get("modality", "colour"), {}).run())
    assert [one for one in outcomes if one.status == "failed"] == []
    module = module_of((colour / "tests" / "test_colour.py").read_text(encoding="utf-8"), colour, "example_test")
    assert [one for one in module.TestColour.run() if one.status == "failed"] == []


def test_modality_trains(colour: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's recipe trains the page's modality on the page's data, and the margins grow from 0."""
    import json

    from dpoframe.config import load_recipe
    from dpoframe.plugins import using
    from dpoframe.train.fit import fit

    monkeypatch.chdir(colour)
    with using(colour_host()) as found:
        recipe = load_recipe("colour.yaml", ["trainer.devices=1", "trainer.accelerator=cpu"], host=found)
        fit(recipe, colour / "run", host=found)
    rows = [json.loads(line) for line in (colour / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows[0]["rewards/margins"] == 0
    assert rows[-1]["rewards/margins"] > 0.01


@pytest.mark.usefixtures("clean_modules")
@pytest.mark.parametrize(
    ("kind", "name"), [("dataset", "debates"), ("loss", "MarginSigmoid"), ("evaluator", "Brevity"), ("reporter", "Lines")]
)
def test_other_kinds_hold_their_contracts(kind: str, name: str, isolated_host: PluginHost, tmp_path: Path) -> None:
    """The page's data set, loss, evaluator and reporter pass every check of their contracts."""
    part = getattr(module_of(blocks("plugins.md", "part")[kind], tmp_path), name)
    outcomes = list(contract_for(isolated_host, kind, part, {}).run())
    assert len(outcomes) >= 6
    assert [one for one in outcomes if one.status == "failed"] == []


def test_suite_is_read(colour: Path) -> None:
    """The page's suite loads beside the page's pairs, with its two prompts, two pairs and two evaluators."""
    from dpoframe.harness.suites.loading import load_suite

    (colour / "warmth.yaml").write_text(blocks("plugins.md", "part")["suite"], encoding="utf-8")
    suite = load_suite(colour / "warmth.yaml", colour_host())
    assert [prompt.content for prompt in suite.prompts] == ["a warm colour", "a cold colour"]
    assert (suite.prompts[1].id, len(suite.pairs), len(suite.evaluators), suite.samples) == ("cold", 2, 2, 4)


def test_pages_link_to_pages_that_exist() -> None:
    """Every relative link in docs/ leads to a file."""
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+\.\w+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).is_file(), f"{page.name} links to {target}"


def test_names_in_the_pages_exist() -> None:
    """Every `dpoframe.Name` that the pages for authors mention is public."""
    for page in ("hooks.md", "plugins.md"):
        text = (DOCS / page).read_text(encoding="utf-8")
        for name in re.findall(r"`dpoframe\.([A-Z]\w+)", text):
            assert name in dpoframe.__all__, f"{page} mentions dpoframe.{name}"


@pytest.mark.usefixtures("clean_modules")
def test_evaluator_with_an_aggregate(isolated_host: PluginHost, tmp_path: Path) -> None:
    """The evaluation page's evaluator passes its contract, and its F1 is 2 * 1 / (2 + 2) on its own four samples."""
    part = module_of(blocks("evaluation.md", "part")["aggregate"], tmp_path).Refusals
    outcomes = list(contract_for(isolated_host, "evaluator", part, {}).run())
    assert [one for one in outcomes if one.status != "passed"] == []
    scores = [dpoframe.Scored(one.id, one.id, part().score(one)) for one in part.example_samples()]
    assert part().aggregate(scores) == {"f1": 0.5}


def test_judges_of_the_evaluation_page(isolated_host: PluginHost) -> None:
    """The page's win rate is read, and every name of its table is an evaluator of the core."""
    import yaml
    from pydantic import TypeAdapter

    (options,) = yaml.safe_load(blocks("evaluation.md", "part")["judges"])["evaluators"]
    made = TypeAdapter(isolated_host.get("evaluator", options.pop("name"))).validate_python(options)
    assert made.judge.api_key_env == "JUDGE_KEY"
    page = (DOCS / "evaluation.md").read_text(encoding="utf-8").split("## Write an evaluator")[1]
    named = {
        name
        for line in page.split("|---|---|---|")[1].split("\n\n")[0].splitlines()
        for name in re.findall(r"`(\w+)`", line.split("|")[1] if "|" in line else "")
    }
    assert named == set(isolated_host.names("evaluator"))
