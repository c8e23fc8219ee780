"""Pictures in the card of an exported model: what it drew beside what its base drew for the same prompt."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from dpoframe.harness import BASE, EvalFolder
from dpoframe.types import Media, as_text

COUNT = 4
"""Prompts shown."""
FOLDER = "samples"
_HEADING = "\n## Samples\n"
_LONGEST = 200


def add_samples(run: Path, model: Path, suites: Sequence[str]) -> None:
    """Puts pictures of a run's evaluations into the folder of its model, one a prompt, and a table of them into its README.md.

    Suites whose answers are no pictures change nothing. A card that has such a table already keeps it.

    Args:
        run: The run folder, with the evaluations of base and aligned model.
        model: The exported model.
        suites: Names of the suites, in order; the first with pictures is shown.
    """
    card = model / "README.md"
    if not card.is_file() or _HEADING in (text := card.read_text(encoding="utf-8")):
        return
    for suite in suites:
        if rows := _rows(run, suite, model / FOLDER):
            head = f"{_HEADING}\nThe suite {suite}, from the same noise.\n\n| prompt | base | aligned |\n|---|---|---|\n"
            card.write_text(text.rstrip("\n") + "\n" + head + "".join(rows), encoding="utf-8")
            return


def _rows(run: Path, suite: str, target: Path) -> list[str]:
    """Rows of the table; the pictures are copied to `target`."""
    before, after = (EvalFolder(place).samples() for place in (run / BASE / "eval" / suite, run / "eval" / suite))
    aligned = {row.id: row for row in after}
    rows: dict[str, str] = {}
    for row in before:
        prompt = _cell(as_text(row.prompt))
        pictures = [row.response, aligned[row.id].response] if row.id in aligned and prompt not in rows else []
        if len(rows) < COUNT and pictures and all(isinstance(one, Media) and one.kind == "image" and one.path for one in pictures):
            names = [_copied(one.path, target) for one in pictures]
            rows[prompt] = "| " + " | ".join([prompt, *(f"![]({name})" for name in names)]) + " |\n"
    return list(rows.values())


def _copied(picture: Path, target: Path) -> str:
    target.mkdir(exist_ok=True)
    shutil.copyfile(picture, target / picture.name)
    return f"{FOLDER}/{picture.name}"


def _cell(text: str) -> str:
    """A prompt as a cell of a Markdown table: in one line, and with nothing in it that Markdown or HTML would read."""
    line = " ".join(text.split())
    line = line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
    return "".join(f"&#{ord(char)};" if char in "|<>&`*_[]!\\#" else char for char in line)
