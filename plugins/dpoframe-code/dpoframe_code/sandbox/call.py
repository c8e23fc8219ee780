"""A call of a function of the program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpoframe_code.sandbox.wire import encode


@dataclass(frozen=True)
class Call:
    """A call of a function that the program defines, by name, with arguments that are plain data (see `wire`).

    Args:
        function: A name at the top of the program, or a dotted path from one (`Stack.push`).
        args: Positional arguments.
        kwargs: Keyword arguments.
    """

    function: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def tagged(self) -> dict[str, object]:
        """The call as it goes over the wire.

        Raises:
            WireError: An argument is not plain data.
        """
        return {"function": self.function, "args": encode(tuple(self.args)), "kwargs": encode(dict(self.kwargs))}
