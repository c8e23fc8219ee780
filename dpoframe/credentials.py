"""Which names say that what they hold is a password or a token."""

from __future__ import annotations

import re

NAMES = (
    r"password|passwd|passphrase|secret|secrets|credential|credentials"
    r"|(?:api|access|private|secret|account|subscription|auth)[_-]?key"
    r"|(?:api|auth|access|bearer|hub|hf|wandb|github|refresh|session|security|sas)[_-]?token"
)
"""A pattern of such names, without what may stand before them (`wandb_api_key`)."""

_WHOLE = re.compile(rf"(.*[_-])?({NAMES})|token|use_auth_token|authorization|cookie", re.IGNORECASE)


def is_credential(name: str) -> bool:
    """Whether a field or key of that name holds a password or a token."""
    return _WHOLE.fullmatch(name) is not None
