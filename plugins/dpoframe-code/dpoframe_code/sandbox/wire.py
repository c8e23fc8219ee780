"""The wire: values as tagged JSON of exact builtins, in frames with a length before them.

Both sides use this module. The inner side cannot be trusted, so nothing that arrives is unpickled, evaluated or called:
`decode` builds None, bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, range, deque,
Decimal and Fraction, and refuses everything else.

    null true false "text" 12     stand for themselves (int below 2**53)
    ["i", "0x2b.."]               int                     ["f", "0x1.8p+1"]   float, also "inf" and "nan"
    ["c", re, im]                 complex, two floats     ["b", "00ff"] ["B"] bytes, bytearray, in hex
    ["l", [..]] ["t"] ["s"] ["S"] ["q"]                   list, tuple, set, frozenset, deque
    ["d", [[key, value], ..]]     dict, in order          ["r", start, stop, step]  range
    ["D", "1.50"]                 Decimal                 ["F", 1, 3]         Fraction
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from types import NoneType
from typing import Any, NoReturn

MAX_DEPTH = 100
"""Containers within containers. The JSON nests twice as deep, which the standard library's reader still takes."""
MAX_NODES = 500_000
"""Values in one message, counted as often as they are met: shared parts can make a small object endless."""
MAX_FRAME = 4 << 20
"""Bytes in one message."""
MAX_COLLISIONS = 64
"""Members of a set, or keys of a dict, with one hash: more are an attack on the time of whoever builds it."""
MAX_FRACTION_BITS = 1 << 16
"""Bits of the parts of a Fraction."""
_SMALL = 1 << 53


class WireError(ValueError):
    """A value cannot go over the wire, or what came over it is not of its form."""


def encode(value: object) -> object:
    """The tagged form of `value`, made of None, bool, int, str and lists.

    Subclasses of builtins go by their content, read with the builtin's own methods: what an object says of itself through
    `__eq__`, `__len__`, `__iter__`, `__repr__` or `__reduce__` is never asked.

    Raises:
        WireError: The value, or a part of it, is of another type, too deep or too large.
    """
    return _Encoder().encode(value, 0)


class _Encoder:
    """Counts what it meets."""

    def __init__(self) -> None:
        self.nodes = 0

    def encode(self, value: object, depth: int) -> object:
        """One value at its depth."""
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            raise WireError(f"more than {MAX_NODES} values, or deeper than {MAX_DEPTH}")
        kind = type(value)
        plain = _PLAIN.get(kind)
        if plain is not None:
            return plain(value)
        for base in kind.__mro__:
            if base in _PLAIN:
                return _PLAIN[base](value)
            if base in _MEMBERS:
                tag, members = _MEMBERS[base]
                return [tag, [self.encode(member, depth + 1) for member in members(value)]]
            if base is dict:
                return ["d", [self._pair(pair, depth + 1) for pair in _items(value)]]
        raise WireError(f"a value of type {kind.__name__!r} is not plain data")

    def _pair(self, pair: tuple[object, object], depth: int) -> list[object]:
        return [self.encode(pair[0], depth), self.encode(pair[1], depth)]


def _items(value: Any) -> Iterable[tuple[object, object]]:
    return dict.items(value)


def _integer(value: Any) -> object:
    number = int.__index__(value)
    return number if -_SMALL < number < _SMALL else ["i", hex(number)]


def _text(value: Any) -> str:
    return str.__str__(value)


def _exact_fraction(value: Any) -> object:
    # Fraction is written in Python: a subclass could answer anything for its parts.
    if type(value) is not Fraction:
        raise WireError("a subclass of Fraction is not plain data")
    return ["F", _integer(value.numerator), _integer(value.denominator)]


_PLAIN: dict[type, Callable[[Any], object]] = {
    NoneType: lambda value: value,
    bool: lambda value: value,
    int: _integer,
    str: _text,
    float: lambda value: ["f", float.hex(value)],
    complex: lambda value: ["c", *(float.hex(part) for part in (complex.real.__get__(value), complex.imag.__get__(value)))],
    bytes: lambda value: ["b", bytes.hex(value)],
    bytearray: lambda value: ["B", bytearray.hex(value)],
    range: lambda value: ["r", _integer(value.start), _integer(value.stop), _integer(value.step)],
    Decimal: lambda value: ["D", Decimal.__str__(value)],
    Fraction: _exact_fraction,
}
_MEMBERS: dict[type, tuple[str, Callable[[Any], Iterable[object]]]] = {
    list: ("l", list.__iter__),
    tuple: ("t", tuple.__iter__),
    set: ("s", set.__iter__),
    frozenset: ("S", frozenset.__iter__),
    deque: ("q", deque.__iter__),
}


