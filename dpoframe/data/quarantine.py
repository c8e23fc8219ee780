"""The file of refused rows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from dpoframe.config.secrets import scrubbed
from dpoframe.data.files import written
from dpoframe.types import RefusedRow


def write_quarantine(rows: Iterable[RefusedRow], path: Path) -> None:
    """Writes refused rows as JSON Lines: source, row, code, reason."""
    with written(path) as temporary, temporary.open("w", encoding="ascii") as file:
        file.writelines(quarantine_line(row) for row in rows)


def quarantine_line(row: RefusedRow) -> str:
    """One line of a quarantine file; ASCII, so that what is not UTF-8 can be told as well. Secrets are masked."""
    return json.dumps({"source": scrubbed(row.source), "row": row.row, "code": row.code, "reason": scrubbed(row.reason)}) + "\n"
