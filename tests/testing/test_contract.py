"""What holds for the contracts of all kinds."""

from __future__ import annotations

import pytest
import torch

from dpoframe.testing import DatasetContract, EvaluatorContract, LossContract, ModalityContract, ReporterContract
from dpoframe.testing.contract import Contract
from dpoframe.testing.tensors import tensors_in


class Opaque:
    """Hides a tensor from Lightning."""

    def __init__(self, batch: object) -> None:
        self.batch = batch


@pytest.mark.parametrize("contract", [ModalityContract, DatasetContract, LossContract, EvaluatorContract, ReporterContract])
def test_every_check_says_what_must_hold_and_what_to_look_at(contract: type[Contract]) -> None:
    """Each check's docstring has a rule and an `If this fails:` note."""
    checks = contract.checks()
    assert len(checks) >= 6
    assert all(check.rule.endswith(".") and check.remedy.endswith(".") for check in checks)


def test_tensors_are_found_anywhere() -> None:
    """Tensors inside objects that Lightning does not look into are found."""
    value = {"a": [torch.zeros(1)], "b": Opaque((torch.ones(2), 3))}
    assert sorted(tensor.numel() for tensor in tensors_in(value)) == [1, 2]
