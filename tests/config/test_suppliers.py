"""A plugin takes part in a run where it supplies anything that the recipe uses, however indirectly."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from dpoframe import ConfigError, Evaluator, EvaluatorSpec, PreferencePair, Scale, hookimpl
from dpoframe.config import load_recipe
from dpoframe.plugins import PluginHost
from dpoframe.testing import toy


class Judge(Evaluator):
    """Finds everything right."""

    spec: ClassVar[EvaluatorSpec] = EvaluatorSpec("judge", "1", "response", {"rate": Scale(0, 1)}, "rate")

    def score(self, sample: Any) -> dict[str, float]:
        """One."""
        return {"rate": 1.0}


def no_pairs() -> list[PreferencePair]:
    """An empty data set."""
    return []


class Supplier:
    """A plugin that supplies one part."""

    def __init__(self, kind: str, name: str, part: Any) -> None:
        self.parts = {kind: {name: part}}

    @hookimpl
    def dpoframe_datasets(self) -> Any:
        """Data sets."""
        return self.parts.get("dataset", {})

    @hookimpl
    def dpoframe_evaluators(self) -> Any:
        """Evaluators."""
        return self.parts.get("evaluator", {})

    @hookimpl
    def dpoframe_suites(self) -> Any:
        """Suites."""
        return self.parts.get("suite", {})


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite whose prompts, pairs and one evaluator are of other plugins."""
    file = tmp_path / "suite.yaml"
    file.write_text("name: s\nversion: 1\nprompts: {name: asked}\npairs: {name: held}\nevaluators: [finished, {name: judge}]\n")
    return file


@pytest.fixture
def plugins(suite: Path) -> PluginHost:
    """The toy, and one plugin for each part of these tests."""
    made = PluginHost([], [])
    made.register(toy, "toy")
    parts = [
        ("dataset", "left", no_pairs),
        ("dataset", "right", no_pairs),
        ("dataset", "asked", no_pairs),
        ("dataset", "held", no_pairs),
        ("dataset", "unused", no_pairs),
        ("evaluator", "judge", Judge),
        ("suite", "shelf", suite),
    ]
    for kind, name, part in parts:
        made.register(Supplier(kind, name, part), f"{name}-plugin")
    return made


def active(plugins: PluginHost, **sections: Any) -> set[str]:
    """The active plugins of a recipe beside the toy's and the core's, which the relay knows as well."""
    recipe = load_recipe({"modality": "toy", "data": "toy", **sections}, host=plugins)
    assert {plugin.name for plugin in plugins.relay(recipe.active_plugins).plugins} >= set(recipe.active_plugins)
    return set(recipe.active_plugins) - {"toy", "builtin"}


def test_a_suite_and_what_is_in_it(plugins: PluginHost, suite: Path) -> None:
    """The suppliers of a suite under `evaluate`, of its evaluators, prompts and pairs are active; of a suite file likewise."""
    assert active(plugins) == set()
    inside = {"judge-plugin", "asked-plugin", "held-plugin"}
    assert active(plugins, evaluate=["shelf"]) == {"shelf-plugin", *inside}
    assert active(plugins, evaluate=[str(suite)]) == inside


def test_the_data_sets_of_a_mixture(plugins: PluginHost) -> None:
    """Data sets inside a mixture count, at any depth, also where the mixture is the validation set."""
    inner = {"name": "mixture", "sources": [{"name": "right"}, {"name": "toy", "count": 4}]}
    mixed = {"name": "mixture", "sources": [{"name": "left", "weight": 2}, inner]}
    assert active(plugins, data=mixed) == {"left-plugin", "right-plugin"}
    assert active(plugins, data={"name": "toy", "validation": inner}) == {"right-plugin"}


def test_an_evaluator_out_of_a_file(plugins: PluginHost, tmp_path: Path) -> None:
    """A Python file beside a suite that names it is a plugin of the run, as it is under `modality`."""
    (tmp_path / "mine.py").write_text("from dpoframe.builtin.finished import Finished\n\nclass Mine(Finished): pass\n")
    (tmp_path / "other.yaml").write_text("name: o\nversion: 1\nprompts: [a]\nevaluators: [./mine.py:Mine]\n")
    assert active(plugins, evaluate=[str(tmp_path / "other.yaml")]) == {"mine"}


@pytest.mark.parametrize("content", ["", "- 1\n", "evaluators: judge\n", "evaluators: [3, {}, absent]\npairs: 7\n", "a: [", "\x00"])
def test_a_faulty_suite_is_no_fault_here(content: str, plugins: PluginHost, tmp_path: Path) -> None:
    """Whatever a suite holds, a recipe that names it loads; the suite's own faults are told when it is opened."""
    (tmp_path / "faulty.yaml").write_text(content)
    assert active(plugins, evaluate=[str(tmp_path / "faulty.yaml")]) == set()
    with pytest.raises(ConfigError, match="absent"):
        load_recipe({"modality": "toy", "data": "toy", "evaluate": ["absent"]}, host=plugins)
