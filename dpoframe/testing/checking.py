"""Runs the contracts of everything a plugin supplies: what `dpoframe plugins check` calls."""

from __future__ import annotations

import dataclasses
import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from dpoframe.errors import ConfigError, DpoframeError
from dpoframe.plugins import Plugin, PluginHost
from dpoframe.plugins.files import defined_in
from dpoframe.plugins.kinds import BASES, FILES
from dpoframe.testing.contract import Check, Contract, Outcome, expect, required_fields
from dpoframe.testing.dataset import DatasetContract
from dpoframe.testing.evaluator import EvaluatorContract
from dpoframe.testing.files import RecipeContract, SuiteContract
from dpoframe.testing.loss import LossContract
from dpoframe.testing.modality import ModalityContract
from dpoframe.testing.reporter import ReporterContract

CONTRACTS: Mapping[str, type[Contract]] = {
    "modality": ModalityContract,
    "dataset": DatasetContract,
    "loss": LossContract,
    "evaluator": EvaluatorContract,
    "suite": SuiteContract,
    "recipe": RecipeContract,
    "reporter": ReporterContract,
}
MADE = Check("an instance for the contract", "The contract has an instance to check.", "")
IMPORTED = Check("imports", "The part can be imported and is what its kind demands.", "The message says what is missing.")


@dataclass(frozen=True)
class PartReport:
    """The outcomes for one part of a plugin; kind and name are `plugin` and its name for the plugin as a whole."""

    kind: str
    name: str
    outcomes: tuple[Outcome, ...]


class PluginContract(Contract):
    """What holds for an installed plugin as a whole. Set `entry` to its module's name."""

    entry: ClassVar[str]

    def test_starts_without_torch(self) -> None:
        """Importing the plugin's module, as every look at the installed plugins does, imports no torch.

        If this fails: return "package.module:Class" strings from the hooks, and import torch in that module.
        """
        code = f"import sys, {self.entry}; sys.exit('torch' in sys.modules)"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
        expect(not done.stderr, f"importing {self.entry} fails or warns: {done.stderr[-400:]}")
        expect(done.returncode == 0, f"importing {self.entry} imports torch, which takes seconds")


def check_plugin(host: PluginHost, name: str, options: Mapping[str, Any] | None = None) -> Iterator[PartReport]:
    """Runs the contract of every part that a plugin supplies, and yields one report a part as it is done.

    Args:
        host: Where the plugin is found.
        name: The plugin's name, or a file `./mine.py`, whose classes are checked where it implements no hooks.
        options: Values for fields or parameters that have no default, for every part that has such a field.

    Raises:
        PluginError: the plugin is broken or disabled.
        UnknownNameError: there is no such plugin.
        ConfigError: an option fits no part, or there is nothing to check.
    """
    plugin = host.plugin(name)
    parts = list(_parts(host, plugin))
    if not parts:
        raise ConfigError(f"The plugin {plugin.name!r} ({plugin.origin}) supplies no part, so there is nothing to check.")
    _require_used(options or {}, [value for _, _, value in parts])
    if plugin.distribution and (entry := getattr(plugin.module, "__name__", "")):
        yield PartReport("plugin", plugin.name, tuple(_bind(PluginContract, {"entry": entry}).run()))
    for kind, part, value in parts:
        yield PartReport(kind, part, tuple(_outcomes(host, kind, value, options or {})))


def contract_for(host: PluginHost, kind: str, value: Any, options: Mapping[str, Any]) -> type[Contract]:
    """A contract bound to one part: the class, callable or path that a name stands for.

    A class may offer `example()`, an instance that is quick to check; a modality also `example_pairs()` and
    `example_settings()`, an evaluator `example_samples()`, and a data set the attribute `example_options`.
    """
    bound: dict[str, Any]
    if kind in FILES:
        bound = {"path": value, "host": host}
    elif kind == "dataset":
        bound = {"dataset": staticmethod(value), "options": _arguments(value, options)}
    else:
        bound = {kind: _instance(value, options)}
    for name in ("pairs", "settings", "samples"):
        if (example := getattr(value, f"example_{name}", None)) is not None:
            bound[name] = example()
    return _bind(CONTRACTS[kind], bound)


