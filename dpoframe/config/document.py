"""A recipe's text as data: YAML read strictly, with the line of every key.

Plain YAML 1.1 has traps for recipes: `5e-6` is a string there, `no` and `on` are booleans, `1:30` is a number, a date is
no string, and a repeated key silently wins. This reader follows YAML 1.2's core schema in all of these, refuses repeated
keys, and bounds the size of what a file expands to.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from dpoframe.errors import ConfigError, Fault

KeyPath: TypeAlias = tuple[str | int, ...]
LARGEST = 256 * 1024
MOST_NODES = 20_000
_LEAST = {"recipe": "modality, data", "suite": "name, version, evaluators"}
_SCALARS = {
    "tag:yaml.org,2002:bool": r"true|True|TRUE|false|False|FALSE",
    "tag:yaml.org,2002:null": r"~|null|Null|NULL|",
    "tag:yaml.org,2002:int": r"[-+]?[0-9]+|0x[0-9a-fA-F]+",
    "tag:yaml.org,2002:float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "tag:yaml.org,2002:merge": r"<<",
}


class StrictLoader(yaml.SafeLoader):
    """Reads YAML 1.2's plain scalars."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own attribute


class StrictDumper(yaml.SafeDumper):
    """Writes what `StrictLoader` reads back, and YAML 1.1 too: strings that either would take for something else are quoted."""

    def ignore_aliases(self, data: Any) -> bool:
        """Writes repeated values out, so that a reader needs no anchors."""
        return True


def _quoted_where_odd(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Strings with line breaks of any alphabet, or characters no screen shows, are quoted; `write` escapes these in them."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


StrictDumper.add_representer(str, _quoted_where_odd)
for _tag, _pattern in _SCALARS.items():
    for _kind in (StrictLoader, StrictDumper):
        _kind.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), None)


def _integer(_: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    """PyYAML's own takes a leading 0 for octal, and leaves numbers that Python refuses for their length to fail as they do."""
    try:
        return int(node.value, 16 if "x" in node.value else 10)
    except ValueError as error:
        told = f"found a number of {len(node.value)} digits"
        raise yaml.constructor.ConstructorError(None, None, told, node.start_mark) from error


StrictLoader.add_constructor("tag:yaml.org,2002:int", _integer)
# PyYAML's own float constructor takes `:` for base 60.
StrictLoader.add_constructor(
    "tag:yaml.org,2002:float", lambda _, node: float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))
)


@dataclass
class Document:
    """Data with its provenance.

    Attributes:
        data: The mapping at the top.
        name: What messages call it: the file's path, or `the recipe`.
        base: Folder that relative paths in it start from.
        lines: Line of each key path, from 1.
        given: Key paths set on the command line.
        kind: What it is, a `recipe` or a `suite`, for messages.
        values: How many values were looked at, those behind an alias each time anew.
    """

    data: dict[str, Any]
    name: str = "the recipe"
    base: Path = field(default_factory=Path.cwd)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    given: set[KeyPath] = field(default_factory=set)
    kind: str = "recipe"
    values: int = 0

    def where(self, path: KeyPath) -> str:
        """A key path for a message, with its line, or that it came from the command line."""
        label = ".".join(map(str, path))
        for depth in range(len(path), 0, -1):
            if path[:depth] in self.given:
                return f"{label} (--set)"
            if path[:depth] in self.lines:
                return f"{label} (line {self.lines[path[:depth]]})"
        return label

    def folder(self, path: KeyPath) -> Path:
        """Folder that a relative path at `path` starts from: the file's, or the current one for what was set by hand."""
        by_hand = any(path[:depth] in self.given for depth in range(len(path) + 1))
        return Path.cwd() if by_hand else self.base


def read_file(file: Path, kind: str = "recipe") -> Document:
    """Reads a YAML file that holds a mapping; `kind` says in messages what it should be.

    Raises:
        ConfigError: the file is missing, too large, not UTF-8, not YAML, or holds something else.
    """
    try:
        if file.stat().st_size > LARGEST:
            raise ConfigError(f"{file} has more than {LARGEST // 1024} KiB, too much for a {kind}. Is it the right file?")
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        or_folder = ", a run folder" if kind == "recipe" else ""
        known = f"A {kind} is a YAML file{or_folder}, or a name that `dpoframe {kind}s` lists."
        raise ConfigError(f"There is no file {file} (looked for from {Path.cwd()}). {known}") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{file} is a folder; a {kind} is a YAML file.") from error
    return read_text(text, str(file), file.resolve().parent, kind)


