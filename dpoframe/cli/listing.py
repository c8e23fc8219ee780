"""The listing that `recipes` and `suites` share: YAML files that plugins supply by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from dpoframe.cli import output


def show(kind: str, used_by: str) -> None:
    """Lists the files of one kind (`recipe` or `suite`) with what they do and who supplies them.

    Args:
        kind: A kind of the plugin host whose parts are YAML files.
        used_by: Where such a name is used, for the hint.
    """
    from dpoframe.plugins import host

    found = host()
    rows = [_row(found, kind, name) for name in found.names(kind)]
    if not rows:
        output.emit([], f"No installed plugin supplies a {kind}. Install one, such as: pip install dpoframe-text dpoframe-evals")
        return
    cells = [(row["name"], row["description"], row["distribution"]) for row in rows]
    output.emit(rows, output.table(["name", "what it does", "from"], cells))
    output.say(f"Use a name with: {used_by}", style="dim")


def _row(host: Any, kind: str, name: str) -> dict[str, str]:
    file = Path(host.get(kind, name))
    return {"name": name, "description": described(file), "distribution": host.owner(kind, name).distribution, "path": str(file)}


def described(file: Path) -> str:
    """What a recipe or suite says of itself: its `description:`, else the first comment at its top."""
    try:
        text = file.read_text(encoding="utf-8")
        document = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        return f"(cannot be read: {type(error).__name__})"
    given = document.get("description") if isinstance(document, dict) else None
    comments = [line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("#")]
    return str(given or next(iter(comments), "")).strip()
