"""What values a loss's parameters may take, stated once in their types and checked when a loss is made."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict, TypeAdapter, ValidationError

from dpoframe.errors import ConfigError, Fault, suggestion

if TYPE_CHECKING:
    from dpoframe.loss import Loss

Positive: TypeAlias = Annotated[float, Gt(0)]
"""A finite number above 0."""

NotNegative: TypeAlias = Annotated[float, Ge(0)]
"""A finite number, 0 or above."""

Share: TypeAlias = Annotated[float, Ge(0), Le(1)]
"""A number from 0 to 1, both included."""

Smoothing: TypeAlias = Annotated[float, Ge(0), Lt(0.5)]
"""The assumed share of wrong labels, from 0 to below 1/2; at 1/2 the labels would say nothing."""

OpenSmoothing: TypeAlias = Annotated[float, Gt(0), Lt(0.5)]
"""As `Smoothing`, but above 0."""


@functools.cache
def _adapters(cls: type[Loss]) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(cls, include_extras=True)
    config = ConfigDict(strict=True, allow_inf_nan=False)
    return {field.name: TypeAdapter(hints[field.name], config=config) for field in dataclasses.fields(cls)}


def faults(cls: type[Loss], values: Mapping[str, Any]) -> list[Fault]:
    """All that is wrong with `values` as parameters of the loss `cls`: unknown names first, then values out of range."""
    adapters = _adapters(cls)
    known = ", ".join(adapters) or "none"
    found = [
        Fault(name, "the loss has no such parameter;", f"it has: {known}. {suggestion(name, adapters)}")
        for name in values
        if name not in adapters
    ]
    for name in [name for name in values if name in adapters]:
        try:
            adapters[name].validate_python(values[name])
        except ValidationError as error:
            found += [Fault(name, f"{values[name]!r} was given: {detail['msg']}.") for detail in error.errors()]
    return found


def check(cls: type[Loss], name: str, values: Mapping[str, Any]) -> None:
    """Raises one ConfigError with all faults of `values` as parameters of the loss `cls`, called `name` in messages."""
    if found := faults(cls, values):
        raise ConfigError(f"The loss {name!r} cannot be made with these parameters:", found)