def _bind(contract: type[Contract], attributes: Mapping[str, Any]) -> type[Contract]:
    """A subclass of a contract with its attributes set, as an author writes one in a test."""
    made: type[Contract] = type("Checked", (contract,), dict(attributes))
    return made


def _parts(host: PluginHost, plugin: Plugin) -> Iterator[tuple[str, str, Any]]:
    """Kind, name and value of every part; an error stands in place of a value that cannot be had."""
    for kind, names in plugin.parts.items():
        for name in names:
            yield kind, name, _reached(host.value_of, plugin, kind, name)
    if not plugin.parts and not plugin.distribution:
        for name, value in defined_in(plugin.module).items():
            kinds = [kind for kind, base in BASES.items() if isinstance(value, type) and issubclass(value, base)]
            yield from ((kind, name, value) for kind in kinds)


def _outcomes(host: PluginHost, kind: str, value: Any, options: Mapping[str, Any]) -> Iterator[Outcome]:
    """The outcomes for one part."""
    if isinstance(value, BaseException):
        yield Outcome(IMPORTED, "failed", str(value))
        return
    if missing := _missing(kind, value, options):
        hint = " ".join(f"--set {name}=..." for name in missing)
        yield Outcome(MADE, "skipped", f"needs {', '.join(missing)}: give {hint}, or write a classmethod example()")
        return
    contract = _reached(contract_for, host, kind, value, options)
    if isinstance(contract, BaseException):
        yield Outcome(MADE, "failed", f"{type(contract).__name__}: {contract}")
        return
    yield from contract.run()


def _missing(kind: str, value: Any, options: Mapping[str, Any]) -> list[str]:
    """Fields or parameters that must be given and are not."""
    if kind in FILES or hasattr(value, "example") or hasattr(value, "example_options"):
        return []
    needed = _required_parameters(value) if kind == "dataset" else required_fields(value)
    return [name for name in needed if name not in options]


def _instance(value: Any, options: Mapping[str, Any]) -> Any:
    """An instance made as a recipe makes it, or the class's own example where no option is for it."""
    from pydantic import TypeAdapter

    given = {name: option for name, option in options.items() if name in _fields(value)}
    if not given and hasattr(value, "example"):
        return value.example()
    return TypeAdapter(value).validate_python(given)


def _arguments(value: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for a data set."""
    given = {name: option for name, option in options.items() if name in _fields(value)}
    return {**getattr(value, "example_options", {}), **given}


def _fields(value: Any) -> list[str]:
    """Recipe keys of a part: fields of a class, parameters of a data set."""
    if dataclasses.is_dataclass(value):
        return [entry.name for entry in dataclasses.fields(value)]
    return list(inspect.signature(value).parameters)


def _required_parameters(value: Any) -> list[str]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(value).parameters.values()
    return [parameter.name for parameter in found if parameter.default is parameter.empty and parameter.kind in named]


def _require_used(options: Mapping[str, Any], values: list[Any]) -> None:
    """Refuses options that no part has."""
    known = {name for value in values if callable(value) for name in _fields(value)}
    if stray := sorted(set(options) - known):
        raise ConfigError(f"No part of the plugin has the field {', '.join(stray)}. Fields: {', '.join(sorted(known)) or 'none'}.")


def _reached(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call returns, or the error it raises."""
    try:
        return call(*arguments)
    except (DpoframeError, ValueError, TypeError, OSError) as error:
        return error


def summary(reports: list[PartReport]) -> dict[str, int]:
    """How many checks passed, failed and were skipped."""
    found = [outcome.status for report in reports for outcome in report.outcomes]
    return {status: found.count(status) for status in ("passed", "failed", "skipped")}
