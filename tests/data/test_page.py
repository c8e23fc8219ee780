"""The page on data names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dpoframe.data.codes import CODES
from dpoframe.data.layouts import LAYOUTS

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Layouts", {(name, ", ".join(layout.needs)) for name, layout in LAYOUTS.items()}),
        ("Checks", {(code.name, code.kind) for code in CODES.values()}),
    ],
)
def test_tables(title, expected):
    """Every layout with its columns and every code with its kind is in the page, and no other."""
    section = re.split(rf"^## {title}$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w[\w-]*)` \| ([\w, ]+) \|", section, flags=re.MULTILINE)) == expected


def test_data_sets(core):
    """The page lists the core's data sets."""
    section = PAGE.read_text(encoding="utf-8").split("## Data sets")[1].split("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)`", section, flags=re.MULTILINE)) == core.names("dataset")
