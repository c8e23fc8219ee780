"""The compact set of digests agrees with Python's."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from dpoframe.data.digest_set import DigestSet


def digest(number: int) -> bytes:
    """A digest as the checks make them."""
    return hashlib.blake2b(str(number).encode(), digest_size=16).digest()


def test_it_agrees_with_a_set_of_python() -> None:
    """20,000 digests, a third of them twice: the same members, the same size, through several growths."""
    compact, plain = DigestSet(), set[bytes]()
    for number in [*range(15_000), *range(0, 15_000, 3)]:
        assert (digest(number) in compact) == (digest(number) in plain)
        compact.add(digest(number))
        plain.add(digest(number))
    assert len(compact) == len(plain) == 15_000
    assert not any(digest(number) in compact for number in range(15_000, 20_000))
    assert set(compact) == {one[:8] for one in plain}


@given(st.lists(st.binary(min_size=8, max_size=16)))
def test_any_bytes(digests: list[bytes]) -> None:
    """Whatever the bytes, zeros among them, and however they collide in the table."""
    compact = DigestSet(digests)
    assert all(one in compact for one in digests)
    assert len(compact) <= len(digests)


def test_what_is_no_digest_is_not_in_it() -> None:
    """As a set would say."""
    assert 3 not in DigestSet([digest(3)])
