"""Values on the wire: whatever goes comes back the same, and nothing else comes at all."""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from typing import Any

import pytest
from dpoframe_code.sandbox import Call, Sandbox, WireError
from dpoframe_code.sandbox.wire import MAX_DEPTH, MAX_FRAME, MAX_NODES, decode, encode, frame, message
from hypothesis import given, settings
from hypothesis import strategies as st

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.fractions()
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.lists(inner, max_size=4).map(deque)
        | st.sets(ATOMS, max_size=4)
        | st.frozensets(ATOMS, max_size=4)
        | st.dictionaries(ATOMS, inner, max_size=4)
    ),
    max_leaves=12,
)


def shape(value: Any) -> Any:
    """The types of a value and of its members: `1 == True == 1.0` hides them from `==`."""
    if isinstance(value, dict):
        return dict, [(shape(key), shape(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple, deque)):
        return type(value), [shape(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(map(repr, value))
    return type(value), hex(value) if type(value) is int else repr(value)


def sent(value: Any) -> Any:
    """A value after its way through JSON text."""
    return decode(message(frame({"value": encode(value)})[4:])["value"])


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_values_come_back_the_same(value: Any) -> None:
    """Plain data comes back equal, with the same types, signs of zero and order of dicts."""
    assert sent(value) == value
    assert shape(sent(value)) == shape(value)


EXACT = [
    *(0, -1, True, False, None, 2**53, -(2**53), 2**53 - 1, 10**5000, -(10**5000), 0.1, -0.0, math.inf, -math.inf, 5e-324),
    *("", "\0", "\ud800 lone", "né", b"", bytes(range(256)), bytearray(b"x"), 1 + 2j, -0.0j, complex(math.inf, -math.inf)),
    *([], (), set(), frozenset(), {}, (1,), [[]], {(1, "a"): {2: [3]}}, {1, 2.5, "a", None}, deque([1], maxlen=3)),
    *(range(0), range(5, -5, -2), Decimal("1.50"), Decimal("-0"), Decimal("Infinity"), Decimal("1E+999"), Fraction(-1, 3)),
    *({"b": 1, "a": 2}, {frozenset({1}): frozenset({frozenset()})}, [1, 1.0, True], {1: "int"}, {True: "bool"}),
]


@pytest.mark.parametrize("value", EXACT, ids=range(len(EXACT)))
def test_corners_come_back_from_the_sandbox(value: Any, sandbox: Sandbox) -> None:
    """The corners of each type survive both ways through a worker: as an argument and as an answer."""
    (outcome,) = sandbox.run("def same(x): return x", [Call("same", (value,))])
    assert (outcome.status, shape(outcome.value)) == ("returned", shape(value))


def test_nan_comes_back(sandbox: Sandbox) -> None:
    """NaN stays NaN, wherever it stands."""
    answers = sandbox.run("def f(): return [float('nan'), {1: complex('nan')}]", [Call("f")])[0].value
    assert math.isnan(answers[0])
    assert math.isnan(answers[1][1].real)


def test_subclasses_go_by_their_content() -> None:
    """Counters, named tuples, enumerations and the like come back as the builtin that they are."""
    point = namedtuple("point", "x y")
    colour = IntEnum("colour", "RED GREEN")
    for given_value, wanted in [
        (Counter("aab"), {"a": 2, "b": 1}),
        (defaultdict(list, {1: [2]}), {1: [2]}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (point(1, 2), (1, 2)),
        (colour.GREEN, 2),
    ]:
        assert sent(given_value) == wanted
        assert type(sent(given_value)) is type(wanted)


def test_objects_are_never_asked() -> None:
    """What an object says of itself decides nothing, and is not even called."""

    class Liar(list):  # type: ignore[type-arg]
        def _no(self, *_: Any) -> Any:
            raise AssertionError("asked")

        __eq__ = __len__ = __iter__ = __repr__ = __reduce__ = __bool__ = __getattribute__ = __getitem__ = _no  # type: ignore[assignment]

    assert sent(Liar([1, 2])) == [1, 2]


@pytest.mark.parametrize("value", [object(), int, len, iter([]), (x for x in ()), json, {}.keys(), map(str, []), Ellipsis])
def test_what_is_not_plain_data_is_refused(value: Any) -> None:
    """Objects, types, functions, iterators and modules do not go over the wire, and neither do containers of them."""
    for each in (value, [value], {1: value}, (1, [value])):
        with pytest.raises(WireError):
            encode(each)


def deep(levels: int) -> Any:
    """Lists within lists."""
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def test_depth_is_limited() -> None:
    """The documented depth goes through, one more does not."""
    assert sent(deep(MAX_DEPTH)) == deep(MAX_DEPTH)
    mapping: Any = 0
    for _ in range(MAX_DEPTH):
        mapping = {1: mapping}
    assert sent(mapping) == mapping
    with pytest.raises(WireError, match="deeper"):
        encode(deep(MAX_DEPTH + 1))


def nested(levels: int) -> Any:
    """Tagged lists within lists."""
    tagged: Any = 0
    for _ in range(levels):
        tagged = ["l", [tagged]]
    return tagged


COLLIDING = [["i", hex(i * ((1 << 61) - 1))] for i in range(1, 200)]
"""Integers with one hash."""
FORGED: list[Any] = [
    *(["x", 1], [], [[]], ["l"], ["l", 1], ["l", [], []], ["i", "zz"], ["i", 5], ["f", "x"], ["f", 1], ["c", "0", 1], ["b", "0"]),
    *(["d", [[1]]], ["d", [[1, 2, 3]]], ["d", [[["l", []], 1]]], ["s", [["l", []]]], ["s", COLLIDING]),
    *(["D", "x"], ["D", 1], ["D", "sNaN", 1], ["s", [["D", "sNaN"]]], ["F", 1, 0], ["F", "1", 2], ["F", ["i", hex(1 << 70000)], 3]),
    *(["r", 0, 1, 0], ["r", "0", 1, 1], {"a": 1}, 1.5, ["d", [[key, 0] for key in COLLIDING]]),
    *(nested(2 * MAX_DEPTH), ["l", [0] * (4 * MAX_NODES)]),
]


@pytest.mark.parametrize("tagged", FORGED, ids=range(len(FORGED)))
def test_forged_values_are_refused(tagged: Any) -> None:
    """What no encoder of ours writes raises WireError and nothing else."""
    with pytest.raises(WireError):
        decode(tagged)


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[]", b"1", b'{"a": 1.5}', b'{"a": NaN}', b'{"a": 1e999}', b"\xff", b"[" * 100000, b'{"a": ' + b"9" * 5000 + b"}"],
)
def test_forged_messages_are_refused(payload: bytes) -> None:
    """Bytes that are no message raise WireError and nothing else."""
    with pytest.raises(WireError):
        message(payload)


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=4), max_leaves=20)
)
def test_no_form_breaks_the_reader(tagged: Any) -> None:
    """Whatever JSON comes, the reader gives plain data or raises WireError."""
    with contextlib.suppress(WireError):
        decode(tagged)


def test_frames_are_limited() -> None:
    """A message over the limit is refused where it is made."""
    with pytest.raises(WireError, match=str(MAX_FRAME)):
        frame({"value": "x" * MAX_FRAME})


def test_arguments_must_be_plain_data(sandbox: Sandbox) -> None:
    """A call with an argument that cannot go raises, and the sandbox works on."""
    with pytest.raises(WireError, match="object"):
        sandbox.run("def f(x): return x", [Call("f", (object(),))])
    assert sandbox.run("def f(x): return x", [Call("f", (1,))])[0].value == 1
