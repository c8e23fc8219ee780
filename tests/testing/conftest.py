"""What the tests of all contracts share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dpoframe.testing.contract import Contract


@pytest.fixture
def failed() -> Callable[..., set[str]]:
    """`failed(contract, part=...)`: the names, without `test_`, of the checks that fail for a part."""

    def check(contract: type[Contract], **attributes: Any) -> set[str]:
        bound = type("Checked", (contract,), attributes)
        return {outcome.check.name.removeprefix("test_") for outcome in bound.run() if outcome.status == "failed"}

    return check
