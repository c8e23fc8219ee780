"""Keeps passwords and tokens out of what a run writes and says.

Three functions: `masked` for values that have keys (a recipe, a model's fields), `scrubbed` for running text (an error, a
traceback), `printed` for parts as they print themselves. All know the values of environment variables whose names say
secret, and what `masked` has masked before.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dpoframe.credentials import NAMES, is_credential

MASK = "***"
_VALUE = re.compile(
    r"hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}"
    r"|xox[abprs]-[\w-]{10,}|pypi-[\w-]{40,}|A(?:KIA|SIA)[A-Z0-9]{16}|AIza[\w-]{35}"
    r"|(?<![\w-])eyJ[\w-]{10,4000}\.[\w-]{10,4000}\.[\w-]+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?-----END [A-Z ]*PRIVATE KEY-----|.*)"
)
# Runs are bounded: what is searched may be megabytes that a stranger chose.
_URL = re.compile(r"(?P<head>[a-z][a-z0-9+.-]{0,20}://)[^/@\s]+@", re.IGNORECASE)
_QUERY = re.compile(rf"(?P<head>[?&](?:[\w-]{{0,40}}[_-])?(?:{NAMES}|token|key|sig|signature)=)[^&\s#\"']+", re.IGNORECASE)
# `api_key='...'`, `"password": "..."` and `--set x.api_key=...`, as they stand in messages; `...` is how messages say "yours".
_ASSIGNED = re.compile(
    rf"(?P<head>(?<![A-Za-z0-9])(?:[\w-]{{0,40}}[_-])?(?:{NAMES}|use_auth_token|authorization)[\"']?\s*[=:]\s*)"
    r"(?P<quote>[\"'])(?!\.\.\.|\*\*\*)(?:(?!(?P=quote)).)+(?P=quote)"
    rf"|(?P<bare>(?<![A-Za-z0-9])(?:[\w-]{{0,40}}[_-])?(?:{NAMES})=)(?!\.\.\.|\*\*\*|[\"'$])[^\s\"',;&)\]}}]+",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(?P<head>\b(?:Bearer|Basic)\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
_WORDS = frozenset(
    ("KEY", "APIKEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASS", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS", "AUTH", "PAT")
)
_SHORTEST = 8
"""Characters of the shortest value that is looked for in texts: a shorter one would be found in ordinary words."""

_seen: set[str] = set()


def is_secret(key: object, value: object) -> bool:
    """Whether a key's name, or a value's form, says password or token. A number may be one, true and false are none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        return False
    return is_credential(str(key)) or _VALUE.search(str(value)) is not None


def masked(value: Any, key: object = "") -> Any:
    """`value` with every secret in it replaced by `***`, and names and passwords taken out of addresses.

    What its key gives away is remembered, and masked wherever else it turns up in this process. Everything below such a key is
    a secret.
    """
    if isinstance(value, Mapping):
        return {name: masked(item, key if is_credential(str(key)) else name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item, key) for item in value]
    if is_secret(key, value):
        if value != MASK and len(str(value)) >= _SHORTEST:
            _seen.add(str(value))
        return MASK
    return _without_known(_without_addresses(value)) if isinstance(value, str) else value


def scrubbed(text: str) -> str:
    """Running text without secrets: known values, whatever has a token's form, passwords in addresses and assignments."""
    plain = _without_addresses(_VALUE.sub(MASK, _without_known(text)))
    plain = _ASSIGNED.sub(lambda found: f"{found['head'] or found['bare']}{MASK}", plain)
    return _BEARER.sub(rf"\g<head>{MASK}", plain)


def printed(part: Any) -> str:
    """`repr` of a dataclass without the secrets among its fields, also those in mappings that they hold."""
    masked({one.name: getattr(part, one.name) for one in fields(part)})  # so that they are known
    return scrubbed(repr(part)).replace(f"'{MASK}'", MASK)  # the same of a part that was made from what was written of it


def _without_addresses(text: str) -> str:
    return _QUERY.sub(rf"\g<head>{MASK}", _URL.sub(rf"\g<head>{MASK}@", text)) if "://" in text else text


def _without_known(text: str) -> str:
    names = _secret_names(tuple(os.environ))
    values = frozenset(value for name in names if len(value := os.environ.get(name, "")) >= _SHORTEST)
    known = _pattern(values | _seen)
    return known.sub(MASK, text) if known is not None else text


@functools.lru_cache(maxsize=8)
def _secret_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """The environment variables whose names say secret: one of their words is `KEY`, `TOKEN`, `PASSWORD`, ..."""
    return tuple(name for name in names if _WORDS & set(re.split(r"[^A-Z]+", name.upper())))


@functools.lru_cache(maxsize=8)
def _pattern(values: frozenset[str]) -> re.Pattern[str] | None:
    """Finds any of the values, as it is or as addresses write it, the longest first; places of files are no secrets."""
    wanted = {value for value in values if not (value.startswith("/") and Path(value).exists())}
    forms = wanted | {quote(value, safe="") for value in wanted}
    return re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True)))) if forms else None