def read_text(text: str, name: str, base: Path, kind: str = "recipe") -> Document:
    """As `read_file`, from text; `name` stands in messages, relative paths start from `base`."""
    try:
        node = yaml.compose(text, Loader=StrictLoader)
        document = Document({}, name, base, kind=kind)
        if node is None:
            raise ConfigError(f"{name} is empty. A {kind} needs at least: {_LEAST[kind]}.")
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{name} must hold a mapping of keys ({_LEAST[kind]}, ...), but holds {_shape(node)}.")
        faults = list(_survey(node, (), document, []))
        if faults:
            raise ConfigError(f"{name} cannot be read:", faults)
        document.data = construct(node)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{name} is not valid YAML:", [_syntax_fault(error)]) from error
    except (yaml.YAMLError, RecursionError) as error:
        what = "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise ConfigError(f"{name} is not valid YAML: {what}") from error
    return document


def scalar_or_tree(text: str) -> Any:
    """The value of one `--set`, typed as YAML; the text itself where it is no YAML.

    Raises:
        ConfigError: it repeats a key or expands to too much.
    """
    try:
        node = yaml.compose(text, Loader=StrictLoader)
        if node is None:
            return None
        faults = list(_survey(node, (), Document({}), []))
        if faults:
            raise ConfigError("The value cannot be read:", faults)
        return construct(node)
    except (yaml.YAMLError, RecursionError):
        return text


def construct(node: yaml.Node) -> Any:
    """The data of a composed node."""
    loader = StrictLoader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def write(data: Mapping[str, Any]) -> str:
    """`data` as YAML that `read_text` reads back to the same."""
    text = yaml.dump(dict(data), Dumper=StrictDumper, sort_keys=False, allow_unicode=True, width=120)
    # What is odd stands between double quotes, where PyYAML leaves marks that turn the direction of text, and others, as they are.
    return "".join(one if one.isprintable() or one == "\n" or unicodedata.category(one) == "Zs" else _escape(one) for one in text)


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02X}" if number < 0x100 else f"\\u{number:04X}" if number < 0x10000 else f"\\U{number:08X}"


def _survey(node: yaml.Node, path: KeyPath, document: Document, above: list[yaml.Node]) -> Iterator[Fault]:
    """Notes the line of every key; yields repeated and unfit keys, NaN, cycles, and an end where there is too much."""
    if node in above:
        yield Fault(document.where(path), "an alias refers to what it stands in.")
        return
    document.lines.setdefault(path, node.start_mark.line + 1)
    document.values += 1  # not the paths: what is merged in lies at the path of what it is merged into
    if document.values > MOST_NODES:
        raise ConfigError(f"{document.name} expands to more than {MOST_NODES} values, too much for a {document.kind}.")
    above.append(node)
    if isinstance(node, yaml.MappingNode):
        yield from _survey_mapping(node, path, document, above)
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield from _survey(child, (*path, index), document, above)
    elif node.tag == "tag:yaml.org,2002:float" and math.isnan(construct(node)):
        yield Fault(document.where(path), "is not a number (NaN).", "Give a number.")
    above.pop()


def _survey_mapping(node: yaml.MappingNode, path: KeyPath, document: Document, above: list[yaml.Node]) -> Iterator[Fault]:
    """The same for the keys of a mapping, and what stands under them."""
    first: dict[str, yaml.Node] = {}
    for key, child in node.value:
        line = key.start_mark.line + 1
        if key.tag == "tag:yaml.org,2002:merge":
            yield from _survey(child, path, document, above)
            continue
        if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
            shown = key.value if isinstance(key, yaml.ScalarNode) else _shape(key)
            yield Fault(f"line {line}", f"the key {shown} is no word.", "Put it in quotes if it is meant.")
            continue
        below = (*path, key.value)
        if first.setdefault(key.value, key) is not key:
            told = f"It is on line {first[key.value].start_mark.line + 1} already."
            yield Fault(f"line {line}", f"the key {key.value!r} stands twice.", told)
            continue
        document.lines[below] = line
        yield from _survey(child, below, document, above)


def _shape(node: yaml.Node) -> str:
    return {yaml.ScalarNode: "a single value", yaml.SequenceNode: "a list"}.get(type(node), "a mapping")


def _syntax_fault(error: yaml.MarkedYAMLError) -> Fault:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    problem = " ".join(filter(None, [error.context, error.problem]))
    hint = "Indent with spaces, not tabs." if "'\\t'" in problem else ""
    return Fault(where, f"{problem}.", hint)
