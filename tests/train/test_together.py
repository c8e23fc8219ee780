"""What all ranks learn before any of them goes on."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch

from dpoframe import MachineError
from dpoframe.testing import in_ranks
from dpoframe.train.together import raise_together


@pytest.mark.parametrize(("error", "told"), [(MemoryError(), "MemoryError"), (OSError("no room"), "no room")])
def test_an_error_of_one_rank_is_raised_on_all(error: Exception, told: str) -> None:
    """With its words, or its kind where it has none."""

    def one_fails() -> None:
        torch.distributed.init_process_group("gloo")
        first = os.environ["RANK"] == "0"
        with pytest.raises(MachineError if first else type(error), match=told if first else None):
            raise_together(None if first else error, SimpleNamespace(world_size=2))
        raise_together(None, SimpleNamespace(world_size=2))
        torch.distributed.destroy_process_group()

    in_ranks(one_fails, longest=120)
