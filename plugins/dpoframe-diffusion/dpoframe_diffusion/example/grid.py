"""Base and aligned drawings of one evaluation, side by side in one picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dpoframe_diffusion.example.digits import SIDE

if TYPE_CHECKING:
    from PIL import Image

SHOWN = 8
"""Drawings of each digit and model: the first ones, chosen by nothing else."""

ZOOM, GAP, HEAD = 2, 24, 18


def grid(run: Path, suite: str) -> Image.Image:
    """One row a prompt: left what the base drew, right what the aligned model drew from the same noise.

    Args:
        run: A run folder, with `base/eval/<suite>` and `eval/<suite>`.
        suite: The suite's name.
    """
    from PIL import Image, ImageDraw

    sides = [drawings(run / place / suite) for place in ("base/eval", "eval")]
    rows, cell = len(sides[0]), SIDE * ZOOM
    half = SHOWN * cell
    made = Image.new("RGB", (2 * half + GAP, HEAD + rows * cell), "white")
    pen = ImageDraw.Draw(made)
    for number, (title, drawn) in enumerate(zip(("base", "aligned"), sides, strict=True)):
        left = number * (half + GAP)
        pen.text((left + 4, 3), title, fill="black")
        for row, pictures in enumerate(drawn.values()):
            for column, file in enumerate(pictures[:SHOWN]):
                with Image.open(file) as picture:
                    larger = picture.convert("RGB").resize((cell, cell), Image.Resampling.NEAREST)
                made.paste(larger, (left + column * cell, HEAD + row * cell))
    return made


def drawings(folder: Path) -> dict[str, Sequence[Path]]:
    """The picture files of an evaluation by prompt, in the order of its seeds."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        prompt, _, number = row["id"].rpartition("#")
        found.setdefault(prompt, []).append((int(number), folder / row["response"]["path"]))
    return {prompt: [file for _, file in sorted(files)] for prompt, files in found.items()}
