"""What the contracts share: a contract is a class of checks that pytest can collect and the command line can run.

In a test module, subclass one under a name that begins with `Test` and say what is to be checked. Each check is a method
whose docstring says what must hold and, after `If this fails:`, what is most likely wrong.
"""

from __future__ import annotations

import inspect
import pickle
import unittest
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Literal, TypeVar

Result = TypeVar("Result")
REMEDY = "If this fails:"


@dataclass(frozen=True)
class Check:
    """One check of a contract: the method's name, what must hold, and what to look at where it does not."""

    name: str
    rule: str
    remedy: str


@dataclass(frozen=True)
class Outcome:
    """What became of one check; `message` says why it failed or was skipped."""

    check: Check
    status: Literal["passed", "failed", "skipped"]
    message: str = ""


class Contract:
    """Base of the contracts. What is dear to make (a model) is made once a class and shared by its checks."""

    _made: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._made = {}

    def once(self, name: str, make: Callable[[], Result]) -> Result:
        """The result of `make`, which is called once for all checks of this class."""
        if name not in self._made:
            self._made[name] = make()
        found: Result = self._made[name]
        return found

    @classmethod
    def checks(cls) -> list[Check]:
        """The checks in the order in which they are written, those of base classes first."""
        names: dict[str, None] = {}
        for base in reversed(cls.__mro__):
            names.update({name: None for name in vars(base) if name.startswith("test_")})
        return [_parse(name, getattr(cls, name)) for name in names]

    @classmethod
    def run(cls) -> Iterator[Outcome]:
        """Runs the checks one by one, outside pytest."""
        for check in cls.checks():
            yield _attempt(check, getattr(cls(), check.name))


class PartContract(Contract):
    """What holds for every part that is a class: modality, loss, evaluator, reporter."""

    kind: ClassVar[str]

    def part(self) -> Any:
        """The part under test."""
        raise NotImplementedError

    def test_is_what_its_kind_demands(self) -> None:
        """The class has the right base, leaves nothing abstract, and is a frozen dataclass.

        If this fails: subclass the base class and put @dataclass(frozen=True) above the class.
        """
        from dpoframe.plugins.kinds import fault_of_part

        fault = fault_of_part(self.kind, type(self.part()))
        expect(not fault, f"{type(self.part()).__name__} {fault}")

    def test_pickles(self) -> None:
        """An instance survives pickling, as it must to reach data-loading workers and other ranks.

        If this fails: keep only plain values in fields; open files and load models in the methods.
        """
        expect(pickle.loads(pickle.dumps(self.part())) == self.part(), "the unpickled instance differs from the original")

    def test_fields_survive_a_recipe(self) -> None:
        """Every field can be written into a recipe or checkpoint and read back to an equal instance.

        If this fails: give fields plain types (str, int, float, bool, tuples, paths, nested dataclasses of these),
        and annotate them with what they hold.
        """
        from pydantic import TypeAdapter

        part = self.part()
        adapter: TypeAdapter[Any] = TypeAdapter(type(part))
        written = adapter.dump_json(part)
        expect(adapter.validate_json(written) == part, f"{written.decode()} reads back as another value than {part!r}")


def expect(condition: bool, message: str) -> None:
    """Raises AssertionError with `message` unless `condition` holds; python -O does not remove it."""
    if not condition:
        raise AssertionError(message)


def skip(reason: str) -> None:
    """Ends a check as skipped, under pytest as on the command line."""
    raise unittest.SkipTest(reason)


def required_fields(part: type) -> list[str]:
    """Fields of a dataclass that must be given."""
    return [entry.name for entry in fields(part) if entry.init and entry.default is MISSING and entry.default_factory is MISSING]


def _parse(name: str, method: Callable[..., Any]) -> Check:
    """A check from a method and its docstring."""
    rule, _, remedy = (inspect.getdoc(method) or "").partition(REMEDY)
    return Check(name, " ".join(rule.split()), " ".join(remedy.split()))


def _attempt(check: Check, method: Callable[[], None]) -> Outcome:
    """Runs one check. Whatever it raises, but a keyboard interrupt, is the check's failure."""
    try:
        method()
    except KeyboardInterrupt:
        raise
    except unittest.SkipTest as reason:
        return Outcome(check, "skipped", str(reason))
    except AssertionError as error:
        return Outcome(check, "failed", str(error))
    except BaseException as error:
        from dpoframe.plugins.files import describe

        return Outcome(check, "failed", _with_place(error, describe(error)))
    return Outcome(check, "passed")


def _with_place(error: BaseException, text: str) -> str:
    """The message of an unexpected error with the innermost line of code it came from."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{text} ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace is not None else text
