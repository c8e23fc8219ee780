"""Opening a data set by its name."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import ConfigDict, ValidationError, validate_call
from pydantic.errors import PydanticUserError

from dpoframe.data.readers import SourceRows
from dpoframe.data.rows import shown
from dpoframe.errors import ConfigError, DpoframeError, Fault, PluginError, suggestion
from dpoframe.plugins import PluginHost, using
from dpoframe.types import PreferencePair, RefusedRow

Source = Callable[..., Iterable[PreferencePair | RefusedRow]]


def open_dataset(
    name: str, options: Mapping[str, Any], host: PluginHost, where: str = "data", ahead: int = 0
) -> Iterator[PreferencePair | RefusedRow]:
    """Pairs and refused rows of the data set that `host` knows as `name`; messages call the options' place `where`.

    The first `ahead` rows are left out; of those that read files or the hub nothing is made of them.

    Raises:
        UnknownNameError: no plugin supplies the name.
        ConfigError: an option is unknown, missing or of the wrong type; all of them are named.
        DataError: the data cannot be used.
        PluginError: the data set raises an error of its own, or yields something else than pairs and refused rows.
    """
    target: Source = host.get("dataset", name)
    _check_keys(name, target, options, where)
    # A data set made of others (a mixture) finds them in the same host.
    with using(host):
        rows = _guarded(name, lambda: _call(name, target, options, where))
    if isinstance(rows, SourceRows):
        rows.ahead.count = ahead
        return _only_pairs(name, rows)
    return itertools.islice(_only_pairs(name, iter(rows)), ahead, None)


def _check_keys(name: str, target: Source, options: Mapping[str, Any], where: str) -> None:
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    faults = [
        Fault(
            f"{where}.{key}",
            f"the data set {name!r} has no such key.",
            f"{suggestion(key, parameters)} It has: {', '.join(parameters)}.",
        )
        for key in options
        if key not in parameters
    ]
    faults += [
        Fault(f"{where}.{key}", f"the data set {name!r} needs this key.")
        for key, parameter in parameters.items()
        if parameter.default is parameter.empty and key not in options and parameter.kind is not parameter.VAR_POSITIONAL
    ]
    if faults:
        raise ConfigError(f"The options of the data set {name!r} are wrong:", faults)


def _call(name: str, target: Source, options: Mapping[str, Any], where: str) -> Iterable[PreferencePair | RefusedRow]:
    """Calls a data set with its options checked against its annotations, where pydantic understands these."""
    try:
        checked = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(target)
    except (PydanticUserError, NameError):
        return target(**options)
    try:
        return checked(**options)
    except ValidationError as error:
        raise ConfigError(f"The options of the data set {name!r} are wrong:", _faults(target, options, error, where)) from error


def _faults(target: Source, options: Mapping[str, Any], error: ValidationError, where: str) -> list[Fault]:
    """One fault an option: pydantic tells each branch of a union apart, which helps nobody."""
    parameters = inspect.signature(target).parameters
    wrong = dict.fromkeys(str(fault["loc"][0]) for fault in error.errors())
    return [Fault(f"{where}.{key}", f"must be {parameters[key].annotation}, found {shown(options[key])}.") for key in wrong]


def _only_pairs(name: str, rows: Iterator[Any]) -> Iterator[PreferencePair | RefusedRow]:
    while True:
        row = _guarded(name, lambda: next(rows, None))
        if row is None:
            return
        if not isinstance(row, PreferencePair | RefusedRow):
            raise PluginError(f"The data set {name!r} must yield PreferencePair or RefusedRow, but yielded {type(row).__name__}.")
        yield row


def _guarded(name: str, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except DpoframeError:
        raise
    except Exception as error:
        raise PluginError(f"The data set {name!r} failed: {type(error).__name__}: {error}. --debug shows where.") from error
