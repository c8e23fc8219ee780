"""Suites by their file or name, checked against this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dpoframe.errors import ConfigError, MachineError
from dpoframe.harness.suites.needs import refusals
from dpoframe.harness.suites.suite import Suite
from dpoframe.harness.suites.suite_file import read_suite

if TYPE_CHECKING:
    from dpoframe.plugins import PluginHost


def load_suite(source: str | Path, plugins: PluginHost | None = None, overrides: Sequence[str] = ()) -> Suite:
    """Reads a suite and checks that it can run here.

    Args:
        source: A YAML file's path, the name of a suite that a plugin ships, or `lm_eval:TASK`, where TASK is a task or group
            of lm-evaluation-harness, or the path of a task's own YAML file.
        plugins: Where parts are looked up; the process's own unless given.
        overrides: Changes, each `key.sub=value`, as `--set` takes them.

    Raises:
        ConfigError: With every fault found: unknown keys, missing files, unknown evaluators, rows without a prompt.
        MachineError: The suite is right, but an evaluator, the backend or the suite cannot run on this machine.
    """
    suite = read_suite(source, plugins, overrides)
    if refused := refusals(suite):
        raise MachineError("\n".join(map(str, refused)))
    return suite


def require_one_name(suites: Sequence[Suite]) -> None:
    """Raises `ConfigError` where two suites would write to one folder."""
    names = [suite.name for suite in suites]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"The suite {', '.join(twice)} is named twice. Give each suite a name of its own.")
