"""A plugin of small parts, and the host that holds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from dpoframe import Loss, Modality, Reporter, hookimpl
from dpoframe.plugins import PluginHost


@dataclass(frozen=True)
class Adapter:
    """Nested keys, without any pydantic settings of its own."""

    r: int = 8
    alpha: float = 16.0


@dataclass(frozen=True)
class Echo(Modality):
    """A modality with every usual kind of field."""

    model: str
    lora: Adapter | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    size: tuple[int, int] = (4, 4)
    template: Path | None = None
    checkpointing: bool = False
    hub_token: str | None = None

    provides: ClassVar[frozenset[str]] = frozenset({"shared"})

    def __post_init__(self) -> None:
        if self.model == "forbidden":
            raise ValueError("the model 'forbidden' cannot be used")

    def build(self) -> Any:
        """Never called here."""
        raise NotImplementedError

    def collate(self, examples: Any) -> Any:
        """Never called here."""
        raise NotImplementedError

    def score(self, model: Any, batch: Any) -> Any:
        """Never called here."""
        raise NotImplementedError


@dataclass(frozen=True)
class Plain(Loss):
    """A loss that compares with a reference."""

    beta: float = 0.1

    def __call__(self, scores: Any) -> Any:
        """Never called here."""
        raise NotImplementedError


@dataclass(frozen=True)
class Free(Plain):
    """A loss without a reference."""

    uses_reference: ClassVar[bool] = False


@dataclass(frozen=True)
class Needy(Plain):
    """A loss that needs a detail that Echo lacks."""

    requires: ClassVar[frozenset[str]] = frozenset({"wpo"})


@dataclass(frozen=True)
class Notes(Reporter):
    """A reporter with a secret."""

    project: str = "dpo"
    api_key: str | None = None

    def start(self, run: Any) -> Any:
        """Never called here."""
        raise NotImplementedError


def rows(path: str | list[str], layout: str = "auto", columns: Mapping[str, str] | None = None) -> Iterable[Any]:
    """A data set with a required argument."""
    return ()


def anything(**options: Any) -> Iterable[Any]:
    """A data set that takes any argument."""
    return ()


class SmallParts:
    """The plugin. `broken_file` clashes with nothing: it is a recipe that does not parse."""

    def __init__(self, folder: Path) -> None:
        self.suite = folder / "suite.yaml"
        self.suite.write_text("name: tiny\n")
        self.recipe = folder / "shipped" / "small.yaml"
        self.recipe.parent.mkdir()
        (self.recipe.parent / "pairs.jsonl").write_text("")
        self.recipe.write_text(
            "# A small one.\nmodality: {name: echo, model: m}\ndata: {name: rows, path: pairs.jsonl}\nloss: plain\n"
        )

    @hookimpl
    def dpoframe_modalities(self) -> dict[str, Any]:
        """One modality, and one whose package is not there."""
        return {"echo": Echo, "lost": "no_such_package_at_all:Thing"}

    @hookimpl
    def dpoframe_losses(self) -> dict[str, Any]:
        """Three losses."""
        return {"plain": Plain, "free": Free, "needy": Needy}

    @hookimpl
    def dpoframe_datasets(self) -> dict[str, Any]:
        """Two data sets."""
        return {"rows": rows, "anything": anything}

    @hookimpl
    def dpoframe_reporters(self) -> dict[str, Any]:
        """One reporter."""
        return {"notes": Notes}

    @hookimpl
    def dpoframe_suites(self) -> dict[str, Path]:
        """One suite."""
        return {"tiny": self.suite}

    @hookimpl
    def dpoframe_recipes(self) -> dict[str, Path]:
        """One recipe."""
        return {"small": self.recipe}


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> PluginHost:
    """The core's parts and the small plugin, nothing else that happens to be installed."""
    made = PluginHost(entry_points=[], disabled=[])
    made.register(SmallParts(tmp_path_factory.mktemp("parts")), "small")
    return made
