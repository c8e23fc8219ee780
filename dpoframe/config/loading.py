"""`load_recipe`: from a file, a shipped recipe's name or a mapping to a checked `Recipe`."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpoframe.config import checks, paths
from dpoframe.config.assembly import Assembly
from dpoframe.config.document import Document, read_file
from dpoframe.config.overrides import apply
from dpoframe.config.recipe import Recipe
from dpoframe.config.retention import check_retention, settled_retention
from dpoframe.config.suppliers import indirect_suppliers
from dpoframe.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from dpoframe.plugins import PluginHost

RECIPE_FILE = "recipe.yaml"


def load_recipe(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), host: PluginHost | None = None) -> Recipe:
    """Reads and checks a recipe.

    Args:
        source: A YAML file, a run folder (its recipe.yaml), the name of a shipped recipe, or the content as a mapping.
        overrides: Changes, each `key.sub=value`; the value is read as YAML, list entries are named by position.
        host: Where parts are looked up; the process's own unless given.

    Raises:
        ConfigError: the recipe is wrong; `faults` holds everything that was found.
        MissingExtraError: the recipe is right, but a part needs a package that is not installed.
    """
    if host is None:
        from dpoframe.plugins import host as current

        host = current()
    document = open_source(source, host)
    build = Assembly(document, host)
    build.faults += apply(document, overrides)
    paths.resolve(document)
    recipe = _assemble(build)
    checks.refuse(build)
    assert recipe is not None, "a recipe without faults is complete"
    return recipe


def open_source(source: str | Path | Mapping[str, Any], host: PluginHost) -> Document:
    """The document that `source` names; ConfigError where there is none."""
    if isinstance(source, Mapping):
        return Document(_plain(source))
    path = Path(source).expanduser()
    if path.is_dir() and (path / RECIPE_FILE).is_file():
        return read_file(path / RECIPE_FILE)
    if isinstance(source, Path) or path.suffix in (".yaml", ".yml") or path.is_file() or "/" in str(source):
        return read_file(path)
    try:
        return read_file(Path(host.get("recipe", str(source))))
    except UnknownNameError as error:
        raise UnknownNameError(f"{error}\nA recipe may also be a file: give the path of a .yaml file.", error.faults) from error


def _assemble(build: Assembly) -> Recipe | None:
    """The recipe, or None where a section could not be made; all faults are noted in `build` either way."""
    top, modality, data, losses = build.top(), build.modality(), build.data(), build.losses()
    reporters, reference, trainer = build.reporters(), build.reference(), build.trainer()
    during = build.evaluation()
    checks.check_masks(build)
    checks.check_details(build, modality, losses)
    checks.check_names(build)
    if trainer is not None:
        checks.check_trainer(build, trainer)
        checks.check_split(build, trainer, during)
    if reference is not None:
        reference = checks.settled_reference(reference, _names_kind(build.document), modality, losses)
        checks.check_reference(build, reference, modality, losses)
    if data is not None and trainer is not None and reference is not None:
        checks.check_window(build, data, trainer, reference)
    if data is not None and trainer is not None:
        check_retention(build, data, trainer, during)
    if top is None or modality is None or data is None or reference is None or trainer is None:
        return None
    return Recipe(
        modality=modality,
        data=data,
        loss=losses,
        reference=reference,
        trainer=settled_retention(checks.settled_trainer(trainer)),
        evaluate=during.suites if during is not None else top.evaluate,
        during=during,
        reporters=reporters,
        plugins=top.plugins,
        seed=top.seed,
        name=top.name or _default_name(build.document),
        description=top.description,
        suppliers=indirect_suppliers(build.host, data, during.suites if during is not None else top.evaluate),
    )


def _names_kind(document: Document) -> bool:
    given = document.data.get("reference")
    return isinstance(given, str) or (isinstance(given, Mapping) and "kind" in given)


def _default_name(document: Document) -> str:
    """The file's name without its ending; `run` for a recipe that is no file."""
    file = Path(document.name)
    return re.sub(r"^\W+|[^\w .+:@=-]", "", file.stem) or "run" if file.suffix in (".yaml", ".yml") else "run"


def _plain(value: Any) -> Any:
    """A deep copy in which mappings are dicts and sequences lists, as YAML would have given them."""
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise ConfigError(f"The keys of a recipe are words, but one is {wrong[0]!r}.")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return copy.deepcopy(value)
