"""The recipe's `trainer` section and `lightning.Trainer`."""

from __future__ import annotations

from typing import Any

import lightning
import pytest

from dpoframe import ConfigError
from dpoframe.train.lightning_trainer import make_trainer


def test_no_recipe_gives_what_the_run_sets(make_recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every argument that a run sets is refused under `trainer.lightning` when the recipe is loaded, but for what it adds to."""
    passed: dict[str, Any] = {}
    with monkeypatch.context() as patched:
        patched.setattr(lightning, "Trainer", lambda **given: passed.update(given))
        make_trainer(make_recipe().trainer, 3, True, [])
    assert {"max_steps", "limit_val_batches", "num_sanity_val_steps", "enable_progress_bar"} <= set(passed)
    for name in sorted(set(passed) - {"plugins", "enable_model_summary"}):
        with pytest.raises(ConfigError, match=rf"lightning\.{name}\b.*(is set by dpoframe|is a key of the trainer section)"):
            make_recipe(f"trainer.lightning={{{name}: 1}}")
