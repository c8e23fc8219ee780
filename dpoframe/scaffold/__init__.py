"""Writes the folder of a new plugin: an installable distribution with one part, its test, and a README."""

from __future__ import annotations

import importlib.util
import keyword
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dpoframe.errors import ConfigError, suggestion
from dpoframe.plugins import KINDS, host
from dpoframe.plugins.kinds import SINGULARS

KINDS_OFFERED = ("modality", "dataset", "evaluator", "loss", "reporter")
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
TEMPLATES = Path(__file__).parent / "templates"


def write_plugin(kind: str, name: str, out: Path) -> Path:
    """Writes the folder `OUT/dpoframe-NAME` and returns its path. Nothing is written where anything is wrong.

    Args:
        kind: One of `KINDS_OFFERED`.
        name: What recipes will call the part: lower-case letters, digits and single dashes.
        out: An existing folder, or one to be made.

    Raises:
        ConfigError: the kind or name cannot be used, or the folder exists.
    """
    require_kind(kind)
    require_name(kind, name)
    folder = out.expanduser().resolve() / f"dpoframe-{name}"
    if folder.exists():
        raise ConfigError(f"{folder} exists already; nothing was written. Choose another name, another --out, or move it away.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".dpoframe-", dir=folder.parent))
    try:
        _fill(made, kind, name)
        made.chmod(0o755)
        made.replace(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return folder


def require_kind(kind: str) -> None:
    """Refuses a kind for which there is no template."""
    if kind not in KINDS_OFFERED:
        near = suggestion(kind, KINDS_OFFERED)
        raise ConfigError(f"There is no template for {kind!r}. {near + ' ' if near else ''}Kinds: {', '.join(KINDS_OFFERED)}.")


def require_name(kind: str, name: str) -> None:
    """Refuses a name that cannot name a distribution, a package and a part at once, or that is taken."""
    package = f"dpoframe_{name.replace('-', '_')}"
    if not NAME.fullmatch(name):
        reason = "must be lower-case letters, digits and single dashes, and start with a letter"
    elif name.startswith("dpoframe"):
        reason = "must not begin with dpoframe, which is put in front of it anyway"
    elif keyword.iskeyword(name) or name == "builtin":
        reason = "is a reserved word"
    elif importlib.util.find_spec(package) is not None:
        reason = f"would need the package {package}, which is installed already"
    elif name in host().names(kind):
        reason = f"is taken: the plugin {host().owner(kind, name).name!r} supplies the {SINGULARS[kind]} {name!r}"
    else:
        return
    raise ConfigError(f"The name {name!r} {reason}. Choose another.")


def _fill(folder: Path, kind: str, name: str) -> None:
    """Renders every template of the kind into the folder."""
    import jinja2

    package = f"dpoframe_{name.replace('-', '_')}"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    values = _values(kind, name, package)
    for path, template in _files(kind, package).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(environment.get_template(template).render(values) if template else "", encoding="utf-8")


def _files(kind: str, package: str) -> Mapping[str, str]:
    """Path in the new folder to its template; an empty template makes an empty file."""
    data = {f"{package}/example.tsv": "example.tsv.j2"} if kind == "dataset" else {}
    return {
        "pyproject.toml": "pyproject.toml.j2",
        "README.md": "README.md.j2",
        f"{package}/__init__.py": "package.py.j2",
        f"{package}/{kind}.py": f"{kind}.py.j2",
        f"{package}/py.typed": "",
        **data,
        f"tests/test_{package}.py": f"test_{kind}.py.j2",
    }


def _values(kind: str, name: str, package: str) -> Mapping[str, str]:
    """What the templates may use."""
    words = "".join(word.capitalize() for word in name.split("-"))
    target = name.replace("-", "_") if kind == "dataset" else words.removesuffix(kind.capitalize()) + kind.capitalize()
    if keyword.iskeyword(target) or target in sys.stdlib_module_names:
        target = f"{target}_pairs"
    return {"kind": kind, "name": name, "package": package, "hook": KINDS[kind], "target": target}
