"""A quick recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

import dpoframe

TOY = Path(dpoframe.__file__).parent / "testing" / "toy.py"
RECIPE = f"""
modality: {{name: '{TOY}:ToyModality'}}
data: {{name: '{TOY}:toy_dataset', count: 8}}
trainer: {{max_steps: 20, batch_size: 4, lr: 0.01, accelerator: cpu, devices: 1}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of the toy."""
    file = tmp_path / "chat.yaml"
    file.write_text(RECIPE)
    return file
