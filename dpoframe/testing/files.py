"""The contracts of the parts that are files: recipes and suites."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from dpoframe.errors import MachineError
from dpoframe.testing.contract import Contract, skip


class RecipeContract(Contract):
    """What every shipped recipe must hold to. Set `path`; `host` where another than the process's own is meant."""

    kind: ClassVar[str] = "recipe"
    path: ClassVar[Path]
    host: ClassVar[Any] = None

    def test_resolves(self) -> None:
        """The recipe is read without a fault: every key is known, every name it uses is installed.

        If this fails: run `dpoframe config FILE`, which shows each fault with its line.
        """
        from dpoframe.config import load_recipe

        load_recipe(self.path, host=self.host)


class SuiteContract(Contract):
    """What every shipped suite must hold to. Set `path`; `host` where another than the process's own is meant."""

    kind: ClassVar[str] = "suite"
    path: ClassVar[Path]
    host: ClassVar[Any] = None

    def test_reads(self) -> None:
        """The suite is read without a fault: known keys, prompts that exist, evaluators that are installed.

        If this fails: the message names the key; files of a suite stand beside it and belong into the wheel.
        """
        from dpoframe.harness.suites.loading import load_suite

        try:
            load_suite(self.path, self.host)
        except MachineError as error:
            skip(f"the suite cannot run on this machine: {error}")