def decode(tagged: object) -> Any:
    """The value that `encode` was given, as exact builtins.

    Raises:
        WireError: `tagged` is of no known form.
    """
    _check_size(tagged)
    return _decoded(tagged)


def _check_size(tagged: object) -> None:
    """What was forged need not keep to the limits of `encode`, and whoever handles the value relies on them."""
    level, depth, nodes = [tagged], 0, 0
    while level:
        depth, nodes = depth + 1, nodes + len(level)
        # A dict takes three lists within each other, and a value in it at most four members of lists.
        if depth > 3 * MAX_DEPTH + 3 or nodes > 4 * MAX_NODES:
            raise WireError("too many values, or too deep")
        level = [member for each in level if type(each) is list for member in each]


def _decoded(tagged: object) -> Any:
    if tagged is None or type(tagged) in (bool, int, str):
        return tagged
    if type(tagged) is not list or not tagged or type(tagged[0]) is not str or tagged[0] not in _DECODERS:
        raise WireError("an unknown form of value")
    try:
        return _DECODERS[tagged[0]](*tagged[1:])
    except WireError:
        raise
    # Whatever a forged form sets off in int(), fromhex() or Decimal() means the same: it is not of our making.
    except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise WireError(f"a malformed value ({type(error).__name__})") from None


def _members(items: object) -> list[Any]:
    if type(items) is not list:
        raise WireError("members that are not a list")
    return [_decoded(item) for item in items]


def _hashable(values: list[Any]) -> list[Any]:
    """The same list, unless its hashes were made to collide."""
    if len(values) > MAX_COLLISIONS and max(Counter(map(hash, values)).values()) > MAX_COLLISIONS:
        raise WireError("members of a set or dict whose hashes collide")
    return values


def _fraction(over: object, under: object) -> Fraction:
    """Its parts are brought to lowest terms, which takes long for long ones."""
    parts = _whole(over), _whole(under)
    if max(part.bit_length() for part in parts) > MAX_FRACTION_BITS:
        raise WireError("a Fraction of too many digits")
    return Fraction(*parts)


def _mapping(items: list[list[object]]) -> dict[Any, Any]:
    pairs = [(_decoded(key), _decoded(item)) for key, item in items]
    _hashable([key for key, _ in pairs])
    return dict(pairs)


def _whole(tagged: object) -> int:
    value = _decoded(tagged)
    if type(value) is not int:
        raise WireError("not an integer")
    return value


_DECODERS: dict[str, Callable[..., Any]] = {
    "i": lambda text: int(text, 16),
    "f": float.fromhex,
    "c": lambda real, imaginary: complex(float.fromhex(real), float.fromhex(imaginary)),
    "b": bytes.fromhex,
    "B": bytearray.fromhex,
    "l": _members,
    "t": lambda items: tuple(_members(items)),
    "s": lambda items: set(_hashable(_members(items))),
    "S": lambda items: frozenset(_hashable(_members(items))),
    "q": lambda items: deque(_members(items)),
    "d": _mapping,
    "r": lambda start, stop, step: range(_whole(start), _whole(stop), _whole(step)),
    "D": lambda text: Decimal(str.__str__(text)),
    "F": _fraction,
}


def frame(message: dict[str, object]) -> bytes:
    """A message ready to send: four bytes of length, then JSON.

    Raises:
        WireError: It is larger than a frame may be.
    """
    payload = json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    if len(payload) > MAX_FRAME:
        raise WireError(f"a message of {len(payload)} bytes; the limit is {MAX_FRAME}")
    return len(payload).to_bytes(4, "big") + payload


def _no_number(text: str) -> NoReturn:
    raise WireError(f"the number {text[:20]!r} in place of a tagged one")


def message(payload: bytes) -> dict[str, Any]:
    """The message of one frame.

    Raises:
        WireError: It is not a JSON object.
    """
    try:
        found = json.loads(payload, parse_float=_no_number, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise WireError("not a message") from None
    if type(found) is not dict:
        raise WireError("not a message")
    return found
