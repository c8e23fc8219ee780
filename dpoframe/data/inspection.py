"""One pass over rows: which are used, which are refused and why, and what is doubtful about the set."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dpoframe.config.secrets import scrubbed
from dpoframe.data.checks import RowChecks
from dpoframe.data.digest_set import DigestSet
from dpoframe.data.findings import Finding, SetStatistics
from dpoframe.data.rows import RowError
from dpoframe.errors import DataError
from dpoframe.modality import Modality
from dpoframe.types import PreferencePair, RefusedRow

EXAMPLES = 5
"""Refused rows of each code that are kept to be shown."""


@dataclass
class Inspection:
    """What one pass found. Every row is either used or refused: `rows == used + refused` at any time.

    Attributes:
        name: What the rows come from, for messages.
        rows: Rows seen.
        used: Rows that passed.
        by_code: Refused rows of each code.
        examples: The first refused rows of each code.
        modality, held_out, allow: as in `RowChecks`.
    """

    name: str
    modality: Modality | None = None
    held_out: Collection[bytes] = ()
    allow: Collection[str] = ()
    rows: int = 0
    used: int = 0
    by_code: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[RefusedRow]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._checks = RowChecks(self.modality, self.held_out, self.allow)
        self._statistics = SetStatistics()
        self._digest = hashlib.blake2b(digest_size=16)

    @property
    def prompts(self) -> DigestSet:
        """Digests of the prompts that passed."""
        return self._statistics.prompts

    @property
    def digest(self) -> str:
        """Digest of the used pairs so far, in their order: contents, ids and weights."""
        return self._digest.hexdigest()

    @property
    def refused(self) -> int:
        """Rows refused."""
        return self.by_code.total()

    def take(
        self, items: Iterable[PreferencePair | RefusedRow], rows: int | None = None, pairs: int | None = None
    ) -> Iterator[PreferencePair | RefusedRow]:
        """Gives each row back, a pair that fails a check as a `RefusedRow`; ends after `rows` rows or `pairs` used ones."""
        for item in itertools.islice(items, rows):
            self.rows += 1
            result = item if isinstance(item, RefusedRow) else self._checked(item)
            if isinstance(result, RefusedRow):
                self._count(result)
            else:
                self.used += 1
            yield result
            # Here, not in the loop's head: the row that follows the last pair is never asked for.
            if self.used == pairs:
                return

    def _checked(self, pair: PreferencePair) -> PreferencePair | RefusedRow:
        try:
            checked = self._checks.check(pair)
        except RowError as fault:
            origin, row = pair.meta.get("origin", self.name), pair.meta.get("row", self.rows)
            return RefusedRow(str(origin), row if isinstance(row, int) else self.rows, fault.code, fault.reason)
        self._statistics.add(checked, self._checks.seen)
        self._digest.update(checked.digest + f"{pair.id}\x1f{pair.weight!r}\x1e".encode("utf-8", "surrogatepass"))
        return pair

    def _count(self, refused: RefusedRow) -> None:
        self.by_code[refused.code] += 1
        kept = self.examples.setdefault(refused.code, [])
        if len(kept) < EXAMPLES:
            kept.append(refused)

    def findings(self) -> list[Finding]:
        """What is doubtful about the rows used so far."""
        return self._statistics.findings()

    def require_some(self) -> None:
        """Raises DataError where there was no row, or none that can be used."""
        if not self.rows:
            raise DataError(f"{self.name} holds no rows. Check the path, the split and the file's size.")
        if not self.used:
            raise DataError(
                f"All {self.rows:,} rows of {self.name} were refused:\n{self.refusals()}\n"
                "Correct the rows, name the right `layout`, or map the columns with `columns`; "
                "`dpoframe data check` shows more."
            )

    def refusals(self) -> str:
        """The refused rows by code with the first of each, one line a code."""
        first = {code: rows[0] for code, rows in self.examples.items()}
        return "\n".join(
            f"  {code}: {count:,} (first: {first[code].source}:{first[code].row}: {first[code].reason})"
            for code, count in self.by_code.most_common()
        )

    def summary(self) -> dict[str, Any]:
        """Counts, first refused rows and findings as plain values, without secrets."""
        shown = {
            code: [{"source": scrubbed(row.source), "row": row.row, "reason": scrubbed(row.reason)} for row in rows]
            for code, rows in self.examples.items()
        }
        return {
            "source": scrubbed(self.name),
            "rows": self.rows,
            "used": self.used,
            "digest": self.digest,
            "quarantined": self.refused,
            "by_code": dict(self.by_code.most_common()),
            "first_rows": shown,
            "lengths": {"unit": self._statistics.unit, **self._statistics.length()},
            "prompts": len(self.prompts),
            "findings": [plain(finding) for finding in self.findings()],
        }


def plain(finding: Finding) -> dict[str, Any]:
    """A finding as plain values, without secrets."""
    return {"code": finding.code, "kind": finding.kind, "message": scrubbed(finding.message), "figures": dict(finding.figures)}
