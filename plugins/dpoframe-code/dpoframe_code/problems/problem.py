"""One problem, whatever benchmark it is of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

Kind: TypeAlias = Literal["check", "asserts", "inputs"]
"""What `tests` are: a source that defines `check(candidate)`; a source of statements that call the function by its name;
or nothing, where `inputs` are given to the solution to learn the right answers."""

KEY = "problem"
"""Under which a problem stands in a sample's `meta`."""


@dataclass(frozen=True)
class Problem:
    """A problem to be solved by a function.

    Attributes:
        id: Its name in the benchmark.
        entry_point: The function that is asked for.
        kind: What its tests are.
        tests: Source of the tests.
        solution: The benchmark's own solution, a whole program; empty where it has none.
        text: The task in words; empty where the starter's docstring says it.
        starter: Code that an answer continues: imports, helpers, signature and docstring; empty where none is given.
        shown: Tests that the prompt shows, as lines of code.
        inputs: For the kind `inputs`, the arguments of every call.
        tolerance: For the kind `inputs`, how far floats may be off.
    """

    id: str
    entry_point: str
    kind: Kind
    tests: str = ""
    solution: str = ""
    text: str = ""
    starter: str = ""
    shown: tuple[str, ...] = ()
    inputs: Sequence[Sequence[Any]] = ()
    tolerance: float = 0.0

    def plain(self) -> dict[str, Any]:
        """The problem as JSON can hold it, defaults left out: what a sample's `meta` carries."""
        return {name: value for name, value in asdict(self).items() if value not in ("", (), 0.0)}

    @classmethod
    def of_plain(cls, given: Mapping[str, Any]) -> Problem:
        """A problem out of what `plain` gave.

        Raises:
            ValueError: It is not of that form.
        """
        known = [one.name for one in fields(cls)]
        if unknown := sorted(set(given) - set(known)):
            raise ValueError(f"it has the unknown keys {', '.join(unknown)}")
        texts = ("id", "entry_point", "kind", "tests", "solution", "text", "starter")
        if wrong := [name for name in texts if not isinstance(given.get(name, ""), str)]:
            raise ValueError(f"{', '.join(wrong)} must be text")
        if not given.get("entry_point") or given.get("kind") not in get_args(Kind):
            raise ValueError(f"it needs an entry_point, and a kind of {', '.join(get_args(Kind))}")
        return cls(**{"id": "", **given, "shown": tuple(given.get("shown", ()))})

    def digest(self) -> str:
        """Hex digest of what decides a verdict."""
        parts = [self.entry_point, self.kind, self.tests, self.solution, self.starter, self.inputs, self.tolerance]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
